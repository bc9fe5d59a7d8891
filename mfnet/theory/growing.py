"""An array that grows by a row at a time, at the same cost however long it is."""

from __future__ import annotations

from typing import Any

import numpy as np


class Growing:
    """An array that rows are appended to.

    Args:
        rows: The rows that it has at first, if any.
    """

    def __init__(self, rows: np.ndarray | None = None):
        self._room: np.ndarray | None = None
        self._length = 0
        if rows is not None and len(rows) > 0:
            self._room, self._length = np.array(rows), len(rows)

    def append(self, row: Any) -> None:
        """Appends a row, of the shape and type of the first."""
        row = np.asarray(row)
        if self._room is None:
            self._room = np.empty((16, *row.shape), row.dtype)
        if self._length == len(self._room):
            more = np.empty((max(2 * self._length, 16), *row.shape), self._room.dtype)
            more[: self._length] = self._room
            self._room = more
        self._room[self._length] = row
        self._length += 1

    @property
    def values(self) -> np.ndarray:
        """The rows so far, as a view that later ones do not change, and nobody may."""
        if self._room is None:
            return np.empty(0)
        view = self._room[: self._length]
        view.flags.writeable = False
        return view

    def __len__(self) -> int:
        return self._length
