"""A user's own examples: a text table, or arrays of numpy in one file, or mapped from several."""

from __future__ import annotations

import codecs
import re
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from mfnet.data.sources.idx import GZIP
from mfnet.data.sources.records import Records, make_records, note, shortened, state_of
from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.typed import meant, typed

#: Cells without a value, in lower case.
_MISSING = ("", "?", "na", "n/a", "#n/a", "<na>", "nan", "null", "none")

#: What zipfile, numpy and pandas raise at damaged files.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, RuntimeError, NotImplementedError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, LookupError),
)


@dataclass(frozen=True)
class TextTable:
    """A table with a row an example and names of the columns in its first line, as of CSV.

    Leading columns without a name that number the rows, as pandas and R write them, are left out, and so are columns
    without a name that are empty; the first is said.

    Args:
        file: Path of the file, perhaps compressed (.gz, .zip, …).
        label: Name of the column with the classes.
        exclude: Names of columns to leave out.
        separator: What stands between two values, one character, or ``\\t`` for a tab. Blanks after it do not count.
            None: the one of comma, semicolon and tab by which ``label`` is a column.
        decimal: The decimal point of its numbers, '.' or ','.
        encoding: Encoding of the text, as Python names it; a byte order mark may come first.
        missing: 'drop', rows without a value in some column that is used are left out, which is said; 'refuse'. No
            value is an empty cell, or ``?``, ``NA``, ``NaN``, ``null`` and the like; of the label only an empty cell.
    """

    file: str
    label: str | int | float | None
    exclude: Sequence[str | int | float | None] = ()
    separator: str | None = None
    decimal: Literal[".", ","] = "."
    encoding: str = "utf-8"
    missing: Literal["refuse", "drop"] = "refuse"

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude", tuple(self.exclude))  # comparable with others

    @property
    def state_of_files(self) -> tuple[tuple[str, int, int], ...]:
        return state_of(self.file)

    def read(self) -> Records:
        table = self._table()
        (label,) = self._columns("label", [self.label], list(table.columns))
        excluded = {label, *self._columns("exclude", self.exclude, list(table.columns))}
        labels = table[label].str.strip()
        if (broken := labels.str.contains("\n")).any():
            line = int(broken.to_numpy().argmax()) + 2
            raise SettingError(f"{self.file}: a line break in the class in line {line}; close its quotation marks")
        table = self._without_row_numbers(table.drop(columns=list(excluded)))
        if table.columns.empty:
            raise SettingError(f"{self.file}: has no column beside {label!r}; see data.source.separator")
        for name in table.columns[table.columns.duplicated()]:
            raise SettingError(f"{self.file}: has two columns {name!r}; rename one")
        if len(table) == 0:
            raise SettingError(f"{self.file}: has names of columns, and no row below them")
        values = np.column_stack([self._numbers(table[name]) for name in table.columns])
        self._check_numbers(table, values)
        whole = self._whole(table, values, labels)
        names = labels[whole].to_numpy(dtype=str)
        return make_records([(values[whole], names)], self.file, list(table.columns))

    def _columns(self, key: str, given: Sequence[object], names: Sequence[str]) -> list[str]:
        """The names of columns that are given, as text or as what Hydra has made of it."""
        found = []
        for value in given:
            same = meant(value, names)
            if not same:
                there = f"the first line of {self.file} has the columns {shortened(names)}"
                hint = "; see data.source.separator" if len(names) == 1 else ""
                raise InvalidSettingError(f"data.source.{key}", value, there + hint)
            if len(same) > 1 and key == "label":
                raise InvalidSettingError(f"data.source.{key}", value, f"{self.file} has {len(same)} such columns")
            found += same
        return found

    def _table(self) -> pd.DataFrame:
        """The table, as text, under the names of its columns."""
        path = Path(self.file)
        if not path.is_file():
            there_is = "is a folder; name a file" if path.is_dir() else "there is no such file"
            raise InvalidSettingError("data.source.file", self.file, there_is)
        separator = self._separator()
        names = self._header(separator)
        table = self._parsed(separator, header=0).fillna("")
        table.columns = pd.Index([name or f"Unnamed: {i}" for i, name in enumerate(names)])
        return table

    def _separator(self) -> str:
        if self.separator is not None:
            return "\t" if self.separator == r"\t" else self.separator.strip(" ") or " "
        headers = {separator: self._header(separator) for separator in (",", ";", "\t")}
        fitting = [separator for separator, names in headers.items() if len(names) > 1 and meant(self.label, names)]
        return fitting[0] if fitting else max(headers, key=lambda separator: len(headers[separator]))

    def _header(self, separator: str) -> list[str]:
        """The names of the columns, empty where there is none."""
        names = [name.strip() for name in self._parsed(separator, header=None, nrows=1).iloc[0]]
        if any("\0" in name for name in names):
            raise self._of_other_encoding("it has bytes of 0", "utf-16-le or utf-16-be")
        return names

    def _parsed(self, separator: str, **settings: Any) -> pd.DataFrame:
        """What pandas makes of the file, every cell being text."""
        try:
            with Path(self.file).open("rb") as file:
                zipped = file.read(2) == GZIP
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the first line
                return pd.read_csv(
                    self.file,
                    sep=separator,
                    encoding=self.encoding,
                    compression="gzip" if zipped else "infer",
                    skipinitialspace=True,
                    dtype=str,
                    keep_default_na=False,
                    na_values=[],
                    index_col=False,
                    **settings,
                )
        except UnicodeError as error:
            raise self._of_other_encoding(str(error)) from None
        except pd.errors.ParserWarning:
            raise SettingError(
                f"{self.file}: cannot be read as a table: its rows have more values than its first line has names; "
                "give every column a name, that of row numbers too"
            ) from None
        except _UNREADABLE as error:
            raise SettingError(f"{self.file}: cannot be read as a table: {' '.join(str(error).split())}") from None

    def _of_other_encoding(self, why: str, others: str = "latin-1 or utf-16") -> SettingError:
        with Path(self.file).open("rb") as file:
            start = file.read(4)
        if start.startswith(b"PK\3\4"):
            return SettingError(f"{self.file}: is a workbook or an archive, and no text; save the table as CSV")
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            others = "utf-16"
        return SettingError(
            f"{self.file}: is no text in {self.encoding} ({' '.join(why.split())}); use data.source.encoding={others}"
        )

    def _without_row_numbers(self, table: pd.DataFrame) -> pd.DataFrame:
        """The columns that say something; one with a name that numbers the rows is told, and stays."""
        unnamed = [bool(re.fullmatch(r"Unnamed: \d+(\.\d+)?", name)) for name in table.columns]
        kept, leading = [], True
        for i, name in enumerate(table.columns):
            leading, cells = leading and unnamed[i], table.iloc[:, i]
            if leading and cells.str.fullmatch(r"\d+").all() and cells.is_unique and len(cells):
                note(
                    f"{self.file}: column {i + 1} has no name and numbers the rows, and is left out; named, it is used"
                )
            elif not unnamed[i] or not (cells == "").all():
                kept.append(i)
            if not unnamed[i] and len(cells) > 2 and _counts(cells):
                left_out = typed("data.source.exclude", [name])
                note(f"{self.file}: column {name!r} numbers the rows, and is an input; leave it out: {left_out}")
        return table.iloc[:, kept]

    def _numbers(self, column: pd.Series[str]) -> np.ndarray:
        """The numbers of a column, NaN where there is none."""
        if self.decimal == ",":
            column = column.str.translate(str.maketrans(",.", ".,"))  # a point is no decimal point then
        return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)

    def _check_numbers(self, table: pd.DataFrame, values: np.ndarray) -> None:
        """Checks that all cells but missing ones are finite numbers."""
        bad = {}
        for i in np.flatnonzero(~np.isfinite(values).all(axis=0)).tolist():
            cells = table.iloc[:, i][~np.isfinite(values[:, i])]
            if len(cells := cells[~_is_missing(cells)]):
                bad[table.columns[i]] = cells
        other, typed_so = (
            (",", "'data.source.decimal=\",\"'") if self.decimal == "." else (".", "data.source.decimal=.")
        )
        for name, cells in bad.items():
            marked = cells[cells.str.fullmatch(rf"[+-]?[\d.,]*[{other}][\d.,]*(?:[eE][+-]?\d+)?")]
            if len(marked):
                raise SettingError(
                    f"{self.file}: {marked.iloc[0]!r} in line {marked.index[0] + 2}, column {name!r}, is not a number; "
                    f"if {other!r} is the decimal point: {typed_so}; separators of thousands must be taken out"
                )
        text = [name for name, cells in bad.items() if len(cells) == len(table) - _is_missing(table[name]).sum()]
        if text:
            cell = f"{shortened([bad[text[0]].iloc[0]])!r} in line {bad[text[0]].index[0] + 2}"
            raise SettingError(
                f"{self.file}: inputs are numbers, and there is text in column{'s' * (len(text) > 1)} "
                f"{shortened(text, repr)} ({cell}); leave it out: {typed('data.source.exclude', text)}; or write "
                "numbers in its place first, as pandas.get_dummies does"
            )
        for name, cells in bad.items():
            raise SettingError(
                f"{self.file}: {shortened([cells.iloc[0]])!r} in line {cells.index[0] + 2}, column {name!r}, is not a "
                f"finite number; leave out the line, or the column: {typed('data.source.exclude', [name])}"
            )

    def _whole(self, table: pd.DataFrame, values: np.ndarray, labels: pd.Series[str]) -> np.ndarray:
        """Which rows have a value in every column."""
        missing = pd.DataFrame(np.isnan(values), columns=table.columns)
        missing[labels.name] = (labels == "").to_numpy()
        whole = np.asarray(~missing.to_numpy().any(axis=1))
        if whole.all():
            return whole
        lacking = f"{np.sum(~whole)} of {len(whole)} rows have"
        if self.missing == "drop":
            if not whole.any():
                raise SettingError(f"{self.file}: {lacking} nothing in some column; leave out columns")
            note(f"{self.file}: {lacking} nothing in some column, and are left out")
            return whole
        told = [
            f"column {shortened([str(name)], repr)} ({rows.sum()}, first in line {rows.argmax() + 2})"
            for name, rows in missing.items()
            if rows.any()
        ]
        columns = [name for name in table.columns if missing[name].any()]
        or_columns = f", or columns: {typed('data.source.exclude', columns)}" if columns else ""
        raise SettingError(
            f"{self.file}: {lacking} nothing in some column: {shortened(told, most=10, wide=80)}; leave out the rows: "
            f"data.source.missing=drop{or_columns}"
        )


def _counts(cells: pd.Series[str]) -> bool:
    """Whether cells are 0, 1, 2, … or 1, 2, 3, …"""
    return any(
        cells.iloc[0] == str(first) and (cells == pd.RangeIndex(first, first + len(cells)).astype(str)).all()
        for first in (0, 1)
    )


def _is_missing(cells: pd.Series[str]) -> pd.Series[bool]:
    return cells.str.strip().str.lower().isin(_MISSING)


@dataclass(frozen=True)
class ArrayFile:
    """Arrays of numpy's with inputs and labels, and perhaps a test set.

    An ``.npz`` file is read as a whole. The files of a folder are mapped, and must not change meanwhile; a value that
    is changed in them cannot be found, because they have no checksum.

    Args:
        file: Path of an ``.npz`` file, or of a folder with an ``.npy`` file for each array, as x.npy and y.npy.
        x: Name of the inputs (n, …).
        y: Name of the labels, numbers or text, (n,) or (n, 1); or (n, K), with a 1 at the number of the class, from 0,
            and 0 elsewhere.
        x_test: Name of the inputs of the test set; None: a share is taken for it.
        y_test: Name of its labels.
    """

    file: str
    x: str = "x"
    y: str = "y"
    x_test: str | None = None
    y_test: str | None = None

    @property
    def state_of_files(self) -> tuple[tuple[str, int, int], ...]:
        return state_of(self.file)

    def read(self) -> Records:
        names, load = self._folder() if Path(self.file).is_dir() else self._archive()
        pairs = [("x", "y"), ("x_test", "y_test")]
        parts = []
        for keys in pairs[: 1 if self.x_test is None and self.y_test is None else 2]:
            found = []
            for key in keys:
                found.append(load(self._named(key, names)))
            x, labels = found
            if x.ndim < 2 or x.dtype.kind not in "biuf":
                raise SettingError(
                    f"{self.file}: {getattr(self, keys[0])} has shape {x.shape} and type {x.dtype}, not numbers (n, d)"
                )
            flat = _flat(labels)
            if flat.ndim != 1 or flat.dtype.kind not in "biufU":
                raise SettingError(
                    f"{self.file}: {getattr(self, keys[1])} has shape {labels.shape} and type {labels.dtype}, not "
                    "labels (n,) or (n, 1), numbers or text, or one 1 among the 0 of each row (n, classes)"
                )
            parts.append((x, flat))
        return make_records(parts, self.file)

    def _named(self, key: str, names: Sequence[str]) -> str:
        """The name of an array; ``X`` is found as ``x``, and the reverse."""
        name = getattr(self, key)
        same = [other for other in names if other.lower() == str(name).lower()]
        if name not in names and len(same) != 1:
            raise InvalidSettingError(f"data.source.{key}", name, f"{self.file} has {shortened(names)}")
        return name if name in names else same[0]

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


def _flat(labels: np.ndarray) -> np.ndarray:
    """Labels (n,), where that is what they are in another shape."""
    if labels.ndim != 2 or labels.dtype.kind not in "biufU":
        return labels
    if labels.shape[1] == 1:
        return labels[:, 0]
    one_hot = labels.dtype.kind != "U" and np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()
    return labels.argmax(axis=1) if one_hot else labels
