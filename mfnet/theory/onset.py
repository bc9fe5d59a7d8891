"""The onset of overfitting: where a test error has its minimum."""

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


def first_minimum(t: Float[Array, " T"], test_error: Float[Array, " T"], unsatisfied: Float[Array, " T"]) -> Onset:
    """The first minimum of a smooth ``test_error``, by the parabola in ln t through three points.

    Args:
        t: Times above 0, increasing.
        test_error: Test errors.
        unsatisfied: Fractions of unsatisfied examples.
    """
    falling = np.diff(test_error) < 0.0
    turns = np.flatnonzero(falling[:-1] & ~falling[1:]) + 1
    if len(turns) == 0:
        return Onset(float(t[-1]), float(unsatisfied[-1]), float(test_error[-1]), False)
    near = slice(turns[0] - 1, turns[0] + 2)
    log_t = np.log(t)
    parabola = np.polynomial.Polynomial.fit(log_t[near], test_error[near], 2)
    place = float(parabola.deriv().roots()[0])
    return Onset(math.exp(place), float(np.interp(place, log_t, unsatisfied)), float(parabola(place)), True)
