"""The files of a run: their names, and how they are written and read (design contract; no torch)."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float

from mfnet.record.contents import Contents
from mfnet.record.series import SERIES
from mfnet.record.stop_reason import StopReason
from mfnet.theory.overlay import Curve


class RunState(StrEnum):
    """How far a run is, as its files say."""

    COMPLETE = "complete"
    CUT_OFF = "cut off"
    FAILED = "failed"
    NEW = "new"


def state_after(reason: StopReason) -> RunState:
    """How far a run is that ended so."""
    if reason is StopReason.ERROR:
        return RunState.FAILED
    return RunState.CUT_OFF if reason.resumable else RunState.COMPLETE


class RunInUseError(Exception):
    """Another process is at work on the run."""


class RunDirectory:
    """Where a run leaves its files.

    The history grows by a line at a time; all others are replaced as a whole, so that a reader never sees half of one.

    - ``history.csv``: a row an observation, ``k, t`` and ``NAME_network``, ``NAME_theory``, ``NAME_theory_lo``,
      ``NAME_theory_hi`` for each series;
    - ``nodes.npz``: ``t`` (K,) and ``a``, ``w_par``, ``w_perp`` (K, n), and the same with ``_theory``;
    - ``examples.npz``: ``x_par`` and ``t_sat`` (n,) of followed examples, and the theory's curve ``t`` (K,),
      ``x_theory`` with ``x_theory_lo`` and ``x_theory_hi``;
    - of an ensemble, in the history also ``NAME_network_std`` and ``NAME_network_se`` over its replicas, and
      ``replicas.npz``: ``t`` (K,), ``seed`` and ``alpha`` (R,), and each series (K, R);
    - ``preparation.npz``: what was fitted to a real training set, and which of its rows are used;
    - ``summary.json``, ``figures/``, ``tensorboard/``, ``checkpoints/``;
    - ``error.log``, where a run of a sweep has failed.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.history = self.path / "history.csv"
        self.nodes = self.path / "nodes.npz"
        self.examples = self.path / "examples.npz"
        self.replicas = self.path / "replicas.npz"
        self.preparation = self.path / "preparation.npz"
        self.summary = self.path / "summary.json"
        self.figures = self.path / "figures"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoint = self.path / "checkpoints" / "last.ckpt"
        self.failure = self.path / "error.log"
        self._lock = FileLock(self.path / ".lock", blocking=False)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes away from this run; the lock goes with the process that holds it.

        Raises:
            RunInUseError: If another process holds it.
        """
        try:
            self._lock.acquire()
        except Timeout:
            raise RunInUseError(f"{self.path}: another process is at work on this run") from None
        try:
            yield
        finally:
            self._lock.release()

    def in_use(self) -> bool:
        """Whether another process is at work on this run."""
        if not self.path.exists():
            return False
        try:
            with self.lock():
                return False
        except RunInUseError:
            return True

    def state(self) -> RunState:
        """How far the run is; a summary that cannot be read is none."""
        try:
            reason = StopReason.read(self.read_summary()["stop_reason"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            reason = None
        if self.failure.exists():
            return RunState.FAILED
        if reason is not None and (state := state_after(reason)) is not RunState.CUT_OFF:
            return state
        return RunState.CUT_OFF if self.checkpoint.exists() else RunState.NEW

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Writes rows that have the same columns; numbers keep all their digits."""
        with _Replacing(self.history) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def append_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Adds rows with the columns of those that are there; what cannot be written as a whole is taken back."""
        with self.history.open("a", newline="") as file:
            size = file.tell()
            try:
                file.write("".join(",".join(map(str, row.values())) + "\n" for row in rows))
                file.flush()
            except OSError:
                file.truncate(size)
                raise

    def read_history(self) -> dict[str, Float[np.ndarray, " K"]]:
        """Columns of ``history.csv`` by name."""
        with self.history.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes ``NAME.npz``."""
        with _Replacing(self.path / f"{name}.npz") as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]  # keyword arrays

    @staticmethod
    def read_arrays(file: Path) -> dict[str, np.ndarray]:
        """Arrays of an ``.npz`` file."""
        with np.load(file) as arrays:
            return dict(arrays)

    def read(self) -> Contents:
        """All that the run has left, but for figures, TensorBoard's files and checkpoints."""
        arrays = {file.stem: self.read_arrays(file) for file in sorted(self.path.glob("*.npz"))}
        return Contents(self.read_history(), arrays, self.read_summary())

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes ``summary.json``."""
        with _Replacing(self.summary) as temporary:
            temporary.write_text(json.dumps(summary, indent=2) + "\n")

    def read_summary(self) -> dict[str, Any]:
        """Contents of ``summary.json``."""
        return json.loads(self.summary.read_text())

    def write_failure(self, traceback: str) -> None:
        """Writes ``error.log``."""
        with _Replacing(self.failure) as temporary:
            temporary.write_text(traceback)

    def failure_reason(self) -> str:
        """The last line of ``error.log``, or the reason in the summary."""
        if self.failure.exists():
            return self.failure.read_text().strip().rpartition("\n")[2]
        return str(self.read_summary()["stop_reason"])


class _Replacing:
    """A temporary file that takes the place of ``path`` when it is complete."""

    def __init__(self, path: Path):
        self.path, self.temporary = path, path.with_name(f".{path.name}.part")

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.temporary

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            os.replace(self.temporary, self.path)


def curve_columns(name: str, curve: Curve, theory: str = "theory") -> dict[str, Float[np.ndarray, " K"]]:
    """Columns of a predicted series: its value, and the edges of its band where it has one."""
    columns = {f"{name}_{theory}": curve.value}
    if curve.lower is not None and curve.upper is not None:
        columns |= {f"{name}_{theory}_lo": curve.lower, f"{name}_{theory}_hi": curve.upper}
    return columns


def agreement(
    history: Mapping[str, Float[np.ndarray, " K"]], theory: str = "theory"
) -> dict[str, dict[str, float | str]]:
    """How far the network of a run was from the theory, for each series that has both.

    The deviation is absolute, relative to the theory, or relative to the network's value at t = 0, as
    `mfnet.record.series` says; t = 0 itself is left out, and so are times before the theory's first value.
    ``within_until`` is the last observation time before it exceeded the tolerance.
    """
    result: dict[str, dict[str, float | str]] = {}
    first = int(np.count_nonzero(history["t"] == 0.0))
    for series in SERIES.values():
        network, predicted = history.get(f"{series.name}_network"), history.get(f"{series.name}_{theory}")
        if network is None or predicted is None or len(network) == first:
            continue
        scale = {"absolute": 1.0, "relative": np.abs(predicted[first:]), "initial": network[0]}[series.measure]
        with np.errstate(divide="ignore", invalid="ignore"):  # a theory may say nothing, or predict 0
            deviation = np.abs(network[first:] - predicted[first:]) / scale
        said = ~np.isnan(deviation)
        before = np.arange(len(said)) < (said.argmax() if said.any() else 0)  # a theory may begin later
        outside = np.flatnonzero(~(deviation <= series.tolerance) & ~before)
        n_inside = len(deviation) if len(outside) == 0 else int(outside[0])
        result[series.name] = {
            "largest": float(np.nanmax(deviation)) if not np.isnan(deviation).all() else np.nan,
            "final": float(deviation[-1]),
            "measure": series.measure,
            "tolerance": series.tolerance,
            "within_until": float(history["t"][first + n_inside - 1]),
        }
    return result
