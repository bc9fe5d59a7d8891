"""The mean-field state at some times, and what is observed of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from mfnet.theory.arrays import Array, Values
from mfnet.theory.losses import HINGE

if TYPE_CHECKING:
    from mfnet.theory.mean_field import MeanField


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
        if model.margin_loss == HINGE:  # h P(ζ < z_c) − αs⟨ζ 1[ζ < z_c]⟩
            value = model.h * law.cdf(self.z_c) - model.alpha * self.slope * law.mean_below(self.z_c)
        else:
            value = np.array([self._mean_loss(s, z_c) for s, z_c in zip(self.slope, self.z_c, strict=True)])
        return value / model.alpha**2

    def _mean_loss(self, slope: float, z_c: float) -> float:
        loss, scale = self.model.margin_loss, self.model.alpha * slope
        return self.model.law.expect(lambda zeta: loss.value(scale * zeta, self.model.h), z_c)

    @property
    def force_square(self) -> Float[Array, " T"]:
        """⟨φ²⟩ over training examples, for the hinge the unsatisfied fraction."""
        if self.model.margin_loss == HINGE:
            return self.unsatisfied
        return self._mean_power(2)

    @property
    def mean_force(self) -> Float[Array, " T"]:
        """⟨φ⟩ over training examples, for the hinge the unsatisfied fraction."""
        return self.unsatisfied if self.model.margin_loss == HINGE else self._mean_power(1)

    def _mean_power(self, n: int) -> Float[Array, " T"]:
        """⟨φⁿ⟩ over training examples."""
        loss, h = self.model.margin_loss, self.model.h

        def at(scale: float, z_c: float) -> float:
            return self.model.law.expect(lambda zeta: loss.force(scale * zeta, h) ** n, z_c)

        return np.array([at(self.model.alpha * s, z_c) for s, z_c in zip(self.slope, self.z_c, strict=True)])

    @property
    def train_error(self) -> Float[Array, " T"]:
        """Fraction of training labels that the sign of F misses, the same at all t > 0; ½ at t = 0, where F = 0."""
        return np.where(self.sinh > 0.0, self.model.law.wrong, 0.5)

    @property
    def test_error(self) -> Float[Array, " T"]:
        """The same on the test set: 0 for separable data (`FiniteWidth` has the correction)."""
        return np.where(self.sinh > 0.0, self.model.law.test.wrong, 0.5)

    @property
    def displacement(self) -> Float[Array, " T"]:
        """|θ − θ₀|/|θ₀| over all nodes, θ = (a, w): how lazy the network is.

        By eq. 10 a node moves by (C − 1)(a₀, w∥₀) + S(w∥₀, a₀), so that E|θ − θ₀|² = (A² + B²)((C − 1)² + S²), beside
        E|θ₀|² = A² + dB². Early, and at all times of a lazy network, √((A² + B²)/(A² + dB²)) γ.
        """
        a_var, w_var = self.model.a_std**2, self.model.w_std**2
        share = (a_var + w_var) / (a_var + self.model.d * w_var)
        return math.sqrt(share) * np.hypot(self.cosh - 1.0, self.sinh)

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
        """Density of (a, w∥) over the nodes at ``t[k]``, the initial one carried along (eq. 5, 10).

        It is normal, with Var a = A²C² + B²S², Var w∥ = B²C² + A²S² and Cov(a, w∥) = (A² + B²)CS; for A = B it is
        widened along a = w∥ and narrowed across.
        """
        grow, shrink = self.cosh[k] + self.sinh[k], self.cosh[k] - self.sinh[k]
        along, across = (a + w_par) / grow, (a - w_par) / shrink  # a₀ ± w∥₀ of the node that is here now
        a_std, w_std = self.model.a_std, self.model.w_std
        exponent = (((along + across) / a_std) ** 2 + ((along - across) / w_std) ** 2) / 8.0
        return np.exp(-exponent) / (2.0 * math.pi * a_std * w_std * grow * shrink)
