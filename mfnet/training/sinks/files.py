"""The files of a run, written as it goes, so that whatever was observed is on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mfnet.figures import save_figures
from mfnet.record.contents import Arrays, Contents
from mfnet.record.directory import RunDirectory
from mfnet.training.row import Row, Sink


class Files(Sink):
    """Writes history and arrays at each observation, and summary and figures at the end.

    Args:
        directory: The run directory.
        fitted: What was fitted to real data.
    """

    needed = True

    def __init__(self, directory: RunDirectory, fitted: Arrays):
        self.directory = directory
        if fitted:
            directory.write_arrays("preparation", fitted)

    def row(self, row: Row, rows: Sequence[Mapping[str, float]]) -> None:
        self.directory.write_history(rows)
        for name, arrays in row.arrays.items():
            self.directory.write_arrays(name, arrays)

    def end(self, contents: Contents, *, finished: bool) -> None:
        self.directory.write_history(contents.rows)
        self.directory.write_summary(contents.summary)
        if finished:
            save_figures(contents, self.directory.figures)
