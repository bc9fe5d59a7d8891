"""What a source of examples holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from mfnet.validation import SettingError


@dataclass(frozen=True, eq=False)
class Records:
    """Examples of any number of classes.

    Attributes:
        x: Inputs (n, D), of any numeric type.
        classes: Names of their classes (n,), as text.
        n_train: The first so many are the training set, the rest the test set; None: they are not divided.
        origin: Where they come from, for messages.
        columns: Names of the D columns; None: they are numbered from 0.
    """

    x: np.ndarray
    classes: np.ndarray
    n_train: int | None
    origin: str
    columns: Sequence[str] | None = None

    def column(self, number: int) -> str:
        """How a message names a column."""
        return f"column {number}" if self.columns is None else f"column {self.columns[number]!r}"


@runtime_checkable
class Source(Protocol):
    """Anything that reads records; two that are equal read the same."""

    def read(self) -> Records:
        """The records.

        Raises:
            SettingError: In one line, where there are none, or they are damaged.
        """
        ...

    def __hash__(self) -> int: ...


def make_records(
    parts: Sequence[tuple[np.ndarray, np.ndarray]], origin: str, columns: Sequence[str] | None = None
) -> Records:
    """Records of inputs and labels, of a training and perhaps a test set; inputs of more dimensions are flattened.

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
    x = np.concatenate([x.reshape(len(x), -1) for x, _ in parts])
    labels = np.concatenate([class_names(labels) for _, labels in parts])
    records = Records(x, labels, len(parts[0][0]) if len(parts) > 1 else None, origin, columns)
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0].tolist()
        raise SettingError(
            f"{origin}: {x[row, column]} in row {row}, {records.column(column)}; every value must be a finite number: "
            "leave out the row or the column, or fill in a value"
        )
    return records


def class_names(labels: np.ndarray) -> np.ndarray:
    """Labels as text; whole numbers without a point.

    >>> class_names(np.array([1.0, -1.0])).tolist(), class_names(np.array(["a", "b"])).tolist()
    (['1', '-1'], ['a', 'b'])
    """
    if np.issubdtype(labels.dtype, np.floating) and (labels == np.rint(labels)).all():
        labels = labels.astype(np.int64)
    return labels.astype(str)
