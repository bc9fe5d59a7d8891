"""What a law of projections on the reference direction has to answer (`mfnet.theory.projections`)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from mfnet.theory.arrays import Array, Values

_GAUSS_X, _GAUSS_W = np.polynomial.legendre.leggauss(16)


def panels(edges: Float[Array, "*b e"]) -> tuple[Float[Array, "*b q"], Float[Array, "*b q"]]:
    """Gauss–Legendre nodes and weights, 16 on every panel between consecutive ``edges``."""
    half = np.diff(edges)[..., None] / 2.0
    middle = (edges[..., :-1] + edges[..., 1:])[..., None] / 2.0
    shape = (*edges.shape[:-1], -1)
    return (middle + half * _GAUSS_X).reshape(shape), (half * _GAUSS_W).reshape(shape)


def edges(scale: Float[Array, "*b"], upper: float) -> Float[Array, "*b e"]:
    """Panel edges on [0, upper]: even ones for the density, and ones that double from ``scale`` for the force.

    All rows have as many as the smallest scale needs: panels of no width, at ``upper``, fill the others up.
    """
    start = np.where((scale > 0.0) & (scale < upper), scale, upper)
    doubling = start[..., None] * 2.0 ** np.arange(math.ceil(math.log2(upper / start.min())))
    even = np.broadcast_to(np.linspace(0.0, upper, 17), (*scale.shape, 17))
    return np.sort(np.concatenate([even, np.minimum(doubling, upper)], axis=-1), axis=-1)


class ProjectionLaw(ABC):
    """Law of ``ζ = y ŵ*·x``. For separable data without label noise ζ = |ŵ*·x| > 0."""

    #: Fraction of training labels that are flipped, unless ``quadrature`` has the flipped ones among its nodes.
    flip: float = 0.0

    @property
    def test(self) -> ProjectionLaw:
        """The same law on the test set: true labels, and other examples where it is that of a finite set."""
        return self

    @property
    def wrong(self) -> float:
        """Fraction of labels on the wrong side of the hyperplane across ŵ*: ζ < 0."""
        return self.flip

    @property
    @abstractmethod
    def m1(self) -> float:
        """``⟨|ŵ*·x|⟩``."""

    @property
    @abstractmethod
    def density_at_zero(self) -> float:
        """Density of |ŵ*·x| at 0+, which sets every late-time law."""

    @abstractmethod
    def cdf(self, z: Values) -> Values:
        """``P(ζ < z)`` for z ≥ 0."""

    @abstractmethod
    def mean_below(self, z: Values) -> Values:
        """``⟨ζ 1[ζ < z]⟩`` for z ≥ 0."""

    def density(self, z: Values) -> Values | None:
        """Density of ζ at z > 0, or None from a law that does not know it; ``cdf`` is its integral."""
        return None

    @abstractmethod
    def quadrature(self, scale: float) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
        """Nodes and weights that average functions of |ŵ*·x| which vary, or have a kink, at ``scale``.

        Where classes overlap (`mfnet.theory.overlap`) nodes have the sign of ζ.
        """

    @abstractmethod
    def perp_sq(self, x_par: Values) -> Values:
        """Mean of |x⊥|² given |ŵ*·x|: the part of the input that only a finite network feels."""

    def expect(self, f: Callable[[Array], Array], scale: float) -> float:
        """``⟨f(ζ)⟩`` by panelled Gauss–Legendre quadrature; ``scale`` is where f varies or has its kink."""
        z, weight = self.quadrature(scale)
        return float(weight @ f(z))
