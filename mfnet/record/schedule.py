"""When a run is observed: increasing times from 0, logarithmically spaced or listed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


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
    """
    unit = round_to_digit(time_scale)
    end = 25.0 * unit if t_max is None else t_max
    start = min(unit / 400.0, end / 10.0) if t_min is None else t_min
    count = math.floor(per_decade * math.log10(end / start) - 1e-6) + 1 if start < end else 0
    times = start * 10.0 ** (np.arange(count) / per_decade)
    return np.concatenate([[0.0], times, [end]])


def listed(time_scale: float, times: Sequence[float]) -> Float[np.ndarray, " K"]:
    """0 and the given times, in increasing order."""
    del time_scale  # a list needs no unit
    return np.unique(np.concatenate([[0.0], np.asarray(times, dtype=float)]))
