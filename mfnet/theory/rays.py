"""Averages over inputs of a few latent directions: half-lines, divided where the integrand is not smooth.

A label rule jumps along a half-line, and the force of a loss has its kink where the margin crosses a level. Both become
ends of panels, so that Gauss–Legendre quadrature on each of them converges as for a smooth function, and what crosses
the margin moves through it without a stutter. Directions are those of panels in angle, whose ends are where the rule
jumps along a whole half-line, as for XOR.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline

from mfnet.theory.arrays import Array
from mfnet.theory.latent import LatentLaw

#: Radii between panels of every half-line, as fractions of the reach.
_EDGES = {
    1: (0.0, 0.015, 0.06, 0.15, 0.3, 0.5, 1.0),
    2: (0.0, 0.08, 0.2, 0.35, 0.55, 1.0),
    3: (0.0, 0.15, 0.3, 0.5, 1.0),
}

#: Gauss–Legendre points of a panel in radius, and of one in angle, by the number of latent directions.
_RADIAL, _ANGULAR = {1: 12, 2: 8, 3: 6}, {1: 1, 2: 5, 3: 3}

#: Radii at which the output is looked at for crossings, denser towards 0.
_LOOKED = {1: 96, 2: 32, 3: 24}


class Points(NamedTuple):
    """Inputs (u, |x⊥|), their weights in an average over them, and E[y | u]."""

    u: Float[Array, "q k"]
    length: Float[Array, " q"]
    weights: Float[Array, " q"]
    mean_label: Float[Array, " q"]


class Rays:
    """Half-lines that cover the latent space of a law, once for each of a few lengths |x⊥|.

    Args:
        law: The law of (u, y).
        lengths: Values of |x⊥|, of equal weight.
    """

    def __init__(self, law: LatentLaw, lengths: Float[Array, " l"]):
        self.law = law
        directions, weights = _directions(law, _ANGULAR[law.k])
        self.directions = np.tile(directions, (len(lengths), 1))
        self.weights = np.tile(weights / len(lengths), len(lengths))
        self.lengths = np.repeat(lengths, len(directions))
        self._x, self._w = np.polynomial.legendre.leggauss(_RADIAL[law.k])
        stretched = np.expm1(3.0 * np.linspace(0.0, 1.0, _LOOKED[law.k]))
        self.radii = law.reach * stretched / stretched[-1]
        self._edges = np.concatenate(
            [np.tile(law.reach * np.array(_EDGES[law.k]), (len(self.directions), 1)), self._jumps()], axis=1
        )

    @property
    def panel(self) -> int:
        """Points of a panel; those of one follow each other."""
        return len(self._x)

    @property
    def looked(self) -> tuple[Float[Array, "p k"], Float[Array, " p"]]:
        """(u, |x⊥|) at which the output has to be known to find its crossings."""
        u = (self.directions[:, None, :] * self.radii[:, None]).reshape(-1, self.law.k)
        return u, np.repeat(self.lengths, len(self.radii))

    def _jumps(self) -> Float[Array, "r j"]:
        """Radii at which the rule jumps, of each half-line."""
        if self.law.rule is None:
            return np.empty((len(self.directions), 0))
        grid = np.linspace(0.0, self.law.reach, 1001)[1:]
        n_rays = len(self.directions)

        def label(radius: Float[Array, "r c"]) -> Array:
            return self.law.mean_label((self.directions[:, None, :] * radius[..., None]).reshape(-1, self.law.k))

        labels = label(np.tile(grid, (n_rays, 1))).reshape(n_rays, -1)
        ray, at = np.nonzero(np.diff(labels, axis=1))
        low, high = grid[at], grid[at + 1]
        for _ in range(50):
            middle = 0.5 * (low + high)
            u = self.directions[ray] * middle[:, None]
            same = self.law.mean_label(u) == labels[ray, at]
            low, high = np.where(same, middle, low), np.where(same, high, middle)
        return _by_ray(ray, high, n_rays, self.law.reach)

    def first_crossing(self, output: Float[Array, " p"], level: float) -> float:
        """The smallest radius on the first half-line at which the output crosses a level; inf where it never does."""
        _, radii = _crossings(self.radii, output.reshape(len(self.directions), -1)[:1], np.array([level]))
        return float(radii.min(initial=math.inf))

    def points(self, output: Float[Array, " p"], levels: Float[Array, " l"]) -> Points:
        """Quadrature points of panels that end where the output crosses one of the ``levels``.

        Args:
            output: The output at `looked`.
            levels: Levels of the output.
        """
        n_rays = len(self.directions)
        found = _crossings(self.radii, output.reshape(n_rays, -1), levels)
        edges = np.sort(np.concatenate([self._edges, _by_ray(*found, n_rays, self.law.reach)], axis=1), axis=1)
        half, middle = np.diff(edges) / 2.0, (edges[:, 1:] + edges[:, :-1]) / 2.0
        ray, panel = np.nonzero(half > 0.0)
        half, middle = half[ray, panel][:, None], middle[ray, panel][:, None]
        radius = middle + half * self._x
        u = (self.directions[ray][:, None, :] * radius[..., None]).reshape(-1, self.law.k)
        weights = (self.weights[ray][:, None] * half * self._w * radius ** (self.law.k - 1)).ravel()
        lengths = np.repeat(self.lengths[ray], len(self._x))
        return Points(u, lengths, weights * self.law.density(u), self.law.mean_label(u))


def _by_ray(ray: Array, radius: Array, n_rays: int, fill: float) -> Float[Array, "r j"]:
    """Radii of each half-line as rows of equal length, filled up."""
    order = np.argsort(ray, kind="stable")
    counts = np.bincount(ray, minlength=n_rays)
    rows = np.full((n_rays, counts.max(initial=0)), fill)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    rows[ray[order], np.arange(len(ray)) - starts] = radius[order]
    return rows


def _crossings(radii: Float[Array, " c"], output: Float[Array, "r c"], levels: Array) -> tuple[Array, Array]:
    """Half-lines and radii at which a cubic spline through the output crosses a level."""
    spline = CubicSpline(radii, output, axis=1)
    parts = 4
    fine = np.concatenate([(radii[:-1, None] + np.diff(radii)[:, None] * np.arange(parts) / parts).ravel(), radii[-1:]])
    values = spline(fine)
    rays, found = [], []
    for level in levels:
        ray, at = np.nonzero(np.diff(np.signbit(values - level), axis=1))
        interval = at // parts
        coefficients = spline.c[:, interval, ray]
        low, high = fine[at], fine[at + 1]
        start = values[ray, at] - level > 0.0
        for _ in range(40):
            middle = 0.5 * (low + high)
            step = middle - radii[interval]
            value = ((coefficients[0] * step + coefficients[1]) * step + coefficients[2]) * step + coefficients[3]
            same = (value - level > 0.0) == start
            low, high = np.where(same, middle, low), np.where(same, high, middle)
        rays.append(ray)
        found.append(0.5 * (low + high))
    return np.concatenate(rays), np.concatenate(found)


def _directions(law: LatentLaw, n: int) -> tuple[Float[Array, "r k"], Float[Array, " r"]]:
    """Unit vectors and their weights, in sum the surface of the unit sphere."""
    x, w = np.polynomial.legendre.leggauss(n)
    if law.k == 1:
        return np.array([[1.0], [-1.0]]), np.ones(2)
    if law.k == 2:
        angles = np.unique(np.concatenate([np.arange(9) * math.pi / 4.0, _angular_jumps(law)]))
        angles = angles[np.concatenate([[True], np.diff(angles) > 1e-9])]
        half, middle = np.diff(angles)[:, None] / 2.0, (angles[1:] + angles[:-1])[:, None] / 2.0
        theta, weights = (middle + half * x).ravel(), (half * w).ravel()
        return np.column_stack([np.cos(theta), np.sin(theta)]), weights
    # k = 3: eight octants, each with panels in the cosine of the polar angle and in azimuth
    cosine = np.concatenate([(x - 1.0) / 2.0, (x + 1.0) / 2.0])
    azimuth = (math.pi / 2.0 * (np.arange(4)[:, None] + (x + 1.0) / 2.0)).ravel()
    weights = np.outer(np.tile(w / 2.0, 2), np.tile(w * math.pi / 4.0, 4))
    c, phi = np.meshgrid(cosine, azimuth, indexing="ij")
    s = np.sqrt(1.0 - c**2)
    return np.column_stack([(s * np.cos(phi)).ravel(), (s * np.sin(phi)).ravel(), c.ravel()]), weights.ravel()


def _angular_jumps(law: LatentLaw) -> Float[Array, " j"]:
    """Angles at which the rule jumps at unit radius, for two directions: those of jumps along whole half-lines."""
    if law.rule is None:
        return np.empty(0)
    grid = np.linspace(0.0, 2.0 * math.pi, 1025) + 1e-4

    def label(angle: Array) -> Array:
        return law.mean_label(np.column_stack([np.cos(angle), np.sin(angle)]))

    labels = label(grid)
    at = np.flatnonzero(np.diff(labels))
    low, high = grid[at], grid[at + 1]
    for _ in range(50):
        middle = 0.5 * (low + high)
        same = label(middle) == labels[at]
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return np.mod(high, 2.0 * math.pi)


def typical_lengths(n: int) -> Float[Array, " l"]:
    """Two lengths of equal weight with the mean and the variance of that of a normal vector in n dimensions."""
    mean = math.sqrt(2.0) * math.exp(math.lgamma((n + 1) / 2.0) - math.lgamma(n / 2.0))
    return mean + math.sqrt(n - mean**2) * np.array([-1.0, 1.0])
