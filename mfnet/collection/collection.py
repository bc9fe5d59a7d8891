"""Every run below a directory as one tidy table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mfnet.collection.files import NETWORK, DamagedRunError
from mfnet.collection.reading import read_runs, runs_in
from mfnet.collection.run import COMPLETE, WORDS, Run
from mfnet.collection.settings import Setting, column, varied
from mfnet.record.contents import Contents


@dataclass(frozen=True)
class Collection:
    """The runs below a directory.

    Attributes:
        path: The directory.
        runs: A row a run:

            - ``run``: its directory, relative to that of the collection; replicas of an ensemble end in ``#0``, ``#1``;
            - ``identity`` of its physics, missing in runs of old versions;
            - what varied, under its name on the command line; a choice by its class (``flow``) or name (``loss.name``);
            - ``state``: complete, unfinished or failed, and ``stop_reason``, missing where a run was cut off;
            - ``at_rest``: whether nothing would change after its end, because no example exerts a force;
            - ``t_end, wall_seconds, drive_evaluations, steps, n_unsatisfied, replicas``;
            - the last observation of each series: ``test_error``, ``test_error_theory``, …;
            - every other number of ``summary.json`` by dotted name: ``agreement.gamma.within_until``, ….
        history: A row a run and observation: ``run``, what varied, and the columns of ``history.csv``.
        varied: The settings that varied, in the order of the config.
        duplicates: Runs that averages leave out, each with the run of the same settings that stands for it.
        damaged: Directories of runs that could not be read, each with the reason.
    """

    path: Path
    runs: pd.DataFrame
    history: pd.DataFrame
    varied: list[str]
    duplicates: list[tuple[str, str]]
    damaged: list[tuple[Path, str]]

    @property
    def series(self) -> list[str]:
        """Names of the series that were observed."""
        return [name.removesuffix(NETWORK) for name in map(str, self.history) if name.endswith(NETWORK)]


def collect(path: str | os.PathLike[str], names: Sequence[str] | None = None) -> Collection:
    """Reads every run at or below ``path``; other files and directories are passed over.

    Where several runs have the same settings, seed included, that which finished last stands for all in averages.

    Args:
        path: A run, or a directory above runs.
        names: Reads no other directories than these in ``path``.

    Raises:
        NotADirectoryError: If ``path`` is not a directory.
    """
    root = Path(path)
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a directory")
    found: list[tuple[str, Run]] = []
    damaged: list[tuple[Path, str]] = []

    def unreadable(error: OSError) -> None:
        damaged.append((Path(error.filename), str(error.strerror)))

    for parent, below, _ in os.walk(root, onerror=unreadable):
        wanted = names if names is not None and Path(parent) == root else below
        below[:] = sorted(name for name in below if name in wanted and not name.startswith("."))
        try:
            runs = read_runs(Path(parent))
        except DamagedRunError as error:
            damaged.append((Path(parent), str(error)))
            below.clear()
        except OSError as error:
            damaged.append((Path(parent), f"{Path(error.filename or parent).name}: {error.strerror}"))
            below.clear()
        else:
            name = Path(parent).relative_to(root).as_posix()
            found += [(name if run.replica is None else f"{name}#{run.replica}", run) for run in runs]
            if runs:
                below.clear()  # what a run leaves is no run
    return _collected(root, found, damaged)


def gathered(runs: Mapping[str, Contents]) -> Collection:
    """Runs in memory, each by its name, as `collect` reads those on disk."""
    found = []
    for name, contents in runs.items():
        parts = runs_in(contents)
        found += [(name if run.replica is None else f"{name}#{run.replica}", run) for run in parts]
    return _collected(Path(), found, [])


def _collected(root: Path, found: Sequence[tuple[str, Run]], damaged: list[tuple[Path, str]]) -> Collection:
    """The tables of runs, each with its name."""
    labels, read = [label for label, _ in found], [run for _, run in found]
    swept = varied([run.settings for run in read])
    shown = {key: column([run.settings.get(key) for run in read]) for key in swept}
    tables = _runs(labels, read, shown), _history(labels, read, shown)
    return Collection(root, *tables, swept, _duplicates(labels, read), damaged)


def _runs(labels: Sequence[str], runs: Sequence[Run], shown: Mapping[str, pd.Series]) -> pd.DataFrame:
    results = {key: None for run in runs for key in run.results}
    said = {key: column([run.results.get(key) for run in runs], text=key in WORDS) for key in results}
    return pd.DataFrame({"run": column(labels, text=True), "identity": said.pop("identity", None), **shown, **said})


def _history(labels: Sequence[str], runs: Sequence[Run], shown: Mapping[str, pd.Series]) -> pd.DataFrame:
    lengths = [len(run.history["t"]) for run in runs]
    columns = {"run": column(labels, text=True), **shown}
    repeated = {key: values.repeat(lengths).reset_index(drop=True) for key, values in columns.items()}
    for key in {key: None for run in runs for key in run.history}:
        parts = [run.history.get(key, np.full(length, np.nan)) for run, length in zip(runs, lengths, strict=True)]
        repeated[key] = pd.Series(np.concatenate(parts), dtype="int64" if key == "k" else "float64")
    return pd.DataFrame(repeated)


def _duplicates(labels: Sequence[str], runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Runs with the settings of another, its seed among them, each with that other."""
    same: dict[frozenset[tuple[str, Setting]], list[int]] = {}
    for i, run in enumerate(runs):
        same.setdefault(frozenset(run.settings.items()), []).append(i)
    pairs = []
    for group in same.values():
        last = max(group, key=lambda i: (runs[i].results["state"] == COMPLETE, runs[i].written))
        pairs += [(labels[i], labels[last]) for i in group if i != last]
    return pairs
