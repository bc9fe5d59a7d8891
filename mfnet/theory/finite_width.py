"""First-order corrections for a finite number of nodes M, on infinitely many examples (Sec. 3.3).

Nodes keep to their mean-field hyperbolas, but the output is an average over M of them: at fixed x
it is normal over the initial draw, F(x) = s x∥ ± σ_M(x). From this follow the band of the time of
satisfaction (Fig. 1d), the generalisation error and the unsatisfied fraction of a finite network.

With σ(z) = cz + e(z), e even, the fluctuation splits into two uncorrelated parts: that of
``c(a z − a₀ z₀)``, a polynomial of normal variables, and that of ``a e(z) − a₀ e(z₀)``, in closed form
where e = β|z| (ReLU, leaky ReLU, linear) and by Gauss–Hermite quadrature otherwise.

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
from mfnet.theory.activations import Activation
from mfnet.theory.arrays import Array, Values
from mfnet.theory.initial import check_init, weight_scatter
from mfnet.theory.law import ProjectionLaw
from mfnet.theory.mean_field import MeanField
from mfnet.theory.mean_field_solution import MeanFieldSolution
from mfnet.theory.overlay import Curve, Draw, Nodes, Theory

_HERMITE_X, _HERMITE_W = np.polynomial.hermite_e.hermegauss(48)
_HERMITE_W = _HERMITE_W / math.sqrt(2.0 * math.pi)

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
        moments = _Moments.of(self.mean_field, x_par, self._perp_sq(x_par), np.where(small, 1.0, cosh), floor)
        activation = self.mean_field.nonlinearity
        variance = activation.odd_slope**2 * moments.odd_variance() + moments.even_variance(activation)
        return np.sqrt(np.maximum(variance, 0.0) / self.M) * np.where(small, np.abs(sinh) / _SMALLEST_SINH, 1.0)

    def _balanced_std(self, x_par: Values, cosh: Values, sinh: Values) -> Values:
        model, scatter = self.mean_field, weight_scatter(self.M, self.mean_field.d)
        variance = scatter.along * (cosh * x_par) ** 2 + scatter.across * self._perp_sq(x_par)
        return model.odd_slope * model.w_std**2 * np.abs(sinh) * np.sqrt(variance / model.d)

    def _perp_sq(self, x_par: Values) -> Values:
        return self.mean_field.law.perp_sq(np.abs(x_par))

    def _average(
        self, law: ProjectionLaw, solution: MeanFieldSolution, f: Callable[[Array, Array], Array]
    ) -> Float[Array, " T"]:
        """E_x f(μ, σ_M) at each time; panels meet at the margin, where f may be steep.

        σ_M is interpolated by a spline from 49 points, close together near 0: late, as w∥ outgrows w⊥, it bends at
        x∥ ~ √d e^{−γ}.
        """
        grid = np.abs(law.quadrature(law.m1)[0]).max() * np.linspace(0.0, 1.0, 49) ** 3
        std = CubicSpline(grid, self.output_std(grid[:, None], solution.cosh, solution.sinh))
        result = np.empty(solution.t.shape)
        for k, (slope, z_c) in enumerate(zip(solution.slope, solution.z_c, strict=True)):
            x_par, weights = law.quadrature(float(z_c))
            result[k] = weights @ f(slope * x_par, std(np.abs(x_par))[:, k])
        return result

    def generalisation_error(self, solution: MeanFieldSolution) -> Float[Array, " T"]:
        """ε_g = E_x Φ(−μ/σ_M) on true labels, at the times of ``solution``; ½ at t = 0, where F = 0.

        Nodes are taken to keep to their hyperbolas, as for the band. While most examples are unsatisfied they do;
        later the flow itself corrects part of the fluctuation of F, and this error is an upper estimate.
        """
        return self._error(self.mean_field.law.test, solution)

    def _error(self, law: ProjectionLaw, solution: MeanFieldSolution) -> Float[Array, " T"]:
        return self._average(law, solution, lambda mu, std: special.ndtr(-_ratio(mu, std)))

    def unsatisfied(self, solution: MeanFieldSolution) -> Float[Array, " T"]:
        """Fraction of training examples with margin below h, smeared by σ_M."""
        threshold, flip = self.mean_field.h / self.mean_field.alpha, self.mean_field.law.flip

        def share(mu: Array, std: Array) -> Array:
            clean = special.ndtr(_ratio(threshold - mu, std))
            return (1.0 - flip) * clean + flip * special.ndtr(_ratio(threshold + mu, std))

        return self._average(self.mean_field.law, solution, share)

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

        def response(dp: float, dq: float) -> Array:
            ahead = realised_gamma(model, mean + dp, dq, solution.t)
            return (ahead - realised_gamma(model, mean - dp, -dq, solution.t)) / (2.0 * step)

        return np.hypot(p_std * response(step, 0.0), q_std * response(0.0, step)) / math.sqrt(self.M)

    def series(self, t: Float[Array, " T"]) -> dict[str, Curve]:
        solution = self.mean_field.solve(t)
        law = self.mean_field.law
        error = self.generalisation_error(solution)
        clean, flip = error if law.test is law else self._error(law, solution), law.flip
        std = self.gamma_std(solution)
        return {
            "gamma": Curve(solution.gamma, solution.gamma - std, solution.gamma + std),
            "unsatisfied": Curve(self.unsatisfied(solution)),
            "loss": Curve(solution.loss),
            "train_error": Curve((1.0 - flip) * clean + flip * (1.0 - clean)),
            "test_error": Curve(error),
            "displacement": Curve(solution.displacement),
        }

    def nodes(
        self, t: Float[Array, " T"], a0: Float[Array, " n"], w_par0: Float[Array, " n"], w_perp0: Float[Array, " n"]
    ) -> Nodes:
        return self.mean_field.nodes(t, a0, w_par0, w_perp0)

    def satisfaction(self, t: Float[Array, " T"]) -> Curve:
        """Projection satisfied at t by μ, and by μ ± σ_M (dashed in Fig. 1d); inf where none is yet."""
        solution = self.mean_field.solve(t)
        return Curve(
            solution.z_c, self._projection_at_margin(solution, 1.0), self._projection_at_margin(solution, -1.0)
        )

    def _projection_at_margin(self, solution: MeanFieldSolution, n_std: float) -> Float[Array, " T"]:
        """The x∥ ≥ 0 at which μ + n_std σ_M = h/α."""
        result = np.full(solution.t.shape, np.inf)
        largest = 40.0 * self.mean_field.law.m1
        for k, now in enumerate(zip(solution.cosh, solution.sinh, solution.slope, strict=True)):
            known = (n_std, *now)
            if self._excess(largest, *known) < 0.0:
                continue
            at_zero = self._excess(0.0, *known) >= 0.0
            result[k] = 0.0 if at_zero else float(optimize.brentq(self._excess, 0.0, largest, known, rtol=1e-10))
        return result

    def _excess(self, x_par: float, n_std: float, cosh: float, sinh: float, slope: float) -> float:
        """μ + n_std σ_M − h/α at x∥."""
        std = float(self.output_std(np.asarray(x_par), np.asarray(cosh), np.asarray(sinh)))
        return slope * x_par + n_std * std - self.mean_field.h / self.mean_field.alpha


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


@dataclass(frozen=True)
class _Moments:
    """Second moments of a node's (a, z) now and (a₀, z₀) at the start, seen from one input x.

    ``az`` is Cov(a, z), ``a_z0`` is Cov(a, z₀), ``z_a0`` is Cov(z, a₀), and so on; Cov(a₀, z₀) = 0. ``odd`` is
    Var[a z − a₀ z₀], where every term of lower order in γ has cancelled.
    """

    aa: Values
    zz: Values
    a0a0: Values
    z0z0: Values
    a_a0: Values
    z_z0: Values
    az: Values
    a_z0: Values
    z_a0: Values
    odd: Values

    @staticmethod
    def of(model: MeanField, x_par: Values, perp_sq: Values, cosh: Values, sinh: Values) -> _Moments:
        a_var, w_var = model.a_std**2, model.w_std**2
        par = x_par / math.sqrt(model.d)
        par_sq = np.square(x_par) / model.d
        perp = w_var * (perp_sq / model.d)
        moved = cosh**2 + sinh**2 - 1.0  # of a w∥ along a₀w∥₀; along a₀² and w∥₀² it is CS
        along = a_var * w_var * moved**2 + 2.0 * (a_var**2 + w_var**2) * (cosh * sinh) ** 2
        across = a_var * (cosh - 1.0) ** 2 + w_var * sinh**2
        return _Moments(
            aa=a_var * cosh**2 + w_var * sinh**2,
            zz=(w_var * cosh**2 + a_var * sinh**2) * par_sq + perp,
            a0a0=np.full_like(par, a_var),
            z0z0=w_var * par_sq + perp,
            a_a0=a_var * cosh,
            z_z0=w_var * cosh * par_sq + perp,
            az=(a_var + w_var) * cosh * sinh * par,
            a_z0=w_var * sinh * par,
            z_a0=a_var * sinh * par,
            odd=par_sq * along + perp * across,
        )

    def odd_variance(self) -> Values:
        """Var[a z − a₀ z₀]."""
        return self.odd

    def even_variance(self, activation: Activation) -> Values:
        """E[(a e(z) − a₀ e(z₀))²]; the mean of this part is zero."""
        if activation.kink is None:
            return self._even_by_quadrature(activation)
        return activation.kink**2 * self._even_of_modulus()

    def _even_of_modulus(self) -> Values:
        """The same for e(z) = |z|, by Stein's identity and the arc-cosine formulas."""
        sigma, sigma0 = np.sqrt(self.zz), np.sqrt(self.z0z0)
        rho = np.clip(self.z_z0 / (sigma * sigma0), -1.0, 1.0)
        across = np.sqrt(1.0 - rho**2)
        modulus = sigma * sigma0 * (across + rho * np.arcsin(rho))  # (π/2) E|z||z₀|
        crossed = self.a_a0 * modulus + self.z_a0 * (self.az * across * sigma0 / sigma + self.a_z0 * np.arcsin(rho))
        return self.aa * self.zz + 2.0 * self.az**2 + self.a0a0 * self.z0z0 - 4.0 / math.pi * crossed

    def _even_by_quadrature(self, activation: Activation) -> Values:
        """The same for a smooth even part: a and a₀ are integrated out given (z, z₀)."""
        one, two = np.meshgrid(_HERMITE_X, _HERMITE_X, indexing="ij")
        weight = np.multiply.outer(_HERMITE_W, _HERMITE_W)
        even = activation.need("even", "FiniteWidth")
        result = np.empty(self.zz.shape)
        for i in np.ndindex(self.zz.shape):  # a 48 × 48 table each: no array of all of them at once
            sigma = math.sqrt(self.zz[i])
            rest = math.sqrt(max(self.z0z0[i] - self.z_z0[i] ** 2 / self.zz[i], 0.0))
            z, z0 = sigma * one, self.z_z0[i] / sigma * one + rest * two
            # a = p₁ξ₁ + p₂ξ₂ + remainder, likewise a₀, with ξ the two standard normals behind (z, z₀)
            p1, q1 = self.az[i] / sigma, self.z_a0[i] / sigma
            p2 = (self.a_z0[i] - self.z_z0[i] / sigma * p1) / rest if rest > 0.0 else 0.0
            q2 = (0.0 - self.z_z0[i] / sigma * q1) / rest if rest > 0.0 else 0.0
            now, start = even(z), even(z0)
            mean = (p1 * one + p2 * two) * now - (q1 * one + q2 * two) * start
            remainder = (
                (self.aa[i] - p1**2 - p2**2) * now**2
                - 2.0 * (self.a_a0[i] - p1 * q1 - p2 * q2) * now * start
                + (self.a0a0[i] - q1**2 - q2**2) * start**2
            )
            result[i] = np.sum(weight * (mean**2 + remainder))
        return result
