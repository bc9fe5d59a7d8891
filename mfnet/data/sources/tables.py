"""A user's own examples: a text table, or arrays of numpy in one file, or mapped from several."""

from __future__ import annotations

import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mfnet.data.sources.records import Records, make_records
from mfnet.setup.errors import InvalidSettingError, SettingError

#: What zipfile and numpy raise at damaged files.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True)
class TextTable:
    """A table with a row an example and names of the columns in its first line, as of CSV.

    Args:
        file: Path of the file, perhaps compressed (.gz, .zip, …).
        label: Name of the column with the classes.
        exclude: Names of columns to leave out.
        separator: What stands between two values.
    """

    file: str
    label: str
    exclude: Sequence[str] = ()
    separator: str = ","

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude", tuple(self.exclude))  # comparable with others

    def read(self) -> Records:
        table = self._table()
        columns = [str(name) for name in table.columns]
        for key, names in (("label", [self.label]), ("exclude", self.exclude)):
            for name in names:
                if name not in columns:
                    raise InvalidSettingError(
                        f"data.source.{key}", name, f"{self.file} has the columns {', '.join(columns)}"
                    )
        inputs = [name for name in columns if name not in (self.label, *self.exclude)]
        if not inputs:
            raise SettingError(f"{self.file}: has no column beside {self.label!r}; see data.source.separator")
        labels = table[self.label]
        missing = np.flatnonzero(labels.isna() | (labels == ""))
        if len(missing):
            raise SettingError(
                f"{self.file}: nothing in line {missing[0] + 2}, column {self.label!r}; leave out the line"
            )
        values = np.column_stack([self._numbers(table[name]) for name in inputs])
        return make_records([(values, labels.str.strip().to_numpy(dtype=str))], self.file, inputs)

    def _table(self) -> pd.DataFrame:
        """The table, as text."""
        if not Path(self.file).is_file():
            raise InvalidSettingError("data.source.file", self.file, "there is no such file")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the first line
                return pd.read_csv(
                    self.file, sep=self.separator, dtype=str, keep_default_na=False, na_values=[], index_col=False
                )
        except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile, pd.errors.ParserWarning) as error:
            raise SettingError(f"{self.file}: cannot be read as a table: {' '.join(str(error).split())}") from None

    def _numbers(self, column: pd.Series[str]) -> np.ndarray:
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)
        bad = np.flatnonzero(~np.isfinite(numbers))
        if len(bad):
            text = column.iloc[bad[0]]
            found = repr(text) if isinstance(text, str) and text else "nothing"
            raise SettingError(
                f"{self.file}: {found} in line {bad[0] + 2}, column {column.name!r}, is not a finite number; leave out "
                f"the line, or the column: 'data.source.exclude=[{column.name}]'"
            )
        return numbers


@dataclass(frozen=True)
class ArrayFile:
    """Arrays of numpy's with inputs and labels, and perhaps a test set.

    An ``.npz`` file is read as a whole. The files of a folder are mapped, and must not change meanwhile; a value that
    is changed in them cannot be found, because they have no checksum.

    Args:
        file: Path of an ``.npz`` file, or of a folder with an ``.npy`` file for each array, as x.npy and y.npy.
        x: Name of the inputs (n, …).
        y: Name of the labels (n,), numbers or text.
        x_test: Name of the inputs of the test set; None: a share is taken for it.
        y_test: Name of its labels.
    """

    file: str
    x: str = "x"
    y: str = "y"
    x_test: str | None = None
    y_test: str | None = None

    def read(self) -> Records:
        names, load = self._folder() if Path(self.file).is_dir() else self._archive()
        pairs = [("x", "y"), ("x_test", "y_test")]
        parts = []
        for keys in pairs[: 1 if self.x_test is None and self.y_test is None else 2]:
            found = []
            for key in keys:
                name = getattr(self, key)
                if name not in names:
                    raise InvalidSettingError(f"data.source.{key}", name, f"{self.file} has {', '.join(names)}")
                found.append(load(name))
            x, labels = found
            if x.ndim < 2 or x.dtype.kind not in "biuf":
                raise SettingError(
                    f"{self.file}: {getattr(self, keys[0])} has shape {x.shape} and type {x.dtype}, not numbers (n, d)"
                )
            if labels.ndim != 1 or labels.dtype.kind not in "biufU":
                raise SettingError(
                    f"{self.file}: {getattr(self, keys[1])} has shape {labels.shape} and type {labels.dtype}, not "
                    "labels (n,), numbers or text"
                )
            parts.append((x, labels))
        return make_records(parts, self.file)

    def _folder(self) -> tuple[list[str], Callable[[str], np.ndarray]]:
        """Names of the arrays, and how one is had."""
        return sorted(path.stem for path in Path(self.file).glob("*.npy")), self._mapped

    def _mapped(self, name: str) -> np.ndarray:
        path = Path(self.file) / f"{name}.npy"
        try:
            array = np.lib.format.open_memmap(path, mode="r")
            if array.offset + array.nbytes != (size := path.stat().st_size):
                raise ValueError(f"its header announces {array.offset + array.nbytes} bytes, and it has {size}")
        except (*_UNREADABLE, SyntaxError, tokenize.TokenError) as error:  # of its header, which is Python
            told = " ".join(str(error).split())
            raise SettingError(f"{path}: is damaged, or not an .npy file of numbers or text ({told})") from None
        return array

    def _archive(self) -> tuple[list[str], Callable[[str], np.ndarray]]:
        """Names of the arrays, and how one is had."""
        path = Path(self.file)
        if not path.is_file():
            raise InvalidSettingError("data.source.file", self.file, "there is no such file")
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()  # numpy does not look at every checksum
            if damaged is not None:
                raise zipfile.BadZipFile(f"bad checksum of {damaged}")
            with np.load(path) as archive:
                arrays = dict(archive)
        except _UNREADABLE as error:
            raise SettingError(
                f"{self.file}: is damaged, or not an .npz file of arrays of numbers and text ({error})"
            ) from None
        return list(arrays), arrays.__getitem__
