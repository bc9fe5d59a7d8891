"""Answers that are kept: runs that differ in their seeds alone ask the theory of averages the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

#: Answers of a function that are kept.
KEPT = 32


class _Array:
    """An array as part of a key."""

    def __init__(self, values: np.ndarray):
        self.values = values.copy()
        self.key = values.tobytes(), values.shape, values.dtype.str

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Array) and self.key == other.key


def remembered(function: Callable[..., T]) -> Callable[..., T]:
    """Keeps the last answers of a function of theories, numbers and arrays, which nobody may change.

    A theory that cannot be told from others by its settings, as one of a draw, is asked each time.
    """

    @lru_cache(maxsize=KEPT)
    def asked(*key: Any) -> T:
        return function(*(part.values if isinstance(part, _Array) else part for part in key))

    @wraps(function)
    def answer(*arguments: Any) -> T:
        key = tuple(_Array(part) if isinstance(part, np.ndarray) else part for part in arguments)
        try:
            hash(key)
        except TypeError:
            return function(*arguments)
        return asked(*key)

    return answer
