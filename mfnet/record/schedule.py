"""When a run is observed: increasing times from 0, logarithmically spaced or listed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

#: Observations that a run may have, and steps that anything may take.
MOST_OBSERVATIONS, MOST_STEPS = 10**6, 10**9

#: Least distance of two times, relative to the later one: adaptive steps are no shorter.
CLOSEST = 1e-10


def round_to_digit(value: float) -> float:
    """``value`` to one significant digit, so that automatic times read well.

    >>> round_to_digit(49.07), round_to_digit(0.1356)
    (50.0, 0.1)
    """
    return float(f"{value:.0e}")


def log_spaced(
    time_scale: float, t_min: float | None = None, t_max: float | None = None, per_decade: int = 16
) -> Float[np.ndarray, " K"]:
    """0, then ``per_decade`` times a decade from ``t_min``, ending at ``t_max`` exactly.

    Where they are None the run covers four decades around ``time_scale``, the theory's natural unit of
    time: 1/400 to 25 of it, rounded to one digit.

    Raises:
        ValueError: For more times than a run may have.
    """
    unit = round_to_digit(time_scale)
    end = 25.0 * unit if t_max is None else t_max
    start = min(unit / 400.0, end / 10.0) if t_min is None else t_min
    count = math.floor(per_decade * math.log10(end / start) - 1e-6) + 1 if start < end else 0
    if count > MOST_OBSERVATIONS:
        raise ValueError(f"per_decade={per_decade} would be {count:.3g} observations, and {MOST_OBSERVATIONS} are most")
    times = start * 10.0 ** (np.arange(count) / per_decade)
    return np.concatenate([[0.0], times, [end]])


def steps_between(times: Float[np.ndarray, " K"], dt: float) -> float:
    """Steps no longer than ``dt`` into which the intervals between times are divided.

    >>> steps_between(np.array([0.0, 1.0, 3.0]), 0.5)
    6.0
    """
    return float(np.ceil(np.diff(times) / dt).sum())


def listed(time_scale: float, times: Sequence[float]) -> Float[np.ndarray, " K"]:
    """0 and the given times, in increasing order."""
    del time_scale  # a list needs no unit
    return np.unique(np.concatenate([[0.0], np.asarray(times, dtype=float)]))
