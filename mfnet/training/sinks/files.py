"""The files of a run, written as it goes, so that whatever was observed is on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mfnet.figures import save_figures
from mfnet.record.contents import Arrays, Contents
from mfnet.record.directory import RunDirectory
from mfnet.training.row import Row, Sink

#: Observations after which arrays are written each time; and the share by which they grow between two times later.
EACH, GROWTH = 64, 1 / 32


def is_written(k: int) -> bool:
    """Whether arrays are written at the k-th observation: ever more seldom, so that a run's cost grows as its length.

    The checkpoint of each observation has them too.
    """
    every = 1 << max(int(k * GROWTH).bit_length() - 2, 0)
    return k <= EACH or k % every == 0


class Files(Sink):
    """Writes the history at each observation, arrays too but ever more seldom, and summary and figures at the end.

    Args:
        directory: The run directory.
        fitted: What was fitted to real data.
        draws: Whether figures are drawn.
    """

    needed = True

    def __init__(self, directory: RunDirectory, fitted: Arrays, *, draws: bool = True):
        self.directory, self.draws, self._written = directory, draws, 0
        if fitted:
            directory.write_arrays("preparation", fitted)

    def rows(self, new: Sequence[Row], history: Sequence[Mapping[str, float]]) -> None:
        if self._written > 0 and len(history) == self._written + len(new):
            self.directory.append_history(history[-len(new) :])
        else:
            self.directory.write_history(history)
        self._written = len(history)
        if any(is_written(row.observation.k) for row in new):
            self._write_arrays(new[-1].arrays)

    def _write_arrays(self, files: Mapping[str, Arrays]) -> None:
        for name, arrays in files.items():
            self.directory.write_arrays(name, arrays)

    def end(self, contents: Contents, *, finished: bool) -> None:
        self.directory.write_history(contents.rows)
        self._write_arrays(contents.arrays)
        self.directory.write_summary(contents.summary)
        if finished and self.draws:
            save_figures(contents, self.directory.figures)
