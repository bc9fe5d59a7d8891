"""The files of a run, read and checked: what is missing, cut off or corrupt is named."""

from __future__ import annotations

import csv
import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Float

from mfnet.record.directory import RunDirectory, RunState
from mfnet.record.series import SERIES
from mfnet.record.stop_reason import StopReason

NETWORK = "_network"

#: Numbers of ``summary.json`` that a run always has.
NUMBERS = ("t_end", "wall_seconds", "drive_evaluations", "steps", "n_unsatisfied")

#: What an archive raises whose directory, headers or arrays are not what they were.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, KeyError, EOFError, SyntaxError, OverflowError)

_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DamagedRunError(Exception):
    """A run directory whose files are not what a run leaves; the message says which and why."""


def hydra_config(directory: RunDirectory) -> Path:
    """Where Hydra saves the config of a run."""
    return directory.path / ".hydra" / "config.yaml"


def read_summary(directory: RunDirectory) -> dict[str, Any] | None:
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
    try:
        StopReason.read(summary["stop_reason"])
    except ValueError:
        raise DamagedRunError(f"{name}: stop_reason {summary['stop_reason']!r} is not one of mfnet's") from None
    for number in NUMBERS:
        if not isinstance(summary.get(number), int | float) or not math.isfinite(summary[number]):
            raise DamagedRunError(f"{name} has no number {number}")
    return summary


def read_config(directory: RunDirectory) -> dict[str, Any]:
    """Hydra's ``config.yaml``, with its interpolations."""
    try:
        config = yaml.load(hydra_config(directory).read_bytes(), Loader=_YAML_LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DamagedRunError(f".hydra/config.yaml: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise DamagedRunError(".hydra/config.yaml does not hold settings")
    return config


def read_history(directory: RunDirectory) -> dict[str, Float[np.ndarray, " K"]]:
    """Columns of ``history.csv``: an observation a line, of which the last may be half there while a run goes on."""
    name = directory.history.name
    if not directory.history.exists():
        raise DamagedRunError(f"{name} is missing")
    try:
        text = directory.history.read_text(encoding="utf-8")
        if directory.state() is not RunState.COMPLETE:
            text = text[: text.rfind("\n") + 1]
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
        if column.removesuffix(NETWORK) in SERIES and column.endswith(NETWORK) and not np.isfinite(numbers).all():
            raise DamagedRunError(f"{name}: {column} is not finite at k={np.flatnonzero(~np.isfinite(numbers))[0]}")
    return history


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` file, whose checksums are right."""
    try:
        with zipfile.ZipFile(file) as archive:
            corrupt = archive.testzip()
        if corrupt:
            raise DamagedRunError(f"{file.name}: {corrupt} is corrupt")
        return RunDirectory.read_arrays(file)
    except _UNREADABLE as error:
        raise DamagedRunError(f"{file.name}: {' '.join(str(error).split())}") from None
