"""One run directory, read from its saved files and checked."""

from __future__ import annotations

import csv
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Float

from mfnet.collection.settings import SYMBOLS, Setting, resolved, settings
from mfnet.run_directory import RunDirectory
from mfnet.series import UNSATISFIED
from mfnet.theory.losses import LOSSES

NETWORK = "_network"

#: Columns of an ensemble's history beside its mean.
OVER_REPLICAS = (f"{NETWORK}_std", f"{NETWORK}_se")

#: Numbers of ``summary.json`` that a run always has.
NUMBERS = ("t_end", "wall_seconds", "drive_evaluations", "steps", "n_unsatisfied")

UNFINISHED, FAILED, FINISHED = "unfinished", "failed", "finished"


class DamagedRunError(Exception):
    """A run directory whose files are not what a run leaves; the message says which and why."""


@dataclass(frozen=True)
class Run:
    """One run, or one replica of an ensemble.

    Attributes:
        settings: Its settings by dotted name.
        results: ``identity``, ``state``, what ``summary.json`` says, and the last observation of each series.
        history: Columns of ``history.csv``.
        ended: When its files were last written, in seconds of the file system.
        replica: Its number in an ensemble.
    """

    settings: dict[str, Setting]
    results: dict[str, Any]
    history: dict[str, Float[np.ndarray, " K"]]
    ended: float
    replica: int | None = None


def read_runs(path: Path) -> list[Run]:
    """The run of a directory, or each replica of its ensemble; none if the directory is of something else.

    Raises:
        DamagedRunError: If it is a run's, and a file is missing, cut off, corrupt or contradicts another.
        OSError: If a file cannot be read.
    """
    directory = RunDirectory(path)
    summary = _read_summary(directory) if directory.summary.exists() else None
    if summary is None and not (_hydra_config(directory).exists() and directory.history.exists()):
        return []
    history = _read_history(directory)
    if summary is None and not any(name.endswith(NETWORK) for name in history):
        return []  # a prediction
    config = resolved(_read_config(directory)) if summary is None else summary["config"]
    if missing := [symbol for symbol in SYMBOLS if not isinstance(config.get(symbol), int | float)]:
        raise DamagedRunError(f"its config does not say {', '.join(missing)}")
    last = {
        name.removesuffix(NETWORK): float(values[-1])
        for name, values in history.items()
        if name not in ("k", "t") and not name.endswith(OVER_REPLICAS)
    }
    results = _results(summary or {}, last, float(history["t"][-1]), config)
    if summary is not None and results["state"] == FINISHED:
        _check_that_they_agree(summary, last, results["t_end"], float(history["t"][-1]))
    ended = (directory.history if summary is None else directory.summary).stat().st_mtime
    run = Run(settings(config), results, history, ended)
    replicas = path / "replicas.npz"
    if replicas.exists():
        return list(_replicas(run, replicas, config["N"]))
    if results["replicas"] > 1:
        raise DamagedRunError(f"{replicas.name} is missing")
    return [run]


def _ends_at_its_margin(config: Mapping[str, Any]) -> bool:
    """Whether the loss of a run has no force on satisfied examples: hinges have none, the logistic loss has."""
    loss = LOSSES.get(config["loss"].get("name")) if isinstance(config.get("loss"), dict) else None
    return loss is not None and not loss.force(np.array([2.0]), 1.0).any()


def _hydra_config(directory: RunDirectory) -> Path:
    return directory.path / ".hydra" / "config.yaml"


def _read_summary(directory: RunDirectory) -> dict[str, Any] | None:
    """Contents of ``summary.json``; None if it is another program's."""
    name = directory.summary.name
    try:
        summary = json.loads(directory.summary.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedRunError(f"{name}: {error}" if directory.summary.stat().st_size else f"{name} is empty") from None
    if not directory.history.exists() and not (isinstance(summary, dict) and {"config", "stop_reason"} & set(summary)):
        return None
    if not isinstance(summary, dict):
        raise DamagedRunError(f"{name} does not hold an object")
    if not isinstance(summary.get("config"), dict):
        raise DamagedRunError(f"{name} has no config")
    if not isinstance(summary.get("stop_reason"), str):
        raise DamagedRunError(f"{name} has no stop_reason")
    for number in NUMBERS:
        if not isinstance(summary.get(number), int | float) or not math.isfinite(summary[number]):
            raise DamagedRunError(f"{name} has no number {number}")
    return summary


def _read_config(directory: RunDirectory) -> dict[str, Any]:
    """Hydra's ``config.yaml``, with its interpolations."""
    try:
        config = yaml.load(_hydra_config(directory).read_bytes(), Loader=_LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DamagedRunError(f".hydra/config.yaml: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise DamagedRunError(".hydra/config.yaml does not hold settings")
    return config


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _read_history(directory: RunDirectory) -> dict[str, Float[np.ndarray, " K"]]:
    """Columns of ``history.csv``, which holds an observation a line, the last of which is complete."""
    name = directory.history.name
    if not directory.history.exists():
        raise DamagedRunError(f"{name} is missing")
    try:
        text = directory.history.read_text(encoding="utf-8")
        head, *rows = csv.reader(text.splitlines())
    except (ValueError, csv.Error) as error:
        raise DamagedRunError(f"{name}: {error}" if directory.history.stat().st_size else f"{name} is empty") from None
    if head[:2] != ["k", "t"] or len(set(head)) < len(head) or not all(head):
        raise DamagedRunError(f"{name} does not begin with columns k, t")
    if not rows:
        raise DamagedRunError(f"{name} has no observation")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(head):
            raise DamagedRunError(f"{name}, line {number}: {len(row)} values for {len(head)} columns")
    if not text.endswith("\n"):
        raise DamagedRunError(f"{name}, line {len(rows) + 1}: cut off")
    try:
        values = np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise DamagedRunError(f"{name}: {error}") from None
    history = dict(zip(head, values.T, strict=True))
    if not np.array_equal(history["k"], np.arange(len(rows))):
        raise DamagedRunError(f"{name}: k does not count the observations from 0")
    if not (np.isfinite(history["t"]).all() and history["t"][0] >= 0.0 and (np.diff(history["t"]) > 0.0).all()):
        raise DamagedRunError(f"{name}: t does not increase from one observation to the next")
    for column, numbers in history.items():
        if column.endswith(NETWORK) and not np.isfinite(numbers).all():
            raise DamagedRunError(f"{name}: {column} is not finite at k={np.flatnonzero(~np.isfinite(numbers))[0]}")
    return history


def _results(
    summary: Mapping[str, Any], last: Mapping[str, float], t_last: float, config: Mapping[str, Any]
) -> dict[str, Any]:
    """How a run ended: of one that was cut off, its last observation."""
    reason = summary.get("stop_reason")
    if reason in (None, "interrupted"):
        state = UNFINISHED
    else:
        state = FAILED if reason == "diverged" or str(reason).startswith("error") else FINISHED
    ends = {number: summary.get(number) for number in NUMBERS}
    if not summary:
        ends |= {"t_end": t_last}
        if UNSATISFIED.name in last:
            ends["n_unsatisfied"] = round(last[UNSATISFIED.name] * config["N"])
    numbers = {key: value for key, value in _numbers(summary) if key not in ends and key not in last}
    about = {name: summary.get(name) for name in ("version", "git_commit", "device", "dtype")}
    return {
        "identity": summary.get("identity"),
        "state": state,
        "stop_reason": reason,
        "at_rest": reason == "all_satisfied" and _ends_at_its_margin(config),
        **ends,
        "replicas": 1,
        **last,
        **about,
        **numbers,
    }


def _numbers(summary: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a summary by dotted name, without the config."""
    for name, entry in summary.items():
        if isinstance(entry, dict):
            if name != "config":
                yield from _numbers(entry, f"{prefix}{name}.")
        elif isinstance(entry, int | float) and not isinstance(entry, bool):
            yield f"{prefix}{name}", entry


def _check_that_they_agree(summary: Mapping[str, Any], last: Mapping[str, float], t_end: float, t_last: float) -> None:
    """Checks the last observation of the history against the summary: a history that has lost its end differs."""
    if not math.isclose(t_end, t_last, rel_tol=1e-9):
        raise DamagedRunError(f"history.csv ends at t={t_last:g}, but the run at t={t_end:g}, says summary.json")
    for name in set(summary) & set(last):
        if not (isinstance(summary[name], int | float) and math.isclose(summary[name], last[name], rel_tol=1e-9)):
            raise DamagedRunError(f"{name} ends at {last[name]:g} in history.csv, at {summary[name]} in summary.json")


def _replicas(ensemble: Run, file: Path, n_train: int) -> Iterator[Run]:
    """Each replica of an ensemble as a run of its own: what the ensemble took is shared evenly among them."""
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
        if broken:
            raise DamagedRunError(f"{file.name}: {broken} is corrupt")
        arrays = RunDirectory.read_arrays(file)
    except (ValueError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise DamagedRunError(f"{file.name}: {error}") from None
    if missing := {"t", "seed", "alpha"} - set(arrays):
        raise DamagedRunError(f"{file.name} has no {', '.join(sorted(missing))}")
    seeds, history, results = arrays["seed"], ensemble.history, ensemble.results
    count, times = len(seeds), history["t"]
    if arrays["alpha"].shape != (count,) or not np.array_equal(arrays["t"], times):
        raise DamagedRunError(f"{file.name} does not hold the observations of history.csv")
    series = {name: values for name, values in arrays.items() if f"{name}{NETWORK}" in history}
    for name, values in series.items():
        if values.shape != (len(times), count) or not np.isfinite(values).all():
            raise DamagedRunError(f"{file.name}: {name} does not hold a number for each observation and replica")
    predicted = {name: values for name, values in history.items() if not name.endswith((NETWORK, *OVER_REPLICAS))}
    for replica in range(count):
        own = predicted | {f"{name}{NETWORK}": values[:, replica] for name, values in series.items()}
        last = {name: float(values[-1, replica]) for name, values in series.items()}
        config = ensemble.settings | {"seed": int(seeds[replica]), "alpha": float(arrays["alpha"][replica])}
        shared = {name: results[name] / count for name in ("wall_seconds", "drive_evaluations") if results[name]}
        ends: dict[str, Any] = {"replicas": count}
        if UNSATISFIED.name in last:
            ends["n_unsatisfied"] = round(last[UNSATISFIED.name] * n_train)
        yield Run(config, {**results, **shared, **last, **ends}, own, ensemble.ended, replica)
