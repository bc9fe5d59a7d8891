"""An activation averaged over the part of its argument that no latent direction knows.

With z = μ + sξ a node of `mfnet.theory.characteristics` needs S(μ, s) = E σ(z) and its slopes by μ and by s. Here
ξ = √n c, with c the cosine of the angle between two random directions of the other n dimensions. It has variance 1, and
is normal up to a fourth cumulant of −6/(n + 2): its density is e^{−ξ²/2} (1 + κ He₄(ξ))/√(2π), κ = −1/(4(n + 2)), up to
terms of order 1/n². So S = S₀ + κ s⁴ ∂⁴S₀/∂μ⁴, S₀ being that of a normal ξ.

There are closed forms for ReLU and its kin, ReLU², erf and linear. Any other activation is summed over ξ by the
trapezoidal rule, whose error falls exponentially for a smooth σ: for tanh, sigmoid, SiLU, GELU and softplus it is below
1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import erf, ndtr

from mfnet.theory.activations import ACTIVATIONS, Activation
from mfnet.theory.arrays import Array

_ROOT_2PI = math.sqrt(2.0 * math.pi)

#: Steps of the trapezoidal rule: ξ from −`_REACH` to `_REACH`, so far apart that sξ steps by `_STEP` at most.
_REACH, _STEP = 7.0, 0.6

#: Least spread s; below it S differs from its value there by O(s²).
_SMALLEST = 1e-4

#: Elements of the largest temporary of the trapezoidal rule.
_ELEMENTS = 2**20


class Smoothed(NamedTuple):
    """S = E σ(μ + sξ) and its slopes."""

    value: Float[Array, "m q"]
    by_mean: Float[Array, "m q"]  # ∂S/∂μ
    by_spread: Float[Array, "m q"]  # ∂S/∂s


def smoothed(
    activation: Activation, mean: Float[Array, "m q"], spread: Float[Array, "m q"], kappa: float = 0.0
) -> Smoothed:
    """S and its slopes at μ = ``mean``, s = ``spread``.

    Args:
        activation: σ.
        mean, spread: μ and s; S is even in s.
        kappa: Weight κ of He₄ in the density of ξ; 0 for a normal one.

    Raises:
        ValueError: If nothing is known of the activation but its odd slope.
    """
    s = np.maximum(np.abs(spread), _SMALLEST)
    closed = _CLOSED.get(activation.name) if ACTIVATIONS.get(activation.name) is activation else None
    if activation.kink is not None:
        c, kink = activation.odd_slope, activation.kink
        value, by_mean, by_spread = _rectified(mean, s, kappa)  # |z| = 2 max(z, 0) − z
        found = ((c - kink) * mean + 2.0 * kink * value, c - kink + 2.0 * kink * by_mean, 2.0 * kink * by_spread)
    elif closed is not None:
        found = closed(mean, s, kappa)
    else:
        found = _summed(activation, mean, s, kappa)
    return Smoothed(found[0], found[1], np.where(spread < 0.0, -found[2], found[2]))


_Parts = tuple[Array, Array, Array]


def _rectified(mean: Array, s: Array, kappa: float) -> _Parts:
    x = mean / s
    above, density, square = ndtr(x), np.exp(-0.5 * x * x) / _ROOT_2PI, x * x
    more = kappa * density
    return (
        mean * above + s * (density + more * (square - 1.0)),
        above + more * x * (3.0 - square),
        density + more * (square * (square - 2.0) - 1.0),
    )


def _rectified_square(mean: Array, s: Array, kappa: float) -> _Parts:
    first, above, density = _rectified(mean, s, 0.0)
    x = mean / s
    more = 2.0 * kappa * density * s
    return (
        mean * first + s * s * above - more * s * x,
        2.0 * first - more * (1.0 - x * x),
        2.0 * s * above - more * x * (1.0 + x * x),
    )


def _erf(mean: Array, s: Array, kappa: float) -> _Parts:
    width = np.sqrt(1.0 + 2.0 * s * s)
    x = mean / width
    slope, square = 2.0 / math.sqrt(math.pi) * np.exp(-x * x) / width, x * x
    fourth = -slope * x * (8.0 * square - 12.0) / width**3  # ∂⁴S₀/∂μ⁴, and so on
    fifth = slope * (16.0 * square * square - 48.0 * square + 12.0) / width**4
    sixth = -slope * x * (32.0 * square * square - 160.0 * square + 120.0) / width**5
    return (
        erf(x) + kappa * s**4 * fourth,
        slope + kappa * s**4 * fifth,
        -2.0 * s * x * slope / width + kappa * s**3 * (4.0 * fourth + s * s * sixth),
    )


_CLOSED: dict[str, Callable[[Array, Array, float], _Parts]] = {"relu_squared": _rectified_square, "erf": _erf}


def _summed(activation: Activation, mean: Array, s: Array, kappa: float) -> _Parts:
    """Slopes by parts: with p the density of ξ, E σ′(z) = −∫ σ p′/s and E ξσ′(z) = −∫ σ (ξp)′/s."""
    value = activation.need("value", "Hydrodynamic")
    points = 2 * math.ceil(_REACH / _STEP * max(1.0, float(s.max()))) + 1
    xi = np.linspace(-_REACH, _REACH, points)
    normal = np.exp(-0.5 * xi**2)
    normal /= normal.sum()
    fourth, fifth = xi**4 - 6.0 * xi**2 + 3.0, xi**5 - 10.0 * xi**3 + 15.0 * xi  # He₄, He₅
    density, slope = normal * (1.0 + kappa * fourth), normal * (xi + kappa * fifth)  # p and −p′
    moments = np.column_stack([density, slope, xi * slope - density])
    parts = np.empty((*mean.shape, 3))
    rows = max(1, _ELEMENTS // (mean.shape[1] * points))
    for start in range(0, len(mean), rows):
        which = slice(start, start + rows)
        parts[which] = value(mean[which, :, None] + s[which, :, None] * xi) @ moments
    return parts[..., 0], parts[..., 1] / s, parts[..., 2] / s
