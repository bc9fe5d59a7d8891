"""First-order corrections for a finite number of examples N (Sec. 3.3), and the onset of overfitting.

N random examples are not their law. Write P_N = P + ν/√N for the training set, with ν white noise of covariance P, and
F = s x∥ + f/√N. At first order in 1/√N two things act on f: the noise of the drive, and the forces that f itself
changes at the margin. With g = αf

    g(x, t) = ∫₀ᵗ dt′ ∫ 𝒦(x, t; x′, t′) [ φ(x′, t′) y′ dν(x′) − δ(αs(t′)|x′∥| − h) g(x′, t′) dP(x′) ].

The second term is the response: **the flow corrects the noise that it has made**. 𝒦 is the tangent kernel between two
times. What an example does to a node at t′ is carried to t by the node's hyperbola:

    𝒦 = E[ σ(z) δa + a σ′(z) (x∥ δw∥ + x⊥·δw⊥)/√d ]
    δa = C σ(z′) + S a′σ′(z′) x′∥/√d,   δw∥ = S σ(z′) + C a′σ′(z′) x′∥/√d,   δw⊥ = a′σ′(z′) x′⊥/√d

with C and S the hyperbolic cosine and sine of γ(t) − γ(t′). This is all, since the mean-field drive is the same for
all nodes (c J ŵ*): one that has been moved aside is driven as before. The nodes are normal, and for σ(z) = cz + β|z|
(ReLU, leaky ReLU, linear) 𝒦 has a closed form at all times. There is no free constant.

**Solution.** The test error is decided at x∥ = 0, by the even part of g in x∥. F is homogeneous in x, so that g(x)/|x|
depends on û = x∥/|x| and on the direction ω of x⊥ alone. Spherical harmonics of ω separate, and their degrees l are
independent: for each there is a Volterra equation in t, on the values of û that lie at the margin. Degree 0 is the
class imbalance, 1 the linear noise ⟨φ y x⊥⟩, 2 and above what single examples leave in the curvature of F. The test
error is √N ε_g = p(0) E|g(0, x⊥)|/(αs), p the density of x∥.

**Onset of overfitting.** At this order ε_g = E(t)/√N. *The time of the minimum does not depend on N*, nor does n_u
there, and ε_g at the minimum falls as N^(−1/2). The argument of Sec. 3.3 finds n_u ∝ (d/N)^(1/3), where a signal
J ~ n_u² meets the noise √(n_u d/N). But noise in F makes forces that oppose it. A linear mode is pushed back at a rate
that does not fall with n_u, and settles at √(n_u d/N) of the signal, which *falls* as training goes on. What rises are
the modes of higher degree, which are too weak to be corrected yet: the onset is where degree 2 overtakes degree 1. In
the lazy limit, where the kernel of degree l is of order d^(−l), degree 1 has ε² ~ d/(N αs) and degree 2, with its d²
modes, ε² ~ (αs)³/N. They meet at αs ~ d^(1/4):

    t_onset ∝ d^(3/4) time scales,   n_u ∝ d^(−1/4)      (α → ∞, d → ∞, any N ≫ d^(5/4)).

After it the error rises until degree 2 is corrected too (αs ~ √d), and falls again: a second descent.

The first minimum, `FiniteSamples.onset` (t in time scales, n_u, ε_g √(N/d)):

====  ====================  ====================  ====================
d     α = 10⁵               α = 1                 α = 10⁻³
====  ====================  ====================  ====================
10    9.97   .306   .284    3.20   .308   .294    2.63   .199   .195
20    11.1   .295   .269    3.60   .272   .268    2.99   .177   .190
40    15.2   .264   .249    4.08   .239   .244    3.44   .158   .181
80    22.7   .231   .229    4.77   .208   .222    3.98   .141   .172
160   35.4   .198   .210    5.73   .179   .203    4.65   .125   .162
320   56.4   .169   .193    7.04   .153   .185    5.47   .112   .153
1000  127    .129   .167    10.3   .116   .160    7.32   .092   .139
4000  337    .093   .141    17.0   .083   .134    11.2   .070   .122
====  ====================  ====================  ====================

**Measured** (`mfnet validate onset-rich onset-lazy finite-samples`): networks of M → ∞ nodes at N/d from 400 to 6400,
d = 20: the exponent of n_u against d/N is −.04 ± .04 (α = 1) and .03 ± .05 (α = 10³), that of t against N/d −.04 ± .06
and .09 ± .14, that of ε_g against d/N .476 ± .016 and .493 ± .015; E(t) at N/d = 6400 agrees within two standard errors
of 3 to 5 % at all times from 1 to 60 time scales.

**Limits.** Terms of the next order are of relative size ε_g/n_u. Once the error rises that of networks is lower, by
about 1.2 times that (d = 20, α = 1, N/d from 100 to 6400) to three times (d = 10, N/d = 1600); at α = 10⁻³ it rises
sooner: .236 ± .010 for .200 at 4 time scales (d = 20, N/d = 1600), and .292 ± .009 for .290 at 8. Near full fit the
theory does not hold. Hinge; normal inputs; activations that are homogeneous of degree 1. Discretisation errs by 0.1 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special, stats
from scipy.interpolate import CubicSpline
from scipy.linalg import eigh_tridiagonal

from mfnet.theory.arrays import Array, Numbers, Values
from mfnet.theory.finite_width import FiniteWidth
from mfnet.theory.losses import HINGE
from mfnet.theory.mean_field import MeanField
from mfnet.theory.mean_field_solution import MeanFieldSolution
from mfnet.theory.onset import Onset, first_minimum
from mfnet.theory.overlay import Curve, Nodes, Theory

#: Degrees of the spherical harmonics: the kernel of |z| has no odd ones above 1, and higher ones are below 10⁻³ of E.
DEGREES = (0, 1, 2, 4, 6)

#: Steps of t a decade, the first time in units of the time scale, and the last for which the onset is looked for.
PER_DECADE, FIRST, LATEST = 16, 0.05, 1e5

#: Largest growth of γ in a step up to where the average example is satisfied.
GROWTH = 0.25

#: Points in |x⊥| at the margin, in the angle between two x⊥, and the spacing of ln û.
RADII, ANGLES, SPACING = 4, 32, 0.15

#: Smallest |x∥| that has a cell of its own, at |x| = √d.
SMALLEST = 1e-3


@dataclass(frozen=True)
class FiniteSamples(Theory):
    """Predictions for N examples: those of ``mean_field``, with the test error at first order in 1/√N and 1/√M.

    Raises ValueError for a loss other than the hinge, inputs other than normal ones, an activation that is not
    homogeneous of degree 1, d < 3 and N < 1.

    Args:
        mean_field: The mean-field solution; of discrete steps its flow is taken.
        N: Training examples.
        M: Nodes; what they add is the spread of `FiniteWidth`.
        init: How their initial values are drawn, 'independent' or 'balanced'.
    """

    mean_field: MeanField
    N: float
    M: float = math.inf
    init: str = "independent"

    def __post_init__(self) -> None:
        refusal = self.refusal(self.mean_field)
        if refusal is not None:
            raise ValueError(f"FiniteSamples: {refusal}")
        if not self.N >= 1.0:
            raise ValueError(f"FiniteSamples: N={self.N!r} must be at least 1")
        FiniteWidth(self.mean_field, self.M, self.init)

    @staticmethod
    def refusal(model: MeanField) -> str | None:
        """Why this theory cannot be solved on a mean-field solution; None if it can."""
        for name, valid, value, allowed in (
            ("loss", model.margin_loss == HINGE, model.margin_loss.name, "the hinge"),
            ("inputs", model.inputs == "normal", model.inputs, "'normal'"),
            ("activation", model.nonlinearity.kink is not None, model.nonlinearity.name, "homogeneous of degree 1"),
            ("d", model.d >= 3, model.d, "at least 3"),
        ):
            if not valid:
                return f"{name}={value!r} must be {allowed}"
        return None

    @property
    def trusted_as(self) -> str:
        return "finite_samples"

    @cached_property
    def _flow(self) -> MeanField:
        return replace(self.mean_field, dt=None)

    def noise(self, t: Numbers) -> Values:
        """√N times the standard deviation over training sets of F at x∥ = 0, averaged over x⊥; at M = ∞.

        Args:
            t: Times, not negative.
        """
        times = np.atleast_1d(np.asarray(t, dtype=float))
        flow, d = self._flow, self._flow.d
        grid = _Grid.to(flow, float(times.max(initial=0.0)))
        # relative to the signal the noise is smooth in ln t, and constant for t → 0
        ratio = np.log(_unit_noise(flow, grid) / flow.solve(grid.middle).slope)
        ratio = CubicSpline(np.log(grid.middle), ratio)(np.log(np.maximum(times, grid.middle[0])))
        length = math.sqrt(2.0) * math.exp(special.gammaln(d / 2.0) - special.gammaln((d - 1.0) / 2.0))  # E|x⊥|
        return length * np.exp(ratio) * flow.solve(times).slope

    def scaled_error(self, t: Numbers) -> Values:
        """E(t) = √N ε_g for N → ∞ and M = ∞, on true labels; its limit at t = 0.

        Args:
            t: Times, not negative.
        """
        times = np.maximum(np.atleast_1d(np.asarray(t, dtype=float)), 1e-6 * self._flow.time_scale)
        density = self._flow.law.density_at_zero / 2.0  # of x∥, on both sides of 0
        return density * math.sqrt(2.0 / math.pi) * self.noise(times) / self._flow.solve(times).slope

    def generalisation_error(self, solution: MeanFieldSolution) -> Float[Array, " T"]:
        """ε_g on true labels, with the noise of examples and of nodes, at the times of ``solution``; ½ at t = 0."""
        width = FiniteWidth(self.mean_field, self.M, self.init)
        return width.generalisation_error(solution, (self.noise(solution.t) / math.sqrt(self.N)) ** 2)

    def onset(self) -> Onset:
        """The first minimum of E(t): its time, n_u there, and E/√N; ``inside`` is False if there is none."""
        last = 10.0
        while True:
            t = self._flow.time_scale * np.geomspace(1.0, last, math.ceil(4 * PER_DECADE * math.log10(last)))
            found = first_minimum(t, self.scaled_error(t) / math.sqrt(self.N), self._flow.solve(t).unsatisfied)
            if found.inside or last >= LATEST:
                return found
            last *= 10.0

    def series(self, t: Float[Array, " T"]) -> dict[str, Curve]:
        series = {**self.mean_field.series(t), "test_error": Curve(self.generalisation_error(self.mean_field.solve(t)))}
        del series["train_error"]  # examples have an effect on themselves, of which nothing is known here
        return series

    def nodes(
        self, t: Float[Array, " T"], a0: Float[Array, " n"], w_par0: Float[Array, " n"], w_perp0: Float[Array, " n"]
    ) -> Nodes:
        return self.mean_field.nodes(t, a0, w_par0, w_perp0)

    def satisfaction(self, t: Float[Array, " T"]) -> Curve:
        return self.mean_field.satisfaction(t)


def _quadrature(diagonal: Array, squares: Array) -> tuple[Array, Array]:
    """Gauss' nodes and weights (of sum 1) from the recurrence of the orthogonal polynomials, by Golub and Welsch."""
    nodes, vectors = eigh_tridiagonal(diagonal, np.sqrt(squares))
    return nodes, vectors[0] ** 2


class _Grid(NamedTuple):
    """Steps of t: their edges, their middles, at which all coefficients are taken, and their lengths."""

    edges: Float[Array, " k1"]
    middle: Float[Array, " k"]
    length: Float[Array, " k"]

    @staticmethod
    def to(model: MeanField, last: float) -> _Grid:
        """Even steps in ln t to beyond ``last``; of ``GROWTH`` in γ at most while hardly an example is satisfied."""
        first = FIRST * model.time_scale
        n = math.ceil(PER_DECADE * max(math.log10(max(last, first) / first), 0.0)) + 2
        edges = first * 10.0 ** (np.arange(n) / PER_DECADE)
        growth = model.time_of(np.arange(GROWTH, float(model.gamma_sat(model.law.m1)), GROWTH))
        edges = np.union1d(np.append(edges, 0.0), growth[growth < edges[-1]])
        return _Grid(edges, (edges[1:] + edges[:-1]) / 2.0, np.diff(edges))


class _Margin(NamedTuple):
    """Examples at the margin, |x∥| = z_c: R values of û at K times, and the density of margins times |x|²."""

    u: Float[Array, "K R"]
    weight: Float[Array, "K R"]

    @staticmethod
    def of(model: MeanField, z_c: Float[Array, " K"]) -> _Margin:
        """|x⊥|² is 2y, y with a gamma law: quadrature by generalised Laguerre polynomials."""
        order = np.arange(RADII)
        shape = (model.d - 3.0) / 2.0
        y, part = _quadrature(2.0 * order + 1.0 + shape, order[1:] * (order[1:] + shape))
        square = 2.0 * y + z_c[:, None] ** 2
        density = math.sqrt(2.0 / math.pi) * np.exp(-(z_c**2) / 2.0) * z_c / model.h  # of margins at h
        return _Margin(z_c[:, None] / np.sqrt(square), (1.0 - model.flip) * density[:, None] * part * square)


class _Source(NamedTuple):
    """Noise of the drive: cells of û, and the second moments of φ|x| in each at K times.

    Examples with |x∥| > z_c drop out one after the other: the noise at t is that of the examples which are left.
    """

    u: Float[Array, " J"]
    alive: Float[Array, "K J"]

    @staticmethod
    def of(model: MeanField, z_c: Float[Array, " K"]) -> _Source:
        d = model.d
        log_u = np.arange(math.log(SMALLEST / math.sqrt(d)) + SPACING / 2.0, 0.0, SPACING)
        edges = np.append(np.concatenate([[0.0], np.exp(log_u - SPACING / 2.0)]), 1.0)
        u = np.concatenate([[0.0], np.exp(log_u)])
        share = np.diff(special.betainc(0.5, (d - 1.0) / 2.0, edges**2))  # û² has a beta law
        inside = u * np.exp(SPACING * ((np.arange(8.0) + 0.5) / 8.0 - 0.5))[:, None, None]  # a cell goes bit by bit
        with np.errstate(divide="ignore"):
            # share of E|x|² with |x|û < z_c
            below = stats.chi2.cdf((z_c[:, None] / inside) ** 2, d + 2.0).mean(axis=0)
        return _Source(u, d * share * ((1.0 - model.flip) * below + model.flip))


class _Harmonics(NamedTuple):
    """Degrees of spherical harmonics in d − 1 dimensions, by Gegenbauer polynomials of the cosine of an angle.

    Attributes:
        number: Harmonics of each degree.
        cosine: Quadrature nodes.
        project: Weight times polynomial (1 at cosine 1), degrees by nodes.
    """

    number: Float[Array, " L"]
    cosine: Float[Array, " A"]
    project: Float[Array, "L A"]

    @staticmethod
    def of(d: int) -> _Harmonics:
        n, degrees = d - 1.0, np.array(DEGREES, dtype=float)
        # for d = 3 the harmonics are those of a circle, and the polynomials those of Chebyshev
        index = max((d - 3.0) / 2.0, 1e-9)
        order = np.arange(1.0, ANGLES)
        squares = order * (order + 2.0 * index - 1.0) / (4.0 * (order + index) * (order + index - 1.0))
        cosine, weight = _quadrature(np.zeros(ANGLES), squares)
        polynomial = np.array([special.eval_gegenbauer(degree, index, cosine) for degree in DEGREES])
        at_one = np.array([special.eval_gegenbauer(degree, index, 1.0) for degree in DEGREES])
        number = special.comb(n + degrees - 1.0, degrees) - special.comb(n + degrees - 3.0, degrees - 2.0)
        number[degrees < 2.0] = np.where(degrees == 0.0, 1.0, n)[degrees < 2.0]
        return _Harmonics(number, cosine, weight * polynomial / at_one[:, None])


def _unit_noise(model: MeanField, grid: _Grid) -> Float[Array, " K"]:
    """√N times the standard deviation of F(x)/|x| at x∥ = 0, at the middles of the steps."""
    solution = model.solve(grid.middle)
    margin, source = _Margin.of(model, solution.z_c), _Source.of(model, solution.z_c)
    K, J = source.alive.shape
    harmonics = _Harmonics.of(model.d)
    # what sources (the last axis: at the margin, then noise) at each step do to x∥ = 0 and to the margin later
    effect = np.zeros((len(DEGREES), K, 1 + RADII, K, RADII + J))
    for k in range(K):
        seen = np.concatenate([[0.0], margin.u[k]])[:, None, None, None]
        sources = np.concatenate([margin.u[: k + 1], np.broadcast_to(source.u, (k + 1, J))], axis=1)[:, :, None]
        gammas = solution.gamma[k : k + 1], solution.gamma[: k + 1, None, None]
        even = sum(_kernel(model, sign * seen, sources, harmonics.cosine, *gammas) for sign in (1.0, -1.0)) / 2.0
        length = np.append(grid.length[:k], grid.length[k] / 2.0)
        effect[:, k, :, : k + 1] = np.einsum("ojsa,la,j->lojs", even, harmonics.project, length / model.d)
    result = np.zeros(K)
    for number, degree in zip(harmonics.number, effect, strict=True):
        back = degree[..., :RADII] * margin.weight
        noise = number * degree[..., RADII:]
        # the Volterra equation on the margin, for every cell and step of the noise
        system = np.eye(K * RADII) + back[:, 1:].reshape(K * RADII, -1)
        at_margin = np.linalg.solve(system, noise[:, 1:].reshape(K * RADII, -1))
        answer = noise[:, 0] - (back[:, 0].reshape(K, -1) @ at_margin).reshape(K, K, J)
        felt = np.cumsum(answer, axis=1)  # by an example that was unsatisfied to the end of a step
        for k in range(K):
            gone = -np.diff(source.alive[: k + 1], axis=0)
            left = np.sum(gone * felt[k, :k] ** 2) + np.sum(source.alive[k] * felt[k, k] ** 2)
            result[k] += left / number
    return np.sqrt(result) / model.alpha


def _kernel(model: MeanField, u: Array, v: Array, cosine: Array, gamma: Array, then: Array) -> Array:
    """d 𝒦(x, t; x′, t′)/|x||x′| from û, û′, the cosine between x⊥ and x′⊥, γ(t) and γ(t′); they broadcast.

    With σ = cz + β|z| terms that are odd in the nodes vanish, so that it is 4β² of ReLU's and c² − β² of z's.
    """
    a_var, w_var = model.a_std**2, model.w_std**2
    linear, kink = model.odd_slope, model.nonlinearity.kink or 0.0
    C, S, C_, S_ = np.cosh(gamma), np.sinh(gamma), np.cosh(then), np.sinh(then)
    turn, twist = np.cosh(gamma - then), np.sinh(gamma - then)
    # covariances of (a, w∥) at t with (a, w∥) at t′
    aa, ww = a_var * C * C_ + w_var * S * S_, w_var * C * C_ + a_var * S * S_
    aw, wa = a_var * C * S_ + w_var * S * C_, a_var * S * C_ + w_var * C * S_
    across = np.sqrt((1.0 - u**2) * (1.0 - v**2)) * cosine
    zz = u * v * ww + w_var * across
    a_z, z_a = v * aw, u * wa
    moved = turn * u * v + across
    result = (linear**2 - kink**2) * (zz * turn + twist * v * z_a + twist * u * a_z + moved * aa)
    if kink == 0.0:
        return result
    # the same on z, z′ > 0: z = rX, z′ = r′Y, and the parts of a and a′ that X and Y determine
    r = np.sqrt(u**2 * (w_var * C**2 + a_var * S**2) + w_var * (1.0 - u**2))
    r_ = np.sqrt(v**2 * (w_var * C_**2 + a_var * S_**2) + w_var * (1.0 - v**2))
    rho = np.clip(zz / (r * r_), -1.0 + 1e-10, 1.0 - 1e-10)
    root = np.sqrt(1.0 - rho**2)
    both = (math.pi - np.arccos(rho)) / (2.0 * math.pi)  # P(X, Y > 0), E XY and E X² there
    XY, XX = root / (2.0 * math.pi) + rho * both, both + rho * root / (2.0 * math.pi)
    variance = a_var + w_var
    aX, aY = variance * C * S * u / r, a_z / r_
    bX, bY = z_a / r, variance * C_ * S_ * v / r_
    a1, a2 = (aX - rho * aY) / root**2, (aY - rho * aX) / root**2
    b1, b2 = (bX - rho * bY) / root**2, (bY - rho * bX) / root**2
    z_b, a_z = r * (b1 * XX + b2 * XY), r_ * (a1 * XY + a2 * XX)
    ab = (aa - a1 * bX - a2 * bY) * both + a1 * b1 * XX + (a1 * b2 + a2 * b1) * XY + a2 * b2 * XX
    return result + 4.0 * kink**2 * (r * r_ * XY * turn + twist * v * z_b + twist * u * a_z + moved * ab)
