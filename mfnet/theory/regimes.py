"""Lazy and rich learning (Sec. 3.2): the lazy limit as an equation, and the laws of both ends of time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from mfnet.theory import clock
from mfnet.theory.arrays import Array, Numbers, Values
from mfnet.theory.losses import HINGE
from mfnet.theory.mean_field import MeanField


@dataclass(frozen=True)
class LazySolution:
    """γ̃ = αγ in the limit α → ∞ (eq. 15), where nodes move by O(1/α) along (w∥₀, a₀, 0) (eq. 16)."""

    model: MeanField
    t: Float[Array, " T"]
    gamma_tilde: Float[Array, " T"]

    @property
    def z_c(self) -> Float[Array, " T"]:
        """Projection at the margin: αF = 2cVγ̃ ŵ*·x/√d reaches h there."""
        with np.errstate(divide="ignore"):
            return self.model.h / (_slope(self.model) * self.gamma_tilde)

    @property
    def unsatisfied(self) -> Float[Array, " T"]:
        """Fraction of training examples with margin below h."""
        return self.model.law.cdf(self.z_c)

    def displacement(
        self, a0: Float[Array, " n"], w_par0: Float[Array, " n"]
    ) -> tuple[Float[Array, "T n"], Float[Array, "T n"]]:
        """α(a − a₀) and α(w∥ − w∥₀)."""
        return self.gamma_tilde[:, None] * w_par0, self.gamma_tilde[:, None] * a0


def _slope(model: MeanField) -> float:
    """αF/(γ̃ ŵ*·x) = 2cV/√d in the lazy limit."""
    return 2.0 * model.mean_variance * model.odd_slope / math.sqrt(model.d)


def lazy_limit(model: MeanField, t: Numbers) -> LazySolution:
    """The limit α → ∞ of ``model`` at fixed γ̃ = αγ (eq. 15); its own α does not enter.

    Raises:
        ValueError: For negative times.
    """
    times = np.atleast_1d(np.asarray(t, dtype=float))
    if not (times >= 0.0).all():
        raise ValueError(f"times must not be negative, and are {times}")
    root_d = math.sqrt(model.d)

    def rate(gamma_tilde: float) -> float:
        # α s → 2cVγ̃/√d, so the force is that of a model with α = 1 and this slope
        return model.odd_slope * unit.force(_slope(model) * gamma_tilde) / root_d

    unit = replace(model, alpha=1.0)
    return LazySolution(model, times, clock.gamma_at(rate, times))


@dataclass(frozen=True)
class AsymptoticLaws:
    """Early and late laws of the hinge loss without label noise, in both regimes.

    Raises ValueError for another loss.

    Late laws need z_c → 0 and see of the data only the density p₀ of |ŵ*·x| at zero, of the initial variances only
    their mean V.
    """

    model: MeanField

    def __post_init__(self) -> None:
        if self.model.margin_loss != HINGE:
            raise ValueError(f"AsymptoticLaws are those of the loss 'hinge', not of {self.model.margin_loss.name!r}")

    def _rate0(self) -> float:
        return self.model.odd_slope * self.model.law.m1 / math.sqrt(self.model.d)

    def gamma_early(self, t: Values) -> Values:
        """γ = c m₁ t/(α√d), both regimes (I₀ = c m₁ for normal data)."""
        return self._rate0() * np.asarray(t) / self.model.alpha

    def gamma_late_rich(self, t: Values) -> Values:
        """γ = ¼ ln(8 p₀ h²√d t/(c α³V²)); for ReLU, normal data and V = 1 ¼ ln(32 I₀ h²√d t/α³)."""
        m = self.model
        scale = m.odd_slope * m.alpha**3 * m.mean_variance**2
        return 0.25 * np.log(8.0 * m.law.density_at_zero * m.h**2 * math.sqrt(m.d) * t / scale)

    def unsatisfied_late_rich(self, t: Values) -> Values:
        """n_u = p₀ z_c ∝ t^{−1/2}, independent of h and of the initial variances."""
        m = self.model
        return np.sqrt(m.law.density_at_zero * m.alpha * math.sqrt(m.d) / (2.0 * m.odd_slope * np.asarray(t)))

    def gamma_tilde_late_lazy(self, t: Values) -> Values:
        """γ̃ = (3 p₀ h²√d t/(8cV²))^{1/3}; for ReLU, normal data and V = 1 (3/2 · I₀ h²√d t)^{1/3}."""
        m = self.model
        scale = 8.0 * m.odd_slope * m.mean_variance**2
        return np.cbrt(3.0 * m.law.density_at_zero * m.h**2 * math.sqrt(m.d) * t / scale)

    def unsatisfied_late_lazy(self, t: Values) -> Values:
        """n_u = p₀ z_c ∝ t^{−1/3}."""
        m = self.model
        return m.law.density_at_zero * m.h / (_slope(m) * self.gamma_tilde_late_lazy(t))
