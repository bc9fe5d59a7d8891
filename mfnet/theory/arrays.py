"""Types of the theory's arguments and results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

Array = np.ndarray

#: ``Values``: a number, or an array of any shape; results have the shape of the argument.
#: ``Numbers``: a list of numbers will do as well. Both are checked at run time.
if TYPE_CHECKING:
    Values = Any
    Numbers = Any
else:
    Values = Float[np.ndarray, "..."] | float
    Numbers = Values | int | Sequence[float | int]
