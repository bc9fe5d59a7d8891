"""The onset of overfitting: where a test error has its minimum, and how that place scales (theory.md, 4)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mfnet.theory.arrays import Array

#: Half-width in ln t of the stretch to which the parabola is fitted: a factor of two and a half to either side.
_HALF_WIDTH = math.log(2.5)


class Onset(NamedTuple):
    """Minimum of a test error: its time, the unsatisfied fraction there, and its value.

    ``inside`` is False where the test error was still falling (or flat) at the end: the others then belong to the end.
    """

    t: float
    unsatisfied: float
    test_error: float
    inside: bool


def onset(t: Float[Array, " T"], test_error: Float[Array, " T"], unsatisfied: Float[Array, " T"]) -> Onset:
    """The minimum of ``test_error``, smoothed by a parabola in ln t.

    The minimum is flat, and the test error a count: its lowest point wanders by a factor of two in t from draw to draw.
    The parabola is fitted by least squares, with weights that fall to zero at a factor 2.5 in t from the lowest point.

    Args:
        t: Times, increasing; those at t = 0 are left out.
        test_error: Test errors.
        unsatisfied: Fractions of unsatisfied examples.

    Raises:
        ValueError: With fewer than four times above 0.
    """
    later = t > 0.0
    if later.sum() < 4:
        raise ValueError(f"the minimum of a test error needs at least four times above 0, and has {int(later.sum())}")
    log_t, error = np.log(t[later]), test_error[later]
    lowest = int(np.argmin(error))
    offset = log_t - log_t[lowest]
    near = np.abs(offset) < _HALF_WIDTH
    if near.sum() < 4:  # observed too rarely
        near[np.argsort(np.abs(offset))[:4]] = True
    width = max(_HALF_WIDTH, 1.001 * float(np.abs(offset[near]).max()))
    root_weight = np.sqrt(1.0 - (offset[near] / width) ** 2)
    curvature, slope, level = np.polyfit(offset[near], error[near], 2, w=root_weight)
    bottom = -slope / (2.0 * curvature) if curvature > 0.0 else math.inf
    inside = bool(offset[near].min() < bottom < offset[near].max() and lowest < len(error) - 1)
    if inside:
        value = level + slope * bottom + curvature * bottom**2
    else:
        bottom, value = 0.0, float(error[lowest])
    place = bottom + log_t[lowest]
    n_u = float(np.interp(place, log_t, unsatisfied[later]))
    return Onset(math.exp(place), n_u, float(value), inside)


def onset_unsatisfied_law(N: float | int, d: int) -> float:
    """n_u ∝ (d/N)^{1/3} at the onset. A scaling: the exponent is predicted, the constant (here 1) is not.

    The signal J ~ n_u² meets the noise √(n_u d/N) of the d − 1 other directions.

    It is not seen for N/d up to 500: there n_u at the minimum grows with N/d, as long as the training set is fitted
    soon after it. `KernelClosure` (M = ∞, d = 30, α = 1, four draws) finds 0.004, 0.08, 0.15, 0.16, 0.19, 0.21 at
    N = 500, 1000, 2000, 4000, 8000, 16000; networks (M = 1600, two draws) 0.08 ± 0.04 at 2000 and 0.16 ± 0.01 at 16000.
    """
    return (d / N) ** (1.0 / 3.0)


def onset_time_exponent(*, lazy: bool) -> float:
    """ν in t_onset ∝ (N/d)^ν (a scaling): ⅔ in the rich regime, where n_u ∝ t^{−1/2}; 1 in the lazy one, t^{−1/3}."""
    return 1.0 if lazy else 2.0 / 3.0
