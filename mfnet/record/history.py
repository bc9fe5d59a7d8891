"""The history of a run while it grows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mfnet.theory.growing import Growing


class History(Sequence[dict[str, float]]):
    """The rows of ``history.csv``, which have the same columns."""

    def __init__(self) -> None:
        self._columns: dict[str, Growing] = {}
        self._length = 0

    @classmethod
    def of(cls, columns: Mapping[str, Float[np.ndarray, " K"]]) -> History:
        """One that has these columns already."""
        history = cls()
        history._columns = {name: Growing(values) for name, values in columns.items()}
        history._length = min((len(values) for values in columns.values()), default=0)
        return history

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    def column(self, name: str) -> Float[np.ndarray, " K"]:
        """A column."""
        return self._columns[name].values

    def columns(self) -> dict[str, Float[np.ndarray, " K"]]:
        """All columns."""
        return {name: column.values for name, column in self._columns.items()}

    def append(self, row: Mapping[str, float]) -> None:
        """Appends a row; the first says which columns there are, of which a later one may lack some."""
        if not self._columns:
            self._columns = {name: Growing() for name in row}
        for name, column in self._columns.items():
            column.append(float(row.get(name, np.nan)))
        self._length += 1

    def put(self, name: str, values: Float[np.ndarray, " K"]) -> None:
        """Gives a column these values; it is the last if it is new."""
        self._columns[name] = Growing(np.asarray(values, dtype=float))

    def drop(self, names: Iterable[str]) -> None:
        """Takes columns away."""
        for name in names:
            self._columns.pop(name, None)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row: dict[str, float] = {name: float(column.values[index]) for name, column in self._columns.items()}
        return {**row, "k": int(row["k"])} if "k" in row else row
