"""Laws of the projection on the reference direction.

The mean-field equations see the data through one number per example, the signed projection
``ζ = y ŵ*·x``. A law answers three questions about it: the probability of ``ζ < z`` (the
unsatisfied fraction), the mean ``⟨ζ 1[ζ < z]⟩`` (the drive J of the hinge loss, eq. 13 and 14),
and the average of any function (every other loss).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy import special, stats

from mfnet.theory.arrays import Array, Values

_GAUSS_X, _GAUSS_W = np.polynomial.legendre.leggauss(16)


def _panels(edges: Array) -> tuple[Array, Array]:
    """Gauss–Legendre nodes and weights, 16 on every panel between consecutive ``edges``."""
    half = np.diff(edges)[:, None] / 2.0
    middle = (edges[:-1] + edges[1:])[:, None] / 2.0
    return (middle + half * _GAUSS_X).ravel(), (half * _GAUSS_W).ravel()


def _edges(scale: float, upper: float) -> Array:
    """Panel edges on [0, upper]: even ones for the density, and ones that double from ``scale`` for the force."""
    even = np.linspace(0.0, upper, 17)
    if not 0.0 < scale < upper:
        return even
    doubling = scale * 2.0 ** np.arange(math.ceil(math.log2(upper / scale)))
    return np.unique(np.concatenate([even, doubling]))


class ProjectionLaw(ABC):
    """Law of ``ζ = y ŵ*·x``. For separable data without label noise ζ = |ŵ*·x| > 0."""

    #: Fraction of training labels that are flipped.
    flip: float = 0.0

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

    @abstractmethod
    def quadrature(self, scale: float) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
        """Nodes and weights that average functions of |ŵ*·x| which vary, or have a kink, at ``scale``."""

    @abstractmethod
    def perp_sq(self, x_par: Values) -> Values:
        """Mean of |x⊥|² given |ŵ*·x|: the part of the input that only a finite network feels."""

    def expect(self, f: Callable[[Array], Array], scale: float) -> float:
        """``⟨f(ζ)⟩`` by panelled Gauss–Legendre quadrature; ``scale`` is where f varies or has its kink."""
        z, weight = self.quadrature(scale)
        return float(weight @ f(z))


class Normal(ProjectionLaw):
    """Normal inputs of unit variance in each of ``d`` dimensions (eq. 13).

    >>> round(float(Normal(100).mean_below(1.0)), 6)
    0.313943
    """

    m1 = math.sqrt(2.0 / math.pi)
    density_at_zero = math.sqrt(2.0 / math.pi)

    def __init__(self, d: int):
        self.d = d

    def cdf(self, z: Values) -> Values:
        return special.erf(z / math.sqrt(2.0))

    def mean_below(self, z: Values) -> Values:
        return -self.m1 * np.expm1(-np.square(z) / 2.0)

    def quadrature(self, scale: float) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
        z, weight = _panels(_edges(scale, 10.0))
        return z, weight * self.density_at_zero * np.exp(-np.square(z) / 2.0)

    def perp_sq(self, x_par: Values) -> Values:
        return np.full_like(x_par, self.d - 1.0)


class Sphere(ProjectionLaw):
    """Inputs uniform on the sphere of the given radius in ``d`` dimensions (eq. 14; radius 1 in the paper)."""

    def __init__(self, d: int, radius: float = 1.0):
        self.d, self.radius = d, radius

    @cached_property
    def m1(self) -> float:
        log_ratio = special.gammaln(self.d / 2.0) - special.gammaln((self.d + 1.0) / 2.0)
        return self.radius * math.exp(log_ratio) / math.sqrt(math.pi)

    @cached_property
    def density_at_zero(self) -> float:
        return (self.d - 1.0) * self.m1 / self.radius**2

    def _cosine(self, z: Values) -> Values:
        return np.minimum(np.asarray(z) / self.radius, 1.0)

    def cdf(self, z: Values) -> Values:
        return special.betainc(0.5, (self.d - 1.0) / 2.0, self._cosine(z) ** 2)

    def mean_below(self, z: Values) -> Values:
        # ⟨cos θ 1[cos θ < u]⟩ ∝ 1 − (1 − u²)^((d−1)/2), in logarithms so that small u keeps its digits
        with np.errstate(divide="ignore"):
            return -self.m1 * np.expm1((self.d - 1.0) / 2.0 * np.log1p(-(self._cosine(z) ** 2)))

    def quadrature(self, scale: float) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
        # with ẑ = sin φ the density is cos^(d−2) φ: smooth up to the rim in every dimension
        upper = min(math.pi / 2.0, 10.0 / math.sqrt(self.d))
        phi, weight = _panels(_edges(math.asin(min(scale / self.radius, 1.0)), upper))
        density = self.density_at_zero * self.radius * np.exp((self.d - 2.0) * np.log(np.cos(phi)))
        return self.radius * np.sin(phi), weight * density

    def perp_sq(self, x_par: Values) -> Values:
        return np.maximum(self.radius**2 - np.square(x_par), 0.0)


class Radial(ProjectionLaw):
    """Spherical inputs with any law of the radius |x|: a mixture of spheres, averaged by quadrature.

    Args:
        d: Input dimension.
        radius: Frozen ``scipy.stats`` law on r > 0 with a density.
    """

    def __init__(self, d: int, radius: stats.distributions.rv_frozen):
        self.d, self.radius = d, radius
        lower, upper = max(float(radius.ppf(1e-15)), 0.0), float(radius.isf(1e-15))
        r, weight = _panels(np.linspace(lower, upper, 13))
        weight = weight * radius.pdf(r)
        keep = weight > 1e-18 * weight.max()
        self.r: Array = r[keep]
        self.weights: Array = weight[keep] / weight[keep].sum()
        self.unit = Sphere(d)

    @cached_property
    def m1(self) -> float:
        return float(self.weights @ self.r) * self.unit.m1

    @cached_property
    def density_at_zero(self) -> float:
        return float(self.weights @ (1.0 / self.r)) * self.unit.density_at_zero

    def cdf(self, z: Values) -> Values:
        return np.tensordot(self.weights, self.unit.cdf(np.multiply.outer(1.0 / self.r, z)), axes=1)

    def mean_below(self, z: Values) -> Values:
        below = self.unit.mean_below(np.multiply.outer(1.0 / self.r, z))
        return np.tensordot(self.weights * self.r, below, axes=1)

    def quadrature(self, scale: float) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
        parts = [self.unit.quadrature(scale / r) for r in self.r]
        nodes = np.concatenate([r * z for r, (z, _) in zip(self.r, parts, strict=True)])
        weights = np.concatenate([p * w for p, (_, w) in zip(self.weights, parts, strict=True)])
        return nodes, weights

    def perp_sq(self, x_par: Values) -> Values:
        # P(r | x∥) ∝ P(r) · density of r cos θ at x∥
        power = (self.d - 3.0) / 2.0
        r = self.r.reshape(-1, *([1] * np.ndim(x_par)))
        prior = self.weights.reshape(r.shape)
        inside = np.maximum(1.0 - np.square(x_par / r), 0.0)
        posterior = prior / r * np.where(inside > 0.0, inside, np.inf if power < 0 else 0.0) ** power
        total = posterior.sum(axis=0)
        mean = (posterior * (r**2 - np.square(x_par))).sum(axis=0) / np.where(total > 0.0, total, 1.0)
        return np.maximum(mean, 0.0)


class LabelNoise(ProjectionLaw):
    """A law of which a fraction ``flip`` of the labels is reversed (Sec. 3.4): ζ changes its sign there."""

    def __init__(self, clean: ProjectionLaw, flip: float):
        self.clean, self.flip = clean, flip

    @property
    def m1(self) -> float:
        return self.clean.m1

    @property
    def density_at_zero(self) -> float:
        return self.clean.density_at_zero

    def cdf(self, z: Values) -> Values:
        return (1.0 - self.flip) * self.clean.cdf(z) + self.flip

    def mean_below(self, z: Values) -> Values:
        return (1.0 - self.flip) * self.clean.mean_below(z) - self.flip * self.m1

    def quadrature(self, scale: float) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
        return self.clean.quadrature(scale)

    def perp_sq(self, x_par: Values) -> Values:
        return self.clean.perp_sq(x_par)

    def expect(self, f: Callable[[Array], Array], scale: float) -> float:
        z, weight = self.quadrature(scale)
        return float(weight @ ((1.0 - self.flip) * f(z) + self.flip * f(-z)))


def radius_law(spec: Mapping[str, object]) -> stats.distributions.rv_frozen:
    """The frozen ``scipy.stats`` law that ``{"name": …, **shape parameters}`` names.

    Raises:
        ValueError: Where scipy has no continuous law of that name, or not with these parameters.
    """
    parameters = dict(spec)
    name = str(parameters.pop("name", None))
    law = getattr(stats, name, None)
    if not isinstance(law, stats.rv_continuous):
        raise ValueError(f"{name!r} is not a continuous law of scipy.stats, such as 'gamma' or 'lognorm'")
    try:
        frozen = law(**parameters)
        lower, upper = frozen.support()
    except TypeError as error:
        raise ValueError(f"scipy.stats.{name} does not take {parameters}: {error}") from None
    if not (lower >= 0.0 and upper > lower):
        raise ValueError(f"a radius is positive, but scipy.stats.{name} with {parameters} lives on [{lower}, {upper}]")
    return frozen


def projection_law(
    inputs: str | ProjectionLaw, d: int, radius: Mapping[str, object] | None = None, flip: float = 0.0
) -> ProjectionLaw:
    """The law of ζ for ``inputs`` 'normal', 'sphere' or 'radial' (with ``radius``), with label noise ``flip``."""
    if isinstance(inputs, ProjectionLaw):
        law = inputs
    elif inputs == "normal":
        law = Normal(d)
    elif inputs == "sphere":
        law = Sphere(d)
    elif inputs == "radial" and radius is not None:
        law = Radial(d, radius_law(radius))
    else:
        raise ValueError(f"inputs={inputs!r}: allowed are normal, sphere, and radial with a law of the radius")
    return LabelNoise(law, flip) if flip > 0.0 else law
