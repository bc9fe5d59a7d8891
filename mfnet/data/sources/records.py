"""What a source of examples holds."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from mfnet.compute.launch import launch
from mfnet.data.mapped import PART
from mfnet.setup.errors import SettingError


@dataclass(frozen=True, eq=False)
class Records:
    """Examples of any number of classes.

    Attributes:
        inputs: Inputs of all examples (n, …), of any real type, in memory or mapped from files; or those of a training
            and of a test set, in this order. Rows are counted through both, and an input of several dimensions is
            flattened.
        classes: Names of their classes (n,), as text.
        origin: Where they come from, for messages.
        columns: Names of the D columns; None: they are numbered from 0.
    """

    inputs: tuple[np.ndarray, ...]
    classes: np.ndarray
    origin: str
    columns: Sequence[str] | None = None

    @property
    def n_train(self) -> int | None:
        """The first so many are the training set, the rest the test set; None: they are not divided."""
        return len(self.inputs[0]) if len(self.inputs) > 1 else None

    @property
    def n_columns(self) -> int:
        """Number D of columns."""
        return math.prod(self.inputs[0].shape[1:])

    def column(self, number: int) -> str:
        """How a message names a column."""
        return f"column {number}" if self.columns is None else f"column {self.columns[number]!r}"

    def rows(self, which: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m D"]:
        """The inputs of some examples, in float64."""
        x, start = np.empty((len(which), self.n_columns)), 0
        for part in self.inputs:
            inside = (which >= start) & (which < start + len(part))
            x[inside] = part[which[inside] - start].reshape(-1, self.n_columns)
            start += len(part)
        return x

    def chunks(self, which: Int[np.ndarray, " m"], least: int = 1) -> Iterator[Float[np.ndarray, "r D"]]:
        """`rows` for `PART` values at a time, but ``least`` rows; the last may have fewer."""
        size = max(PART // self.n_columns, least)
        return (self.rows(which[start : start + size]) for start in range(0, len(which), size))


@runtime_checkable
class Source(Protocol):
    """Anything that reads records; two that are equal read the same.

    One that reads files may have ``state_of_files``, hashable, which is another when they have changed (`state_of`).
    """

    def read(self) -> Records:
        """The records.

        Raises:
            SettingError: In one line, where there are none, or they are damaged.
        """
        ...

    def __hash__(self) -> int: ...


def state_of(path: str) -> tuple[tuple[str, int, int], ...]:
    """Where a file is, or all files of a folder, when each was written, and its size in bytes."""
    whole = Path(path).absolute()
    files = [file for file in (sorted(whole.glob("*")) if whole.is_dir() else [whole]) if file.is_file()]
    return tuple((str(file), (status := file.stat()).st_mtime_ns, status.st_size) for file in files)


@lru_cache
def note(line: str) -> None:
    """Tells the user something of the data, once, by the first of several processes."""
    if launch().rank == 0:
        print(f"mfnet: {line}", file=sys.stderr, flush=True)


def shortened(texts: Sequence[str], shown: Callable[[str], str] = str, *, most: int = 20, wide: int = 40) -> str:
    """Texts in a line, the first ``most`` of them, and of each its first ``wide`` characters.

    >>> shortened(["a", "b", "c"], most=2)
    'a, b, … (3)'
    """
    listed = ", ".join(shown(text if len(text) <= wide else f"{text[:wide]}…") for text in texts[:most])
    return listed + (f", … ({len(texts)})" if len(texts) > most else "")


def make_records(
    parts: Sequence[tuple[np.ndarray, np.ndarray]], origin: str, columns: Sequence[str] | None = None
) -> Records:
    """Records of inputs and labels, of a training and perhaps a test set.

    Raises:
        SettingError: For inputs and labels of different number, parts of different size, values that are not finite.
    """
    for name, (x, labels) in zip(("training", "test"), parts, strict=False):
        if len(x) != len(labels):
            raise SettingError(f"{origin}: the {name} set has {len(x)} inputs and {len(labels)} labels")
        if len(x) == 0:
            raise SettingError(f"{origin}: the {name} set is empty")
        if x.shape[1:] != parts[0][0].shape[1:]:
            raise SettingError(f"{origin}: training inputs are {parts[0][0].shape[1:]}, test inputs {x.shape[1:]}")
    labels = np.concatenate([class_names(labels) for _, labels in parts])
    records = Records(tuple(x for x, _ in parts), labels, origin, columns)
    start, may_be_infinite = 0, any(x.dtype.kind == "f" for x in records.inputs)
    for x in records.chunks(np.arange(len(labels) if may_be_infinite else 0)):
        if not np.isfinite(x).all():
            row, column = np.argwhere(~np.isfinite(x))[0].tolist()
            raise SettingError(
                f"{origin}: {x[row, column]} in row {start + row}, {records.column(column)}; every value must be a "
                "finite number: leave out the row or the column, or fill in a value"
            )
        start += len(x)
    return records


def class_names(labels: np.ndarray) -> np.ndarray:
    """Labels as text, no wider than the longest; whole numbers without a point.

    >>> class_names(np.array([1.0, -1.0])).tolist(), class_names(np.array(["a", "b"])).tolist()
    (['1', '-1'], ['a', 'b'])
    """
    names, which = np.unique(labels, return_inverse=True)
    if np.issubdtype(names.dtype, np.floating) and (names == np.rint(names)).all():
        names = names.astype(np.int64)
    return np.array(names.astype(str).tolist())[which]
