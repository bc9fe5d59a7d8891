"""Whether curves of different runs fall on one another when they are drawn against the right abscissa."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

#: Abscissae at which curves are compared, evenly spaced in the logarithm.
_PLACES = 101


class Points(NamedTuple):
    """A curve through points, linear in the logarithm of its abscissa, which increases from above 0."""

    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]


def spread(curves: Sequence[Points]) -> float:
    """How far curves are apart: 0 if they collapse, ½ if two are apart by the whole range of what is drawn.

    The root mean square, over ln x where all curves have values, of the standard deviation between them, relative to
    the range of all ordinates. Ordinates that are drawn on a logarithmic axis are given as logarithms.

    Raises:
        ValueError: If there are fewer than two curves, they have no common abscissae, or all ordinates are equal.

    >>> x = np.array([1.0, 10.0, 100.0])
    >>> round(spread([Points(x, np.log(x)), Points(10.0 * x, np.log(x))]), 3)  # one decade apart of three
    0.25
    """
    if len(curves) < 2:
        raise ValueError(f"a spread needs at least two curves, and there is {len(curves)}")
    first, last = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
    ordinates = np.concatenate([curve.y for curve in curves])
    if not first < last:
        raise ValueError(f"the curves have no common abscissae: some begin at {first:g}, others end at {last:g}")
    if np.ptp(ordinates) == 0.0:
        raise ValueError("all ordinates are equal")
    places = np.linspace(np.log(first), np.log(last), _PLACES)
    interpolated = [np.interp(places, np.log(curve.x), curve.y) for curve in curves]
    return float(np.sqrt(np.var(interpolated, axis=0).mean()) / np.ptp(ordinates))
