"""Laws of the projection on the reference direction.

The mean-field equations see the data through one number per example, the signed projection
``ζ = y ŵ*·x``. A law answers three questions about it: the probability of ``ζ < z`` (the
unsatisfied fraction), the mean ``⟨ζ 1[ζ < z]⟩`` (the drive J of the hinge loss, eq. 13 and 14),
and the average of any function (every other loss).

Why one number is enough: a node is driven by ``⟨φ y σ′(z) x⟩`` with ``φ = φ(αyF)``. If x and −x are equally likely,
``φ y x`` is even while F is odd, so of σ′(z) = c + e′(z), with e′ odd, only ``c⟨φ y x⟩`` is left, the same for all
nodes. While F = s x∥, φ and y depend on x∥ alone; if x⊥ and −x⊥ are equally likely at given x∥, ``⟨φ y x⊥⟩ = 0``. So
nodes move in (a, w∥) only, F stays s x∥, and the clock is driven by ``J = ⟨φ(αsζ) ζ⟩``. Spherical symmetry is more than
that takes: elongated inputs (`Elongated`) have the two symmetries as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy import special, stats

from mfnet.theory.arrays import Array, Values
from mfnet.theory.law import ProjectionLaw, edges, panels
from mfnet.theory.overlap import Mixture


class Normal(ProjectionLaw):
    """Normal inputs of unit variance in each of ``d`` dimensions (eq. 13).

    >>> round(float(Normal(100).mean_below(1.0)), 6)
    0.313943
    """

    #: Standard deviation along ŵ*.
    stretch: float = 1.0

    def __init__(self, d: int):
        self.d = d

    @property
    def m1(self) -> float:
        return self.stretch * math.sqrt(2.0 / math.pi)

    @property
    def density_at_zero(self) -> float:
        return math.sqrt(2.0 / math.pi) / self.stretch

    def cdf(self, z: Values) -> Values:
        return special.erf(z / (math.sqrt(2.0) * self.stretch))

    def mean_below(self, z: Values) -> Values:
        return -self.m1 * np.expm1(-np.square(z / self.stretch) / 2.0)

    def density(self, z: Values) -> Values:
        return self.density_at_zero * np.exp(-np.square(z / self.stretch) / 2.0)

    def quadrature(self, scale: float) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
        z, weight = panels(edges(np.asarray(scale), 10.0 * self.stretch))
        return z, weight * self.density(z)

    def perp_sq(self, x_par: Values) -> Values:
        return np.full_like(x_par, self.d - 1.0)


class Elongated(Normal):
    """Normal inputs of standard deviation ``stretch`` along ŵ* and unit variance across it, in ``d`` dimensions.

    x∥ and x⊥ are independent and symmetric, so the mean-field solution closes (see above).

    >>> round(float(Elongated(100, 2.0).mean_below(2.0)), 6)  # twice that of Normal(100) at 1
    0.627886
    """

    def __init__(self, d: int, stretch: float):
        super().__init__(d)
        self.stretch = stretch


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

    def density(self, z: Values) -> Values:
        with np.errstate(divide="ignore"):  # infinite at the rim of a circle
            inside = (1.0 - self._cosine(z) ** 2) ** ((self.d - 3.0) / 2.0)
        return np.where(np.asarray(z) <= self.radius, self.density_at_zero * inside, 0.0)

    def quadrature(self, scale: float) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
        return self.quadratures(np.asarray(scale))

    def quadratures(self, scale: Float[Array, "*b"]) -> tuple[Float[Array, "*b q"], Float[Array, "*b q"]]:
        """The quadrature of every ``scale``, each a row."""
        # with ẑ = sin φ the density is cos^(d−2) φ: smooth up to the rim in every dimension
        upper = min(math.pi / 2.0, 10.0 / math.sqrt(self.d))
        phi, weight = panels(edges(np.asarray(np.arcsin(self._cosine(scale))), upper))
        density = self.density_at_zero * self.radius * np.exp((self.d - 2.0) * np.log(np.cos(phi)))
        return self.radius * np.sin(phi), weight * density

    def perp_sq(self, x_par: Values) -> Values:
        return np.maximum(self.radius**2 - np.square(x_par), 0.0)


class Radial(ProjectionLaw):
    """Spherical inputs with any law of the radius |x|: a mixture of spheres, averaged by quadrature.

    To 10⁻⁹ from d = 20 on. In few dimensions the rim of each sphere is a kink: 10⁻⁷ in d = 8, 2·10⁻⁴ in d = 3
    (measured for gamma laws of the radius, broad and narrow).

    Args:
        d: Input dimension.
        radius: Frozen ``scipy.stats`` law on r > 0 with a density.
    """

    def __init__(self, d: int, radius: stats.distributions.rv_frozen):
        self.d, self.radius = d, radius
        lower, upper = max(float(radius.ppf(1e-15)), 0.0), float(radius.isf(1e-15))
        even = np.linspace(lower, upper, 13)
        halving = even[1] * 0.5 ** np.arange(1, 17)  # what spheres say of z changes at r = z, however small z is
        r, weight = panels(np.concatenate([even[:1], halving[halving > lower][::-1], even[1:]]))
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

    def density(self, z: Values) -> Values:
        return np.tensordot(self.weights / self.r, self.unit.density(np.multiply.outer(1.0 / self.r, z)), axes=1)

    def quadrature(self, scale: float) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
        z, weight = self.unit.quadratures(scale / self.r)
        nodes, weights = (self.r[:, None] * z).ravel(), (self.weights[:, None] * weight).ravel()
        keep = weights > 1e-20  # of these there are 10⁵ or fewer
        return nodes[keep], weights[keep]

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
    def test(self) -> ProjectionLaw:
        return self.clean

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

    def density(self, z: Values) -> Values | None:
        density = self.clean.density(z)
        return None if density is None else (1.0 - self.flip) * density

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
    for key, value in parameters.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e30:
            raise ValueError(f"scipy.stats.{name} takes finite numbers, and {key}={value!r} is none")
    try:
        frozen = law(**parameters)
        lower, upper = frozen.support()
    except TypeError as error:
        raise ValueError(f"scipy.stats.{name} does not take {parameters}: {error}") from None
    if not (lower >= 0.0 and upper > lower):
        raise ValueError(f"a radius is positive, but scipy.stats.{name} with {parameters} lives on [{lower}, {upper}]")
    return frozen


def projection_law(
    inputs: str | ProjectionLaw,
    d: int,
    radius: Mapping[str, object] | None = None,
    flip: float = 0.0,
    stretch: float = 1.0,
    separation: float = 0.0,
) -> ProjectionLaw:
    """The law of ζ for ``inputs`` of a name; 'radial', 'elongated', 'mixture' have a parameter of their own.

    Label noise of fraction ``flip`` is laid over it.

    Raises:
        ValueError: For inputs of another name, or radial ones without a radius.
    """
    if isinstance(inputs, ProjectionLaw):
        law = inputs
    elif inputs == "normal":
        law = Normal(d)
    elif inputs == "sphere":
        law = Sphere(d)
    elif inputs == "radial" and radius is not None:
        law = Radial(d, radius_law(radius))
    elif inputs == "elongated":
        law = Elongated(d, stretch)
    elif inputs == "mixture":
        return Mixture(d, separation, flip)
    elif inputs == "empirical":
        raise ValueError("inputs='empirical' are the projections of one run: give the theory its draw first, of_draw")
    else:
        raise ValueError(
            f"inputs={inputs!r}: allowed are normal, sphere, elongated, mixture, empirical, and radial with a law of "
            "the radius"
        )
    return LabelNoise(law, flip) if flip > 0.0 else law
