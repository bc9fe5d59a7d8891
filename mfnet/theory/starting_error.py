"""The generalisation error with which a network of M nodes starts to learn N examples (Sec. 3.3; theory.md, 4).

While every example is unsatisfied all forces are equal, and F(x) ∝ (1/N) Σ_n K_M(x, x_n) y_n with the initial tangent
kernel, whatever the loss and α. With r = x·x′/d the kernel of infinitely many nodes is K = k₀ + k₁ r + k₂ r² + …: with
σ(z) = cz + e(z), only the linear part k₁ = c²(A² + B²) carries signal; k₀ = (E e(z))² makes an
offset out of the class imbalance (the layer of w has no constant part), and k₂ = B²(A² + B²/2)(E σ″(z))².

Measured (normal inputs, ReLU; mean and standard error; the last column is (1/π) arctan r of theory.md, 4):

======  ====  ===  =====  =============  ================  ===========
N       M     d    draws  simulation     `starting_error`  first order
======  ====  ===  =====  =============  ================  ===========
4000    400   100  100    .209 ± .009    .208              .205
10000   400   100  60     .158 ± .009    .162              .159
100000  400   100  20     .124 ± .008    .115              .115
4000    400   30   100    .0855 ± .0031  .0924             .0903
1000    1000  20   100    .103 ± .005    .105              .100
1000    200   50   100    .216 ± .009    .215              .210
2000    4000  100  40     .227 ± .021    .243              .240
======  ====  ===  =====  =============  ================  ===========

The 0.185 ± 0.012 that theory.md has for the first row were few draws. Single draws are spread by 30 to 50 % of the
value: `realised_starting_error` takes the actual ones, and follows them with an r.m.s. deviation of 7 to 14 % and a
correlation of 0.98 to 0.99 (12 draws each of rows 1, 4, 5 and 6).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import special

from mfnet.theory.arrays import Array
from mfnet.theory.finite_width import FiniteWidth
from mfnet.theory.mean_field import MeanField
from mfnet.theory.node_kernel import curvature_weight, even_moments
from mfnet.theory.overlay import Draw

#: sinh γ at which the spread of an output is taken in units of γ.
_SMALL = 1e-6


def kernel_coefficients(mean_field: MeanField) -> tuple[float, float, float]:
    """(k₀, k₁, k₂) of the initial tangent kernel at inputs of r.m.s. length.

    1/2π, ½ and 3/4π for ReLU, |x|² = d and unit variances.
    """
    mean, curvature = _even(mean_field)
    linear = mean_field.odd_slope**2 * (mean_field.a_std**2 + mean_field.w_std**2)
    return mean**2, linear, (curvature_weight(mean_field.a_std**2, mean_field.w_std) * curvature) ** 2


def _even(mean_field: MeanField) -> tuple[float, float]:
    """E e(z) and E σ″(z) at t = 0, for inputs of r.m.s. length."""
    s = mean_field.w_std * math.sqrt(_length_square(mean_field))
    activation = mean_field.nonlinearity
    activation.need("even", "the starting error")
    even = even_moments(activation, np.array([s]))
    return float(even.mean[0]), float(even.curvature[0])


def _length_square(mean_field: MeanField) -> float:
    """⟨|x|²⟩/d."""
    law = mean_field.law
    x_par, weight = law.quadrature(law.m1)
    return float(weight @ (x_par**2 + law.perp_sq(x_par))) / mean_field.d


def starting_error(
    mean_field: MeanField, N: float | int, M: float | int = math.inf, init: str = "independent"
) -> float:
    """ε₀(N, M, d), averaged over training sets and initial nodes; first order in 1/N and 1/M, with their product.

    At fixed x, F is normal over the draws with mean μ = k₁ (1 − 2ε) m₁ x∥/d, so that ε₀ = E_x Φ(−μ/σ). The variance
    has the part of the training set, Var[K(x, x_n) y_n]/N to second order in r, and that of the nodes,
    `FiniteWidth.output_std` for γ → 0, which also acts on what the training set adds to the signal: the factor
    1 + s⁴d/(N m²), m = (1 − 2ε) m₁, s² = ⟨|x|²⟩/d. To leading order it is (1/π) arctan r of theory.md, 4.

    Args:
        mean_field: d, activation, and the law of the inputs, which count with their r.m.s. length, with label noise ε.
        N: Training examples; inf is allowed.
        M: Nodes; inf is allowed.
        init: How they are drawn. The part of balanced nodes is 0 from M = 4d on, as if there were infinitely many:
            what is left of theirs is of order 1/(NM). For M < 4d, d/(2M) becomes d/M − 1/4.

    Raises:
        ValueError: If N or M is below 1, or M is no multiple of 4 for balanced nodes.
    """
    if not (N >= 1.0 and M >= 1.0):
        raise ValueError(f"N={N!r} and M={M!r} must be at least 1")
    d, law = mean_field.d, mean_field.law
    k0, k1, k2 = kernel_coefficients(mean_field)
    length = _length_square(mean_field)
    m = (1.0 - 2.0 * law.flip) * law.m1
    r2 = length**2 / d  # ⟨r²⟩, r nearly normal
    sample = (k0**2 + 2.0 * k0 * k2 * r2 + 3.0 * (k2 * r2) ** 2 + k1**2 * r2) / N
    x_par, weight = law.quadrature(min(law.m1, math.sqrt(sample) * d / (k1 * m)) if sample > 0.0 else law.m1)
    mu = k1 * m * x_par / d
    variance = np.maximum(sample - mu**2 / N, 0.0)
    if math.isfinite(M):
        nodes = _node_variance(FiniteWidth(replace(mean_field, flip=0.0), M, init), x_par)
        variance = variance + nodes * (k1 * m) ** 2 * (1.0 + length * d / (N * m**2))
    return float(weight @ special.ndtr(-mu / np.sqrt(np.maximum(variance, 1e-300))))


def _node_variance(theory: FiniteWidth, x_par: Float[Array, " q"]) -> Float[Array, " q"]:
    """Variance over the nodes of F(x) at t → 0, F normalised so that its mean is x∥/d."""
    ones = np.ones_like(x_par)
    std = theory.output_std(x_par, ones, _SMALL * ones)
    return (std / (theory.mean_field.slope(ones, _SMALL * ones) * theory.mean_field.d)) ** 2


def realised_starting_error(mean_field: MeanField, draw: Draw, nodes: Literal["mean", "actual"] = "actual") -> float:
    """ε₀ of one run, on the law of the inputs, from a few averages of its draw; no N × M array.

    The linear and constant parts of F are exact, given the averages ⟨y⟩ and ⟨yx⟩ of the training set and, for actual
    nodes, their first two moments:

        d F(x) = c² x·(S + ⟨a²⟩)⟨yx⟩ + c √d (Eσ w̄·x ⟨y⟩ + Eσ w̄·⟨yx⟩) + d k₀ ⟨y⟩ + (quadratic part)

    The quadratic part is a traceless form in x⊥, made by ⟨y x xᵀ⟩ and by actual nodes; it counts as a normal number
    of the same variance. Only its realisation, and terms of third order, are left to chance.

    Args:
        mean_field: Activation and the law of the inputs.
        draw: The run's training set, and its initial nodes.
        nodes: 'actual' nodes, or their 'mean', infinitely many.

    Raises:
        ValueError: If d of ``mean_field`` and of the draw differ.
    """
    d, law, direction = mean_field.d, mean_field.law, draw.direction
    if draw.x.shape[1] != d:
        raise ValueError(f"the draw has inputs in {draw.x.shape[1]} dimensions, and mean_field d={d}")
    c, length = mean_field.odd_slope, _length_square(mean_field)
    e, curvature = _even(mean_field)
    _, linear, quadratic = kernel_coefficients(mean_field)
    y_mean, yx = float(draw.y.mean()), draw.x.T @ draw.y / len(draw.y)
    v, offset = linear * yx, d * e**2 * y_mean
    form = quadratic / d * (draw.x.T @ (draw.x * draw.y[:, None])) / len(draw.y)
    offset += length * float(np.trace(form))
    if nodes == "actual":
        a, w = draw.a0, draw.w0
        mean = w.mean(axis=0) * (c * math.sqrt(d) * e)
        v = c**2 * (w.T @ (w @ yx) / len(w) + float(a @ a) / len(a) * yx) + mean * y_mean
        offset += float(mean @ yx)
        gain = (c * math.sqrt(d) * (w @ yx) + d * e * y_mean) / (2.0 * len(w))  # of Hermite's second polynomial of z
        form = form + curvature / d * (w.T @ (w * gain[:, None]))
    across = np.eye(d) - np.outer(direction, direction)
    form = across @ form @ across
    form -= across * (np.trace(form) / (d - 1.0))
    v_par = float(v @ direction)
    v_perp_sq = float(v @ v) - v_par**2

    at_zero = float(law.perp_sq(np.zeros(1))[0]) / (d - 1.0)
    open_to = max(abs(offset), math.sqrt(v_perp_sq * at_zero)) / max(
        v_par, 1e-300
    )  # x∥ below which the sign of F is open
    x_par, weight = law.quadrature(min(law.m1, open_to) if open_to > 0.0 else law.m1)
    perp = law.perp_sq(x_par) / (d - 1.0)
    std = np.sqrt(v_perp_sq * perp + 2.0 * float(np.sum(form**2)) * perp**2)
    sides = special.ndtr(-(v_par * x_par + offset) / std) + special.ndtr(-(v_par * x_par - offset) / std)
    return float(weight @ sides) / 2.0
