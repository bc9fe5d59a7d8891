"""The tangent kernel of normal nodes, to second order in the overlap of two inputs (theory.md, 1 and 4).

Write σ(z) = cz + e(z), e even. Nodes with normal weights of covariance S have preactivations of variance
s² = x·Sx/d, and with r = x·x′/d

    K(x, x′) = c² x·(S + ⟨a²⟩)x′/d + E e(z) E e(z′) + B²(⟨a²⟩ + B²/2) E σ″(z) E σ″(z′) r² + κ(x) [x = x′]

where B² is the variance of the weights in a direction in which they have not grown, and r then leaves out the one in
which they have. At t = 0 this is k₁r + k₀ + k₂r² of theory.md, 4 (ReLU, unit variances: ½, 1/2π, 3/4π), and a self-term
that makes the diagonal right.
What is left out off the diagonal is of third order in r, and, where the weights have grown along one direction, the
dependence of σ′ on the side of an input (see `mfnet.theory.closures`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline

from mfnet.theory.activations import Activation
from mfnet.theory.arrays import Array

_XI, _WEIGHT = np.polynomial.hermite_e.hermegauss(64)
_WEIGHT = _WEIGHT / math.sqrt(2.0 * math.pi)

_NODES = 33  # of the spline in s


class EvenMoments(NamedTuple):
    """Averages over normal z of standard deviation s: E e, E σ″ (the measure of a kink counts), E e² and E e′²."""

    mean: Float[Array, " n"]
    curvature: Float[Array, " n"]
    square: Float[Array, " n"]
    slope_square: Float[Array, " n"]


def even_moments(activation: Activation, s: Float[Array, " n"]) -> EvenMoments:
    """Moments of the even part of ``activation`` at standard deviations ``s`` > 0.

    In closed form for homogeneous activations; else by 64-point Gauss–Hermite quadrature, on a spline in s.
    """
    if activation.kink is not None:
        beta, root = activation.kink, math.sqrt(2.0 / math.pi)
        return EvenMoments(beta * root * s, beta * root / s, beta**2 * s**2, np.full(s.shape, beta**2))
    lowest, highest = float(s.min()), float(s.max())
    if highest - lowest < 1e-9 * highest:
        table = _by_quadrature(activation, np.array([highest]))
        return EvenMoments(*(np.full(s.shape, float(values[0])) for values in table))
    grid = np.linspace(lowest, highest, _NODES)
    return EvenMoments(*(CubicSpline(grid, values)(s) for values in _by_quadrature(activation, grid)))


def _by_quadrature(activation: Activation, s: Float[Array, " n"]) -> EvenMoments:
    z, even = np.multiply.outer(s, _XI), activation.need("even", "the kernel of normal nodes")
    value = even(z)
    step = 1e-5
    slope = (even(z + step) - even(z - step)) / (2.0 * step)
    curvature = value @ (_WEIGHT * (_XI**2 - 1.0)) / s**2  # Stein's identity
    return EvenMoments(value @ _WEIGHT, curvature, value**2 @ _WEIGHT, slope**2 @ _WEIGHT)


class KernelParts(NamedTuple):
    """What the kernel needs to know of n inputs.

    Attributes:
        even: E e(z), the feature of the constant part.
        curved: `curvature_weight` times E σ″(z), the factor of the quadratic part.
        own: κ, the diagonal without the linear and the constant part; it contains that of the quadratic one.
    """

    even: Float[Array, " n"]
    curved: Float[Array, " n"]
    own: Float[Array, " n"]


def curvature_weight(a_square: float, w_std: float) -> float:
    """√(B²(⟨a²⟩ + B²/2)): what the quadratic part weighs for nodes with these second moments."""
    return w_std * math.sqrt(a_square + w_std**2 / 2.0)


def kernel_parts(
    activation: Activation, x: Float[Array, "n d"], sigma: Float[Array, "D D"], w_std: float
) -> KernelParts:
    """The parts of the kernel at inputs ``x``, for nodes (a, w) with second moments ``sigma`` ∈ R^{(d+1)×(d+1)}.

    ``w_std`` is B, the initial standard deviation of the weights.

    κ leaves out that a depends on z, which matters to no homogeneous activation (e′² is constant).
    """
    d, a_square = x.shape[1], float(sigma[0, 0])
    s = np.sqrt(np.maximum(np.einsum("nd,nd->n", x @ sigma[1:, 1:], x) / d, 1e-30))
    moments = even_moments(activation, s)
    lengths = np.einsum("nd,nd->n", x, x) / d
    own = moments.square - moments.mean**2 + a_square * lengths * moments.slope_square
    return KernelParts(moments.mean, curvature_weight(a_square, w_std) * moments.curvature, own)
