"""How the flow corrects the fluctuation of F: linear response at first order in 1/√M, on infinitely many examples.

Write F = s x∥ + f, f of order 1/√M, and κ(x) = −φ′ at the mean-field margins (averaged over flipped labels). To first
order forces change by −α κ f y, and the drive of a node by −(1/√d) ⟨κ f σ′(z) x⟩. As the drive itself is the same for
all nodes wherever they are (c J ŵ*/(α√d)), this is all that acts on f beside the hyperbolas, and f obeys a linear
equation. κ is even in x, so that the odd and the even part of f do not mix.

**Odd part**, f = (c/√d) x·⟨a w − a₀ w₀⟩: closed, and exact at this order. Across ŵ* each component of P = ⟨a w⊥⟩ and
Q = ⟨w∥ w⊥⟩ obeys

    Ṗ = γ̇ Q − r (⟨a²⟩ + B²)(P − P₀)    Q̇ = γ̇ P − r ⟨a w∥⟩ (P − P₀)    r = (c²/d) ⟨κ |x⊥|²⟩/(d − 1)

and along it E = ⟨a w∥⟩ and S = ⟨a² + w∥²⟩ deviate by δE and δS,

    δĖ = γ̇ δS − r∥ ⟨S⟩ (δE − δE₀)      δṠ = 4 γ̇ δE − 4 r∥ ⟨E⟩ (δE − δE₀)      r∥ = (c²/d) ⟨κ x∥²⟩.

**Even part**, f = ⟨a e(z) − a₀ e(z₀)⟩: expanded in Hermite polynomials of the nodes. To first degree it is
ψ₀ ⟨a⟩ + ψ₁ ⟨w∥⟩ + ψ₂·⟨w⊥⟩, with ψ the mean gradient, (E e, x∥ E[a e′]/√d, x⊥ E[a e′]/√d); beside that it has the
traceless part of ⟨a w⊥w⊥ᵀ⟩ and ⟨w∥ w⊥w⊥ᵀ⟩, with (E e″, x∥ E[a e‴]/√d) x⊥x⊥ᵀ/2d. These moments move on the hyperbolas,
and are pushed back by their own features: the kernel is kept between them alone (Galerkin's approximation; exact for
γ → 0 and large d, where E e is the constant part k₀ of the kernel and E e″ the quadratic one). What is left of the
variance, some per cent of it, is taken as uncorrected.

The fluctuation decays when ∫ kernel · κ dt exceeds 1: for the hinge, whose κ is δ(m − h), as soon as examples reach the
margin; for a smooth loss from the start.

Measured, mean test error of networks of M = 150 on fresh examples, α = 0.37, h = 1.3 (16 to 48 draws a row, 3000 to
20 000 examples a step; the last two rows α = 100, 12 draws), against `FiniteWidth` with the response, and on paths:

=============  ======  ==  =====  =====  ==============  ========  ========
loss           inputs  d   t      n_u    networks        response  on paths
=============  ======  ==  =====  =====  ==============  ========  ========
logistic       normal  57  20     1.00   .0673 ± .0026   .0672     .0771
logistic       normal  57  29     .98    .0375 ± .0011   .0399     .0520
logistic       normal  57  45     .59    .0196 ± .0005   .0174     .0322
logistic       normal  57  150    .16    .0065 ± .0002   .0064     .0167
squared hinge  normal  57  12     .98    .0315 ± .0007   .0346     .0520
squared hinge  normal  57  20     .71    .0185 ± .0004   .0162     .0363
hinge          normal  57  20     .59    .0224 ± .0009   .0206     .0325
hinge          normal  57  50     .26    .0085 ± .0002   .0085     .0210
hinge          sphere  33  80.84  .98    .0188 ± .0007   .0194     .0197
hinge          sphere  33  86.68  .90    .0155 ± .0005   .0156     .0170
hinge          sphere  33  120.9  .50    .0068 ± .0002   .0063     .0112
hinge          normal  30  970    .30    .0350 ± .0009   .0386     .0970
squared hinge  normal  30  9045   .20    .0169 ± .0005   .0232     .0962
=============  ======  ==  =====  =====  ==============  ========  ========

The last row has 6 % of the variance left: what is then left of the theory's are parts that the response does not reach,
and networks learn with the kernel of their own nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Float
from scipy.linalg import expm

from mfnet.theory.arrays import Array, Values
from mfnet.theory.losses import HINGE
from mfnet.theory.mean_field import MeanField
from mfnet.theory.node_kernel import even_moments
from mfnet.theory.node_moments import NodeMoments
from mfnet.theory.remembered import remembered

#: Longest step, relative to t, and the first one in units of the time scale.
_STEP, _FIRST = 0.05, 0.01

#: Half of the interval around the margin from which the density of margins there is taken, relative; also where the
#: force of another loss jumps.
_WINDOW = 0.03

#: Points of steps that are computed at once, which are some vectors of that length.
_AT_ONCE = 2**16

#: Latest time, in units of the time scale: t = ∞ is taken for this.
_LATEST = 1e12


@dataclass(frozen=True)
class Features:
    """What one input sees of the nodes' moments: the ψ of the module's docstring, without x⊥.

    Attributes:
        mean: Of ⟨a⟩ and ⟨w∥⟩.
        across: Of ⟨w⊥⟩, times x⊥.
        quadratic: Of the traceless ⟨a w⊥w⊥ᵀ⟩ and ⟨w∥ w⊥w⊥ᵀ⟩, times x⊥x⊥ᵀ/2d.
    """

    mean: Float[Array, "2 ..."]
    across: Float[Array, "*n"]
    quadratic: Float[Array, "2 ..."]

    @staticmethod
    def of(model: MeanField, x_par: Values, moments: NodeMoments) -> Features:
        """At inputs with these x∥, from what they see of the nodes."""
        s = np.sqrt(moments.zz)
        activation, flat = model.nonlinearity, s.ravel()
        here = even_moments(activation, flat)
        step = 1e-3
        ends = [even_moments(activation, flat * (1.0 + sign * step)).curvature for sign in (1.0, -1.0)]
        fourth = (ends[0] - ends[1]) / (2.0 * step * flat**2)  # E e⁗ = 2 dE e″/d(s²)
        mean, curvature, fourth = (part.reshape(s.shape) for part in (here.mean, here.curvature, fourth))
        unit = moments.az / math.sqrt(model.d)
        across = unit * curvature
        return Features(np.stack([mean, x_par * across]), across, np.stack([curvature, x_par * unit * fourth]))

    @staticmethod
    def at(
        model: MeanField, x_par: Float[Array, "n q"], cosh: Float[Array, "n 1"], sinh: Float[Array, "n 1"]
    ) -> Features:
        """At inputs with these x∥ when nodes are at (C, S)."""
        ones = np.ones_like(x_par)
        moments = NodeMoments.of(model, x_par, model.law.perp_sq(np.abs(x_par)), cosh * ones, sinh * ones)
        return Features.of(model, x_par, moments)


@dataclass(frozen=True)
class Response:
    """What is left at times t of a fluctuation that would have been that of nodes on their hyperbolas.

    Attributes:
        along: Share of the variance of the odd part along x∥.
        across: The same across.
        mean: Map of (⟨a⟩, ⟨w∥⟩) on their hyperbolas to what they are.
        mean_across: The same of ⟨w⊥⟩, a factor.
        quadratic: The same of the quadratic moments.
    """

    along: Float[Array, " T"]
    across: Float[Array, " T"]
    mean: Float[Array, "T 2 2"]
    mean_across: Float[Array, " T"]
    quadratic: Float[Array, "T 2 2"]


@remembered
def response(model: MeanField, t: Float[Array, " T"]) -> Response:
    """The response at times ``t``, by exponentials of steps with the coefficients at their middle; O(0.001) accurate.

    Of discrete steps (``dt`` of ``model``) it takes the flow.
    """
    flow = replace(model, dt=None)
    latest = _LATEST * flow.time_scale
    times = np.minimum(t, latest)
    ends = np.union1d(times[times > 0.0], _grid(flow, float(times.max(initial=0.0))))
    ends = np.concatenate([[0.0], ends])
    start = _Moments(np.eye(2), np.eye(2), np.eye(2), 1.0, np.eye(2))
    states = [start]
    steps = _steps(flow, ends)
    for k in range(len(ends) - 1):
        states.append(steps.of(k, states[-1]))
    gamma = flow.solve(ends).gamma
    chosen = np.searchsorted(ends, times)
    return Response(
        np.array([_share(states[k].along, _turn(2.0 * gamma[k], 2.0), _along_variances(flow)) for k in chosen]),
        np.array([_share(states[k].across, _turn(gamma[k]), _across_variances(flow)) for k in chosen]),
        np.array([states[k].mean @ _turn(-gamma[k]) for k in chosen]).reshape(-1, 2, 2),
        np.array([states[k].mean_across for k in chosen]),
        np.array([states[k].quadratic @ _turn(-gamma[k]) for k in chosen]).reshape(-1, 2, 2),
    )


def _grid(model: MeanField, last: float) -> Float[Array, " n"]:
    first = _FIRST * model.time_scale
    if last <= first:
        return np.empty(0)
    return np.geomspace(first, last, math.ceil(math.log(last / first) / _STEP) + 1)


def _turn(angle: float, stretch: float = 1.0) -> Float[Array, "2 2"]:
    """What the hyperbola does to a pair of moments: exp(angle [[0, 1/stretch], [stretch, 0]])."""
    cosh, sinh = math.cosh(angle), math.sinh(angle)
    return np.array([[cosh, sinh / stretch], [sinh * stretch, cosh]])


def _along_variances(model: MeanField) -> tuple[float, float]:
    """M times the initial variances of ⟨a w∥⟩ and ⟨a² + w∥²⟩."""
    return (model.a_std * model.w_std) ** 2, 2.0 * (model.a_std**4 + model.w_std**4)


def _across_variances(model: MeanField) -> tuple[float, float]:
    """M times those of a component of ⟨a w⊥⟩ and ⟨w∥ w⊥⟩."""
    return (model.a_std * model.w_std) ** 2, model.w_std**4


def _share(now: Float[Array, "2 2"], free: Float[Array, "2 2"], variances: tuple[float, float]) -> float:
    """Variance of what the first moment has gained, relative to that on the hyperbola; 1 at t = 0."""
    gained, freely = (float(((m[0] - np.array([1.0, 0.0])) ** 2) @ np.array(variances)) for m in (now, free))
    return gained / freely if freely > 0.0 else 1.0


@dataclass(frozen=True)
class _Moments:
    """Maps of initial deviations of the moments to present ones."""

    along: Float[Array, "2 2"]
    across: Float[Array, "2 2"]
    mean: Float[Array, "2 2"]
    mean_across: float
    quadratic: Float[Array, "2 2"]


@dataclass(frozen=True)
class _Steps:
    """Their changes over n steps: each pair X goes to A X + B, with [A, B] for each step."""

    along: Float[Array, "n 2 4"]
    across: Float[Array, "n 2 4"]
    mean: Float[Array, "n 2 4"]
    mean_across: Float[Array, " n"]
    quadratic: Float[Array, "n 2 4"]

    def of(self, k: int, state: _Moments) -> _Moments:
        """The moments after the ``k``-th step."""

        def next_of(steps: Float[Array, "n 2 4"], now: Float[Array, "2 2"]) -> Float[Array, "2 2"]:
            return steps[k, :, :2] @ now + steps[k, :, 2:]

        return _Moments(
            next_of(self.along, state.along),
            next_of(self.across, state.across),
            next_of(self.mean, state.mean),
            float(self.mean_across[k]) * state.mean_across,
            next_of(self.quadratic, state.quadratic),
        )


def _softness(model: MeanField, slope: float) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
    """|x∥| and weights, so that ⟨κ g⟩ is their scalar product with any g(|x∥|).

    κ of the hinge is δ(m − h), and picks the density of margins there.
    """
    law, loss, h = model.law, model.margin_loss, model.h
    z_c, scale = float(model.threshold(np.asarray(slope))), model.alpha * slope
    if loss == HINGE:
        inside = law.cdf(np.array([1.0 - _WINDOW, 1.0 + _WINDOW]) * z_c)
        return np.array([z_c]), np.array([float(inside[1] - inside[0]) / (2.0 * _WINDOW * h)])
    zeta, weight = law.quadrature(z_c)

    def softness(m: Array) -> Array:
        if loss.curvature is not None:
            return loss.curvature(m, h)
        return (loss.force(m - _WINDOW * h, h) - loss.force(m + _WINDOW * h, h)) / (2.0 * _WINDOW * h)

    kappa = (1.0 - law.flip) * softness(scale * zeta)
    if law.flip > 0.0:
        kappa = kappa + law.flip * softness(-scale * zeta)
    return np.abs(zeta), weight * kappa


def _steps(model: MeanField, ends: Float[Array, " m"]) -> _Steps:
    """The steps between ``ends``, under which γ grows and κ acts, with nodes at (C, S) in the middle of each."""
    middle = model.solve((ends[1:] + ends[:-1]) / 2.0)
    angle, dt = np.diff(model.solve(ends).gamma), np.diff(ends)
    points = len(_softness(model, float(middle.slope[0]))[0]) if len(dt) > 0 else 1
    block = max(1, _AT_ONCE // points)  # some laws have tens of thousands of points
    parts = []
    for first in range(0, max(len(dt), 1), block):
        some = slice(first, first + block)
        x_par, softness = _alike([_softness(model, float(slope)) for slope in middle.slope[some]])
        parts.append(_some_steps(model, middle.cosh[some], middle.sinh[some], x_par, softness, angle[some], dt[some]))
    return _Steps(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(_Steps)))


def _some_steps(
    model: MeanField,
    cosh: Float[Array, " n"],
    sinh: Float[Array, " n"],
    x_par: Float[Array, "n q"],
    softness: Float[Array, "n q"],
    angle: Float[Array, " n"],
    dt: Float[Array, " n"],
) -> _Steps:
    """Steps of these lengths, under which γ grows by ``angle``."""
    d, c_sq = model.d, model.odd_slope**2 / model.d
    a_var, w_var = model.a_std**2, model.w_std**2
    kappa = softness * dt[:, None]
    perp = model.law.perp_sq(x_par)
    aa, ww = a_var * cosh**2 + w_var * sinh**2, w_var * cosh**2 + a_var * sinh**2
    aw, zero = (a_var + w_var) * cosh * sinh, np.zeros_like(cosh)
    turn = _pairs(zero, angle, angle, zero)
    along, across = (kappa * x_par**2).sum(axis=1), (kappa * perp).sum(axis=1) / (d - 1.0)
    pull_along = _pairs(c_sq * along * (aa + ww), zero, c_sq * along * 4.0 * aw, zero)
    pull_across = _pairs(c_sq * across * (aa + w_var), zero, c_sq * across * aw, zero)
    now = Features.at(model, x_par, cosh[:, None], sinh[:, None])
    then = Features.at(model, x_par, np.ones((len(dt), 1)), np.zeros((len(dt), 1)))
    square = kappa * perp**2 / (d**2 * (d - 1.0) * (d + 1.0))
    metric = w_var**2 * np.eye(2) + 2.0 * w_var * _pairs(aa, aw, aw, ww)
    return _Steps(
        _exponentials(_pairs(zero, angle, 4.0 * angle, zero), pull_along, pull_along),
        _exponentials(turn, pull_across, pull_across),
        _exponentials(turn, _products(now.mean, kappa, now.mean), _products(now.mean, kappa, then.mean)),
        np.exp(-(kappa * perp * now.across**2).sum(axis=1) / (d - 1.0)),
        _exponentials(
            turn,
            metric @ _products(now.quadratic, square, now.quadratic),
            metric @ _products(now.quadratic, square, then.quadratic),
        ),
    )


def _alike(parts: Sequence[tuple[Array, Array]]) -> tuple[Float[Array, "n q"], Float[Array, "n q"]]:
    """Points and weights of each step in one array, those of a step with fewer filled up with weights 0."""
    longest = max((len(points) for points, _ in parts), default=0)
    points = [np.pad(points, (0, longest - len(points)), mode="edge") for points, _ in parts]
    weights = [np.pad(weights, (0, longest - len(weights))) for _, weights in parts]
    return np.array(points).reshape(-1, longest), np.array(weights).reshape(-1, longest)


def _pairs(*entries: Float[Array, " n"]) -> Float[Array, "n 2 2"]:
    """Matrices of these entries, row by row."""
    return np.stack(entries, axis=-1).reshape(-1, 2, 2)


def _products(
    features: Float[Array, "2 n q"], weights: Float[Array, "n q"], others: Float[Array, "2 n q"]
) -> Float[Array, "n 2 2"]:
    """Scalar products of features with others, for each step."""
    return np.einsum("inq,nq,jnq->nij", features, weights, others)


def _exponentials(
    turn: Float[Array, "n 2 2"], pull: Float[Array, "n 2 2"], start: Float[Array, "n 2 2"]
) -> Float[Array, "n 2 4"]:
    """The solutions of Ẋ = (turn − pull) X + start after unit time, as [A, B] in A X + B."""
    matrices = np.zeros((len(turn), 4, 4))
    matrices[:, :2, :2], matrices[:, :2, 2:] = turn - pull, start
    return expm(matrices)[:, :2]
