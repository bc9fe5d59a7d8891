"""The mean-field solution for separable data, N → ∞ and M → ∞ (Sec. 3.1).

>>> from mfnet.theory import MeanField
>>> solution = MeanField(d=100, alpha=1.0).solve([1.0, 100.0])
>>> [round(float(g), 6) for g in solution.gamma]
[0.039894, 2.215737]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float

from mfnet.theory import clock
from mfnet.theory.activations import ACTIVATIONS
from mfnet.theory.arrays import Array, Numbers, Values
from mfnet.theory.losses import LOSSES
from mfnet.theory.overlay import Curve, Nodes, Theory
from mfnet.theory.projections import ProjectionLaw, projection_law


@dataclass(frozen=True)
class MeanField(Theory):
    """A network of infinitely many nodes that learns infinitely many examples.

    Initial parameters are independent, of mean zero and variance one. All times are mean-field time t
    (a step of SGD with learning rate η advances t by η/M).

    Raises ValueError for a parameter outside its range.

    Args:
        d: Input dimension.
        alpha: Scale α of the loss (eq. 8): small is rich, large is lazy.
        h: Margin below which an example is unsatisfied.
        activation: Name of an activation whose odd part is linear (`mfnet.theory.activations`).
        loss: Name of a margin loss (`mfnet.theory.losses`).
        inputs: 'normal' (eq. 13), 'sphere' (eq. 14), 'radial', or a law of projections.
        radius: For radial inputs, the law of |x|: ``{"name": scipy.stats law, **parameters}``.
        flip: Fraction ε of training labels that are reversed (Sec. 3.4).
        dt: None solves the flow; a number solves gradient descent with steps of Δt = dt exactly.
        scheme: With ``dt``, the step that is taken: 'euler' (gradient descent) or 'rotation'.
    """

    d: int
    alpha: float = 1.0
    h: float = 1.0
    activation: str = "relu"
    loss: str = "hinge"
    inputs: str | ProjectionLaw = "normal"
    radius: Mapping[str, object] | None = None
    flip: float = 0.0
    dt: float | None = None
    scheme: Literal["euler", "rotation"] = "euler"

    def __post_init__(self) -> None:
        for name, valid, allowed in (
            ("d", self.d >= 2, "at least 2"),
            ("alpha", 0.0 < self.alpha < math.inf, "finite and above 0"),
            ("h", 0.0 < self.h < math.inf, "finite and above 0"),
            ("activation", self.activation in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}"),
            ("loss", self.loss in LOSSES, f"one of {', '.join(LOSSES)}"),
            ("flip", 0.0 <= self.flip < 0.5, "at least 0 and below 1/2"),
            ("dt", self.dt is None or 0.0 < self.dt < math.inf, "None, or finite and above 0"),
            ("scheme", self.scheme in ("euler", "rotation"), "'euler' or 'rotation'"),
        ):
            if not valid:
                raise ValueError(f"{name}={getattr(self, name)!r} must be {allowed}")

    @cached_property
    def law(self) -> ProjectionLaw:
        """Law of the signed projections ζ = y ŵ*·x of the training set."""
        return projection_law(self.inputs, self.d, self.radius, self.flip)

    @property
    def odd_slope(self) -> float:
        """c in σ(z) − σ(−z) = 2cz."""
        return ACTIVATIONS[self.activation].odd_slope

    def threshold(self, slope: Values) -> Values:
        """z_c = h/(αs): examples with ŵ*·x y < z_c are unsatisfied (eq. 12)."""
        with np.errstate(divide="ignore"):
            return self.h / (self.alpha * np.asarray(slope, dtype=float))

    def slope(self, cosh: Values, sinh: Values) -> Values:
        """s in F(x) = s ŵ*·x (eq. 11), from the coefficients of the nodes' hyperbola."""
        return 2.0 * self.odd_slope * cosh * sinh / math.sqrt(self.d)

    def force(self, slope: float) -> float:
        """J = ⟨φ(αyF) y ŵ*·x⟩ when F(x) = slope · ŵ*·x (eq. 13, 14 for the hinge)."""
        z_c = float(self.threshold(np.asarray(slope)))
        if self.loss == "hinge":
            return float(self.law.mean_below(np.asarray(z_c)))
        loss, scale = LOSSES[self.loss], self.alpha * slope
        return self.law.expect(lambda zeta: loss.force(scale * zeta, self.h) * zeta, z_c)

    def rate(self, gamma: float) -> float:
        """γ̇ = cJ/(α√d)."""
        slope = float(self.slope(np.cosh(gamma), np.sinh(gamma)))
        return self.odd_slope * self.force(slope) / (self.alpha * math.sqrt(self.d))

    @property
    def gamma_star(self) -> float:
        """γ at t = ∞: finite with label noise or the square loss, else inf."""
        return clock.fixed_point(self.rate)

    @cached_property
    def time_scale(self) -> float:
        """The time at which the initial speed of γ alone would satisfy an example of average projection.

        It is the natural unit of time of a run: about 50 at α = 1, d = 100, about 0.14 at α = 10⁻³ and
        about 310 in the lazy limit.
        """
        speed = self.odd_slope * self.law.m1 / (self.alpha * math.sqrt(self.d))
        return float(self.gamma_sat(np.asarray(self.law.m1))) / speed

    def gamma_sat(self, x_par: Values) -> Values:
        """γ at which an example with projection |ŵ*·x| = x_par becomes satisfied (eq. 12)."""
        with np.errstate(divide="ignore"):
            ratio = self.h * math.sqrt(self.d) / (self.alpha * self.odd_slope * np.abs(x_par))
        return 0.5 * np.arcsinh(ratio)

    def time_of(self, gamma: Numbers) -> Values:
        """The time at which γ(t) passes ``gamma``: the inverse of ``solve(t).gamma``; inf where it never does."""
        values = np.asarray(gamma, dtype=float)
        return clock.time_at(self.rate, values.ravel()).reshape(values.shape)

    def t_sat(self, x_par: Numbers) -> Values:
        """The time at which a rightly labelled example with projection x_par is satisfied (Fig. 1d)."""
        return self.time_of(self.gamma_sat(np.asarray(x_par, dtype=float)))

    def solve(self, t: Numbers) -> MeanFieldSolution:
        """The state at the times ``t``; inf is allowed for a flow.

        With ``dt`` the steps land on every time: an interval is divided into equal steps no longer than dt.

        Raises:
            ValueError: For negative or, with ``dt``, decreasing or infinite times.
        """
        times = np.atleast_1d(np.asarray(t, dtype=float))
        if not (times >= 0.0).all():
            raise ValueError(f"times must not be negative, and are {times}")
        if self.dt is None:
            gamma = clock.gamma_at(self.rate, times)
            with np.errstate(over="ignore"):
                return MeanFieldSolution(self, times, np.cosh(gamma), np.sinh(gamma))
        if not np.isfinite(times).all() or (np.diff(times) < 0.0).any():
            raise ValueError(f"with steps of dt={self.dt} times must be finite and increase, and are {times}")
        return self._solve_steps(times, self.dt)

    def _solve_steps(self, times: Float[Array, " T"], dt: float) -> MeanFieldSolution:
        """Gradient descent: κ = Δt cJ/(α√d) mixes (a, w∥) of every node in the same way at each step."""
        cosh, sinh, now = 1.0, 0.0, 0.0
        states = []
        for time in times:
            n_steps = math.ceil((time - now) / dt - 1e-9)
            for _ in range(n_steps):
                force = self.force(2.0 * self.odd_slope * cosh * sinh / math.sqrt(self.d))
                kappa = (time - now) / n_steps * self.odd_slope * force / (self.alpha * math.sqrt(self.d))
                if self.scheme == "euler":
                    cosh, sinh = cosh + kappa * sinh, sinh + kappa * cosh
                else:
                    c, s = math.cosh(kappa), math.sinh(kappa)
                    cosh, sinh = cosh * c + sinh * s, sinh * c + cosh * s
            now = time
            states.append((cosh, sinh))
        c_array, s_array = np.array(states).T
        return MeanFieldSolution(self, times, c_array, s_array)

    def series(self, t: Float[Array, " T"]) -> dict[str, Curve]:
        solution = self.solve(t)
        return {
            "gamma": Curve(solution.gamma),
            "unsatisfied": Curve(solution.unsatisfied),
            "loss": Curve(solution.loss),
            "train_error": Curve(solution.train_error),
            "test_error": Curve(solution.test_error),
        }

    def nodes(
        self, t: Float[Array, " T"], a0: Float[Array, " n"], w_par0: Float[Array, " n"], w_perp0: Float[Array, " n"]
    ) -> Nodes:
        a, w_par = self.solve(t).nodes(a0, w_par0)
        return Nodes(a, w_par, np.broadcast_to(w_perp0, a.shape).copy())

    def satisfaction(self, t: Float[Array, " T"]) -> Curve:
        return Curve(self.solve(t).z_c)


@dataclass(frozen=True)
class MeanFieldSolution:
    """The mean-field state at times ``t``.

    A node that starts at (a₀, w∥₀) is at ``a = C a₀ + S w∥₀``, ``w∥ = C w∥₀ + S a₀`` (eq. 10), with C = ``cosh``
    and S = ``sinh``: cosh γ and sinh γ for the flow, their exact counterparts for discrete steps.
    """

    model: MeanField
    t: Float[Array, " T"]
    cosh: Float[Array, " T"]
    sinh: Float[Array, " T"]

    @property
    def gamma(self) -> Float[Array, " T"]:
        """The clock γ."""
        return np.arcsinh(self.sinh)

    @property
    def slope(self) -> Float[Array, " T"]:
        """s in F(x) = s ŵ*·x."""
        return self.model.slope(self.cosh, self.sinh)

    @property
    def z_c(self) -> Float[Array, " T"]:
        """Projection at the margin (eq. 12); the inverse of `MeanField.t_sat`; inf at t = 0."""
        return self.model.threshold(self.slope)

    @property
    def unsatisfied(self) -> Float[Array, " T"]:
        """Fraction n_u of training examples with margin below h."""
        return self.model.law.cdf(self.z_c)

    @property
    def loss(self) -> Float[Array, " T"]:
        """L of eq. 8, ⟨ℓ⟩/α²."""
        model, law = self.model, self.model.law
        if model.loss == "hinge":  # h P(ζ < z_c) − αs⟨ζ 1[ζ < z_c]⟩
            value = model.h * law.cdf(self.z_c) - model.alpha * self.slope * law.mean_below(self.z_c)
        else:
            value = np.array([self._mean_loss(s, z_c) for s, z_c in zip(self.slope, self.z_c, strict=True)])
        return value / model.alpha**2

    def _mean_loss(self, slope: float, z_c: float) -> float:
        loss, scale = LOSSES[self.model.loss], self.model.alpha * slope
        return self.model.law.expect(lambda zeta: loss.value(scale * zeta, self.model.h), z_c)

    @property
    def train_error(self) -> Float[Array, " T"]:
        """Fraction of training labels that the sign of F misses: the flipped ones; ½ at t = 0, where F = 0."""
        return np.where(self.sinh > 0.0, self.model.law.flip, 0.5)

    @property
    def test_error(self) -> Float[Array, " T"]:
        """Generalisation error on true labels: 0 as soon as t > 0 (`FiniteWidth` has the correction)."""
        return np.where(self.sinh > 0.0, 0.0, 0.5)

    def nodes(
        self, a0: Float[Array, " n"], w_par0: Float[Array, " n"]
    ) -> tuple[Float[Array, "T n"], Float[Array, "T n"]]:
        """(a, w∥) of nodes with the given initial values (eq. 10); w⊥ does not move."""
        c, s = self.cosh[:, None], self.sinh[:, None]
        return c * a0 + s * w_par0, c * w_par0 + s * a0

    def output(self, x_par: Float[Array, " n"]) -> Float[Array, "T n"]:
        """F(x) = s ŵ*·x (eq. 11)."""
        return self.slope[:, None] * x_par

    def density(self, a: Values, w_par: Values, k: int = -1) -> Values:
        """Density of (a, w∥) over the nodes at ``t[k]``: normal, widened along a = w∥, narrowed across (eq. 5, 10)."""
        grow, shrink = self.cosh[k] + self.sinh[k], self.cosh[k] - self.sinh[k]
        along, across = (a + w_par) / grow, (a - w_par) / shrink
        return np.exp(-(along**2 + across**2) / 4.0) / (2.0 * math.pi * grow * shrink)
