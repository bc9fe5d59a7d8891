"""First-order corrections for a finite number of nodes M, on infinitely many examples (Sec. 3.3).

The output is an average over M nodes: at fixed x it is normal over the initial draw, F(x) = s x∥ ± σ_M(x). From this
follow the band of the time of satisfaction (Fig. 1d), the generalisation error and the unsatisfied fraction of a finite
network.

While all forces are equal nodes keep to their mean-field hyperbolas (`FiniteWidth.output_std`). With σ(z) = cz + e(z),
e even, the fluctuation then splits into two uncorrelated parts: that of ``c(a z − a₀ z₀)``, a polynomial of normal
variables, and that of ``a e(z) − a₀ e(z₀)``, in closed form where e = β|z| (ReLU, leaky ReLU, linear) and by
Gauss–Hermite quadrature otherwise. As soon as forces differ among examples the flow corrects the fluctuation
(`mfnet.theory.response`), and `FiniteWidth.spread` is what is left of it.

Of balanced nodes (`mfnet.theory.initial`) the even part is 0 in every draw, since (−a, −w) is a node where (a, w) is,
and of the odd part only the scatter of P = E w wᵀ is left, exactly:

    σ_M² = (c²/d) B⁴ S² (C² x∥² Var P∥∥ + |x⊥|² Var P∥⊥),

0 from M = 4d on: then F does not depend on the draw, and its error on true labels is 0, on infinitely many examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy import optimize, special
from scipy.interpolate import CubicSpline

from mfnet.theory import clock
from mfnet.theory.arrays import Array, Values
from mfnet.theory.initial import check_init, weight_scatter
from mfnet.theory.law import ProjectionLaw
from mfnet.theory.mean_field import MeanField
from mfnet.theory.mean_field_solution import MeanFieldSolution
from mfnet.theory.node_moments import NodeMoments
from mfnet.theory.overlay import Curve, Draw, Nodes, Theory
from mfnet.theory.remembered import remembered
from mfnet.theory.response import Features, response

#: Below this value of sinh γ the variance, then quadratic in it, is scaled from here: its terms cancel to rounding.
_SMALLEST_SINH = 1e-4


@dataclass(frozen=True)
class FiniteWidth(Theory):
    """Predictions for a network of ``M`` nodes: those of ``mean_field``, with first-order corrections in 1/M.

    Raises ValueError for an activation without its even part, and for balanced nodes whose number is no multiple of 4.

    Args:
        mean_field: The mean-field solution.
        M: Nodes.
        init: How their initial values are drawn, 'independent' or 'balanced'.
    """

    mean_field: MeanField
    M: float
    init: str = "independent"

    def __post_init__(self) -> None:
        check_init(self.init, self.M)
        self.mean_field.nonlinearity.need("even", "FiniteWidth")

    @property
    def trusted_as(self) -> str:
        return "finite_width"

    @property
    def needs_draw(self) -> bool:
        return self.mean_field.needs_draw

    def of_draw(self, draw: Callable[[], Draw]) -> FiniteWidth:
        return replace(self, mean_field=self.mean_field.of_draw(draw))

    def output_std(self, x_par: Values, cosh: Values, sinh: Values) -> Values:
        """σ_M: standard deviation over initial draws of F(x) at projection x∥, for nodes at (C, S)."""
        x_par, cosh, sinh = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (x_par, cosh, sinh)))
        if self.init == "balanced":
            return self._balanced_std(x_par, cosh, sinh)
        small = np.abs(sinh) < _SMALLEST_SINH
        floor = np.where(small, _SMALLEST_SINH, sinh)
        moments = self._moments(x_par, np.where(small, 1.0, cosh), floor)
        activation = self.mean_field.nonlinearity
        odd = activation.odd_slope**2 * (moments.odd_along + moments.odd_across)
        variance = odd + moments.even_variance(activation)
        return np.sqrt(np.maximum(variance, 0.0) / self.M) * np.where(small, np.abs(sinh) / _SMALLEST_SINH, 1.0)

    def _balanced_std(self, x_par: Values, cosh: Values, sinh: Values) -> Values:
        model, scatter = self.mean_field, weight_scatter(self.M, self.mean_field.d)
        variance = scatter.along * (cosh * x_par) ** 2 + scatter.across * self._perp_sq(x_par)
        return model.odd_slope * model.w_std**2 * np.abs(sinh) * np.sqrt(variance / model.d)

    def _perp_sq(self, x_par: Values) -> Values:
        return self.mean_field.law.perp_sq(np.abs(x_par))

    def _moments(self, x_par: Values, cosh: Values, sinh: Values) -> NodeMoments:
        return NodeMoments.of(self.mean_field, x_par, self._perp_sq(x_par), cosh, sinh)

    def spread(self, x_par: Float[Array, " n"], solution: MeanFieldSolution) -> Float[Array, "n T"]:
        """σ_M of `output_std` at the times of ``solution``, less what the flow has corrected of it by then.

        Of balanced nodes, where a scatter of P is left, that correction is not taken into account.
        """
        if self.init == "balanced":
            return self.output_std(x_par[:, None], solution.cosh, solution.sinh)
        left, model = response(self.mean_field, solution.t), self.mean_field
        x, cosh, sinh = np.broadcast_arrays(x_par[:, None], solution.cosh, solution.sinh)
        small = np.abs(sinh) < _SMALLEST_SINH
        cosh, floor = np.where(small, 1.0, cosh), np.where(small, _SMALLEST_SINH, sinh)
        moments = self._moments(x, cosh, floor)
        start = Features.of(model, x, self._moments(x, np.ones_like(x), np.zeros_like(x)))
        seen = _EvenPart(model, model.law.perp_sq(np.abs(x)), Features.of(model, x, moments), start)
        hyperbola = np.moveaxis(np.array([[cosh[0], floor[0]], [floor[0], cosh[0]]]), -1, 0)
        free = seen.variance(hyperbola, np.ones(len(solution.t)), hyperbola)
        even = seen.variance(left.mean @ hyperbola, left.mean_across, left.quadratic @ hyperbola)
        even = even + np.maximum(moments.even_variance(model.nonlinearity) - free, 0.0)
        odd = model.odd_slope**2 * (moments.odd_along * left.along + moments.odd_across * left.across)
        return np.sqrt((odd + even) / self.M) * np.where(small, np.abs(sinh) / _SMALLEST_SINH, 1.0)

    def _spline(self, solution: MeanFieldSolution, further: Values = 0.0) -> CubicSpline:
        """σ_M against |x∥|, with a ``further`` variance of F.

        It takes 49 points, close together near 0: late, as w∥ outgrows w⊥, it bends at √d e^{−γ}.
        """
        laws = (self.mean_field.law, self.mean_field.law.test)
        largest = max(float(np.abs(law.quadrature(law.m1)[0]).max()) for law in laws)
        grid = largest * np.linspace(0.0, 1.0, 49) ** 3
        return CubicSpline(grid, np.sqrt(self.spread(grid, solution) ** 2 + further))

    @staticmethod
    def _average(
        law: ProjectionLaw,
        solution: MeanFieldSolution,
        std: CubicSpline,
        steep: Float[Array, " T"],
        f: Callable[[Array, Array], Array],
    ) -> Float[Array, " T"]:
        """E_x f(μ, σ_M) at each time; panels meet at x∥ = ``steep``, where f is steep or up to which it is."""
        result = np.empty(solution.t.shape)
        for k, (slope, scale) in enumerate(zip(solution.slope, steep, strict=True)):
            x_par, weights = law.quadrature(float(scale))
            result[k] = weights @ f(slope * x_par, std(np.abs(x_par))[:, k])
        return result

    def generalisation_error(self, solution: MeanFieldSolution, further: Values = 0.0) -> Float[Array, " T"]:
        """ε_g = E_x Φ(−μ/σ_M) on true labels, at the times of ``solution``; ½ at t = 0, where F = 0.

        F is taken as normal over draws, with the variance of `spread`.

        Args:
            solution: The mean-field solution.
            further: Variance of F at these times for another reason, as of a finite training set.
        """
        return self._error(self.mean_field.law.test, solution, self._spline(solution, further))

    def _error(self, law: ProjectionLaw, solution: MeanFieldSolution, std: CubicSpline) -> Float[Array, " T"]:
        # below σ_M(0)/s the sign of F is open
        open_to = np.where(solution.slope > 0.0, std(0.0) / np.maximum(solution.slope, 1e-300), np.inf)
        steep = np.where(open_to > 0.0, np.minimum(open_to, solution.z_c), solution.z_c)
        return self._average(law, solution, std, steep, lambda mu, sigma: special.ndtr(-_ratio(mu, sigma)))

    def unsatisfied(self, solution: MeanFieldSolution) -> Float[Array, " T"]:
        """Fraction of training examples with margin below h, smeared by σ_M."""
        return self._unsatisfied(solution, self._spline(solution))

    def _unsatisfied(self, solution: MeanFieldSolution, std: CubicSpline) -> Float[Array, " T"]:
        threshold, flip = self.mean_field.h / self.mean_field.alpha, self.mean_field.law.flip

        def share(mu: Array, std: Array) -> Array:
            clean = special.ndtr(_ratio(threshold - mu, std))
            return (1.0 - flip) * clean + flip * special.ndtr(_ratio(threshold + mu, std))

        return self._average(self.mean_field.law, solution, std, solution.z_c, share)

    def gamma_std(self, solution: MeanFieldSolution) -> Float[Array, " T"]:
        """Standard deviation over initial draws of the measured γ (`mfnet.network.observables.order_parameter`).

        At first order in 1/√M only the component of F's fluctuation along x∥ moves the clock (every other
        averages out over the data): F = (c/√d)(p sinh 2γ + 2q sinh²γ) x∥, where p = ⟨a₀² + w∥₀²⟩/2 and
        q = ⟨a₀w∥₀⟩ over the actual M nodes. They are uncorrelated, with means V and 0 and variances (A⁴ + B⁴)/2M and
        A²B²/M; the response of γ(t) to each is the central difference of two solutions. Of balanced nodes q is 0, and
        p scatters by that of ⟨w∥₀²⟩/2 alone.
        """
        model = replace(self.mean_field, dt=None)
        mean, step = model.mean_variance, 1e-3 * model.mean_variance
        p_std, q_std = math.hypot(model.a_std**2, model.w_std**2) / math.sqrt(2.0), model.a_std * model.w_std
        if self.init == "balanced":
            p_std, q_std = model.w_std**2 * math.sqrt(self.M * weight_scatter(self.M, model.d).along) / 2.0, 0.0

        def sensitivity(dp: float, dq: float) -> Array:
            ahead = realised_gamma(model, mean + dp, dq, solution.t)
            return (ahead - realised_gamma(model, mean - dp, -dq, solution.t)) / (2.0 * step)

        return np.hypot(p_std * sensitivity(step, 0.0), q_std * sensitivity(0.0, step)) / math.sqrt(self.M)

    @remembered
    def series(self, t: Float[Array, " T"]) -> dict[str, Curve]:
        solution = self.mean_field.solve(t)
        law, spline = self.mean_field.law, self._spline(solution)
        error = self._error(law.test, solution, spline)
        clean, flip = error if law.test is law else self._error(law, solution, spline), law.flip
        std = self.gamma_std(solution)
        return {
            "gamma": Curve(solution.gamma, solution.gamma - std, solution.gamma + std),
            "unsatisfied": Curve(self._unsatisfied(solution, spline)),
            "loss": Curve(solution.loss),
            "train_error": Curve((1.0 - flip) * clean + flip * (1.0 - clean)),
            "test_error": Curve(error),
            "displacement": Curve(solution.displacement),
        }

    def nodes(
        self, t: Float[Array, " T"], a0: Float[Array, " n"], w_par0: Float[Array, " n"], w_perp0: Float[Array, " n"]
    ) -> Nodes:
        return self.mean_field.nodes(t, a0, w_par0, w_perp0)

    @remembered
    def satisfaction(self, t: Float[Array, " T"]) -> Curve:
        """Projection satisfied at t by μ, and by μ ± σ_M (dashed in Fig. 1d); inf where none is yet."""
        solution = self.mean_field.solve(t)
        grid = 40.0 * self.mean_field.law.m1 * np.linspace(0.0, 1.0, 97) ** 3
        mean, spread = solution.slope * grid[:, None], self.spread(grid, solution)
        threshold = self.mean_field.h / self.mean_field.alpha
        ends = [[_root(grid, column) for column in (mean + sign * spread - threshold).T] for sign in (1.0, -1.0)]
        return Curve(solution.z_c, *map(np.array, ends))


def _root(x: Float[Array, " n"], values: Float[Array, " n"]) -> float:
    """Where a growing function of x ≥ 0, known at some, is 0; at 0 if it is above there, inf if below to the end."""
    if values[0] >= 0.0:
        return 0.0
    if values[-1] < 0.0:
        return np.inf
    return float(optimize.brentq(CubicSpline(x, values), 0.0, x[-1], rtol=1e-10))


@dataclass(frozen=True)
class _EvenPart:
    """The even part of F's fluctuation as far as moments of the nodes make it, at n inputs and T times."""

    model: MeanField
    perp_sq: Float[Array, "n T"]
    now: Features
    start: Features

    def variance(
        self, mean: Float[Array, "T 2 2"], mean_across: Float[Array, " T"], quadratic: Float[Array, "T 2 2"]
    ) -> Float[Array, "n T"]:
        """M times its variance, where the moments are these maps of their initial values."""
        a_var, w_var, d = self.model.a_std**2, self.model.w_std**2, self.model.d
        a, w_par = np.einsum("int,tij->jnt", self.now.mean, mean) - self.start.mean
        first = a_var * a**2 + w_var * w_par**2 + w_var * (self.now.across * mean_across) ** 2 * self.perp_sq
        a, w_par = np.einsum("int,tij->jnt", self.now.quadratic, quadratic) - self.start.quadratic
        traceless = 0.5 * (d - 2.0) / (d - 1.0) * (w_var * self.perp_sq / d) ** 2
        return first + traceless * (a_var * a**2 + w_var * w_par**2)


def _ratio(numerator: Array, std: Array) -> Array:
    """numerator/std, with 0/0 = 0 (undecided) and x/0 = ±inf (certain)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((std == 0.0) & (numerator == 0.0), 0.0, numerator / std)


def realised_gamma(model: MeanField, p: float, q: float, t: Array) -> Array:
    """γ(t) when the actual nodes have ⟨a₀² + w∥₀²⟩/2 = p and ⟨a₀w∥₀⟩ = q instead of V and 0."""

    def rate(gamma: float) -> float:
        overlap = p * math.sinh(2.0 * gamma) + 2.0 * q * math.sinh(gamma) ** 2  # ⟨a w∥⟩ − ⟨a₀w∥₀⟩
        root_d = math.sqrt(model.d)
        return model.odd_slope * model.force(model.odd_slope * overlap / root_d) / (model.alpha * root_d)

    stepped = model.stepped_clock(p, q)
    return stepped.gamma_at(t) if stepped else clock.gamma_at(rate, t)
