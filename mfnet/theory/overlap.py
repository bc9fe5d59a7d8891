"""Laws of projections of classes that overlap: ζ = y ŵ*·x may be negative.

No hyperplane across ŵ* satisfies the examples with ζ < 0, so the clock stops at a finite γ*, where those that are
satisfied no longer outweigh them, as with flipped labels.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy import special

from mfnet.theory.arrays import Array, Values
from mfnet.theory.law import ProjectionLaw, edges, panels
from mfnet.theory.overlay import Draw

#: Groups of examples with similar projections, over which `Empirical` averages |x⊥|².
_GROUPS = 20


class Mixture(ProjectionLaw):
    """Two normal classes of unit variance in ``d`` dimensions, centred at ±``separation``·ŵ*, of which ζ is normal.

    (x, y) and (−x, −y) are equally likely, and x⊥ is independent of x∥: the mean-field solution closes.

    Args:
        d: Input dimension.
        separation: Distance μ of the centres from the origin.
        flip: Fraction of labels that are reversed.

    >>> round(Mixture(100, 1.0).wrong, 6)
    0.158655
    """

    def __init__(self, d: int, separation: float, flip: float = 0.0):
        self.d, self.separation, self.reversed = d, separation, flip

    @property
    def test(self) -> ProjectionLaw:
        return Mixture(self.d, self.separation)

    @property
    def wrong(self) -> float:
        return float(self.cdf(np.asarray(0.0)))

    @property
    def m1(self) -> float:
        mu = self.separation
        return 2.0 * float(_density(mu)) + mu * math.erf(mu / math.sqrt(2.0))

    @property
    def density_at_zero(self) -> float:
        return 2.0 * float(_density(self.separation))

    def cdf(self, z: Values) -> Values:
        mu = self.separation
        return (1.0 - self.reversed) * special.ndtr(z - mu) + self.reversed * special.ndtr(z + mu)

    def mean_below(self, z: Values) -> Values:
        mu = self.separation
        true, flipped = np.asarray(z) - mu, np.asarray(z) + mu
        return (1.0 - self.reversed) * (mu * special.ndtr(true) - _density(true)) - self.reversed * (
            mu * special.ndtr(flipped) + _density(flipped)
        )

    def density(self, z: Values) -> Values:
        return (1.0 - self.reversed) * _density(z - self.separation) + self.reversed * _density(z + self.separation)

    def quadrature(self, scale: float) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
        z, weight = panels(edges(np.asarray(scale), self.separation + 10.0))
        signed = np.concatenate([-z[::-1], z])
        return signed, np.concatenate([weight[::-1], weight]) * self.density(signed)

    def perp_sq(self, x_par: Values) -> Values:
        return np.full_like(x_par, self.d - 1.0)


class Empirical(ProjectionLaw):
    """The projections of an actual training set, each of weight 1/N (theory.md, 5).

    It uses of the data what the reference direction sees: other directions that matter show as a departure.

    Args:
        zeta: ζ = y ŵ*·x of every training example.
        perp_sq: Its |x⊥|².
        test: The law of the test set; by default the same.
    """

    def __init__(self, zeta: Float[Array, " N"], perp_sq: Float[Array, " N"], test: Empirical | None = None):
        order = np.argsort(zeta)
        self.zeta: Array = zeta[order]
        self._below = np.concatenate([[0.0], np.cumsum(self.zeta)]) / len(zeta)
        self._test = test
        modulus = np.abs(self.zeta)
        near = np.argsort(modulus)
        groups = np.array_split(near, min(_GROUPS, len(near)))
        self._centres = np.array([modulus[group].mean() for group in groups])
        self._perp_sq = np.array([perp_sq[order][group].mean() for group in groups])

    @classmethod
    def of(cls, draw: Draw) -> Empirical:
        """The law of a run's training set, with that of its test set."""

        def law(x: Float[Array, "n d"], y: Float[Array, " n"], test: Empirical | None = None) -> Empirical:
            x_par = x @ draw.direction
            return cls(y * x_par, np.einsum("nd,nd->n", x, x) - x_par**2, test)

        return law(draw.x, draw.y, law(draw.x_test, draw.y_test))

    @property
    def test(self) -> ProjectionLaw:
        return self if self._test is None else self._test

    @cached_property
    def wrong(self) -> float:
        return float(np.mean(self.zeta < 0.0) + 0.5 * np.mean(self.zeta == 0.0))

    @cached_property
    def m1(self) -> float:
        return float(np.mean(np.abs(self.zeta)))

    @cached_property
    def density_at_zero(self) -> float:
        """From the √N projections next to 0."""
        near = math.isqrt(len(self.zeta))
        return near / (len(self.zeta) * float(np.sort(np.abs(self.zeta))[near - 1]))

    def cdf(self, z: Values) -> Values:
        return np.searchsorted(self.zeta, z, side="left") / len(self.zeta)

    def mean_below(self, z: Values) -> Values:
        return self._below[np.searchsorted(self.zeta, z, side="left")]

    def quadrature(self, scale: float) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
        return self.zeta, np.full(len(self.zeta), 1.0 / len(self.zeta))

    def perp_sq(self, x_par: Values) -> Values:
        return np.interp(x_par, self._centres, self._perp_sq)


def _density(z: Values | float) -> Values:
    """Density of a standard normal variable."""
    return np.exp(-np.square(z) / 2.0) / math.sqrt(2.0 * math.pi)


def reference_direction(x: Float[Array, "N d"], y: Float[Array, " N"]) -> Float[Array, " d"]:
    """ŵ* = ⟨yx⟩/|⟨yx⟩|, along which every node is driven at t = 0 (theory.md, 5).

    Raises:
        ValueError: Where ⟨yx⟩ = 0.
    """
    mean = y @ x / len(y)
    norm = float(np.linalg.norm(mean))
    if norm == 0.0:
        raise ValueError("the mean of y·x is zero, so that no direction is preferred")
    return mean / norm
