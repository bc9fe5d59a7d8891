"""Second moments of a node that keeps to its mean-field hyperbola, as one input sees it (eq. 10)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mfnet.theory.activations import Activation
from mfnet.theory.arrays import Values

if TYPE_CHECKING:
    from mfnet.theory.mean_field import MeanField

_HERMITE_X, _HERMITE_W = np.polynomial.hermite_e.hermegauss(48)
_HERMITE_W = _HERMITE_W / math.sqrt(2.0 * math.pi)


@dataclass(frozen=True)
class NodeMoments:
    """Second moments of a node's (a, z) now and (a₀, z₀) at the start, seen from one input x.

    ``az`` is Cov(a, z), ``a_z0`` is Cov(a, z₀), ``z_a0`` is Cov(z, a₀), and so on; Cov(a₀, z₀) = 0. ``odd_along`` and
    ``odd_across`` are the parts of Var[a z − a₀ z₀] that come from x∥ and from x⊥, where every term of lower order in γ
    has cancelled.
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
    odd_along: Values
    odd_across: Values

    @staticmethod
    def of(model: MeanField, x_par: Values, perp_sq: Values, cosh: Values, sinh: Values) -> NodeMoments:
        a_var, w_var = model.a_std**2, model.w_std**2
        par = x_par / math.sqrt(model.d)
        par_sq = np.square(x_par) / model.d
        perp = w_var * (perp_sq / model.d)
        moved = cosh**2 + sinh**2 - 1.0  # of a w∥ along a₀w∥₀; along a₀² and w∥₀² it is CS
        along = a_var * w_var * moved**2 + 2.0 * (a_var**2 + w_var**2) * (cosh * sinh) ** 2
        across = a_var * (cosh - 1.0) ** 2 + w_var * sinh**2
        return NodeMoments(
            aa=a_var * cosh**2 + w_var * sinh**2,
            zz=(w_var * cosh**2 + a_var * sinh**2) * par_sq + perp,
            a0a0=np.full_like(par, a_var),
            z0z0=w_var * par_sq + perp,
            a_a0=a_var * cosh,
            z_z0=w_var * cosh * par_sq + perp,
            az=(a_var + w_var) * cosh * sinh * par,
            a_z0=w_var * sinh * par,
            z_a0=a_var * sinh * par,
            odd_along=par_sq * along,
            odd_across=perp * across,
        )

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
