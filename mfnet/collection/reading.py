"""The runs of one directory: a single one, or the replicas of an ensemble."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mfnet.collection.files import (
    NETWORK,
    DamagedRunError,
    hydra_config,
    read_arrays,
    read_config,
    read_history,
    read_summary,
)
from mfnet.collection.run import (
    ABOUT,
    COMPLETE,
    OVER_REPLICAS,
    History,
    Run,
    count_unsatisfied,
    ending,
    last_observation,
    results,
)
from mfnet.collection.settings import SYMBOLS, resolved, settings, with_symbols
from mfnet.record.contents import Contents
from mfnet.record.directory import RunDirectory, RunState, state_after
from mfnet.record.series import SERIES
from mfnet.record.stop_reason import StopReason


def read_runs(path: Path) -> list[Run]:
    """The run of a directory, or each replica of its ensemble; none if the directory is of something else.

    Raises:
        DamagedRunError: If it is a run's, and a file is missing, cut off, corrupt or contradicts another.
        OSError: If a file cannot be read.
    """
    directory = RunDirectory(path)
    seen, failed = directory.history.exists(), directory.failure.exists()
    summary = read_summary(directory) if directory.summary.exists() else None
    if summary is None and not (hydra_config(directory).exists() and (seen or failed)):
        return []
    nothing = {"k": np.empty(0), "t": np.empty(0)}
    history = read_history(directory) if seen or not failed else nothing
    if summary is None and seen and not any(name.endswith(NETWORK) for name in history):
        return []  # a prediction
    config = resolved(read_config(directory)) if summary is None else summary["config"]
    if missing := [symbol for symbol in SYMBOLS if not isinstance(config.get(symbol), int | float)]:
        raise DamagedRunError(f"its config does not say {', '.join(missing)}")
    files = (directory.history, directory.summary, directory.failure)
    written = max(file.stat().st_mtime for file in files if file.exists())
    replicas = read_arrays(directory.replicas) if directory.replicas.exists() else None
    runs = list(_runs_of(config, directory.state(), summary or {}, history, replicas, written))
    if summary is not None and runs[0].replica is None and runs[0].results["state"] == COMPLETE:
        _check_that_they_agree(summary, runs[0].results, float(history["t"][-1]))
    return runs


def runs_in(contents: Contents) -> list[Run]:
    """The run whose record this is, or each replica of an ensemble."""
    state = state_after(StopReason.read(contents.summary["stop_reason"]))
    summary, history = contents.summary, {name: np.asarray(values) for name, values in contents.history.items()}
    return list(_runs_of(summary["config"], state, summary, history, contents.arrays.get("replicas"), 0.0))


def _runs_of(
    config: Mapping[str, Any],
    state: RunState,
    summary: Mapping[str, Any],
    history: History,
    replicas: Mapping[str, np.ndarray] | None,
    written: float,
) -> Iterator[Run]:
    """A run, or each replica of an ensemble.

    Raises:
        DamagedRunError: If what was left contradicts itself.
    """
    flat = settings(config)
    found = results(state, summary, history, flat)
    run = Run(flat, found, history, written)
    if replicas is not None:
        if found["state"] == COMPLETE:
            _check_that_they_agree(summary, found, float(history["t"][-1]))
        yield from _replicas(run, state, summary, replicas)
    elif found["replicas"] > 1:
        raise DamagedRunError("replicas.npz is missing")
    else:
        yield run


def _check_that_they_agree(summary: Mapping[str, Any], found: Mapping[str, Any], t_last: float) -> None:
    """Checks the last observation of the history against the summary: a history that has lost its end differs."""
    if not math.isclose(summary["t_end"], t_last, rel_tol=1e-9):
        raise DamagedRunError(f"history.csv ends at t={t_last:g}, but the run at t={summary['t_end']:g}")
    for name in SERIES:
        said, seen = summary.get(name), found.get(name)
        if said is not None and not (isinstance(said, int | float) and math.isclose(said, seen or 0.0, rel_tol=1e-9)):
            raise DamagedRunError(f"{name} ends at {seen} in history.csv, at {said} in summary.json")


def _replicas(
    ensemble: Run, state: RunState, summary: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> Iterator[Run]:
    """Each replica of an ensemble as a run of its own; what the ensemble took is shared evenly among them.

    A replica that has ended keeps its last values while others go on; ``stop_reasons`` and ``t_ends`` of the summary
    say how and when it did. Its history then ends there, as that of a single run.
    """
    history, count = ensemble.history, len(arrays.get("seed", ()))
    series = {f"{name}{NETWORK}": values for name, values in arrays.items() if f"{name}{NETWORK}" in history}
    reasons = summary.get("stop_reasons", [ensemble.results["stop_reason"]] * count)
    t_ends = summary.get("t_ends", [float(history["t"][-1])] * count)
    if len(arrays.get("alpha", ())) != count or not np.array_equal(arrays.get("t", ()), history["t"]):
        raise DamagedRunError("replicas.npz does not hold the observations of history.csv")
    if not (_are(reasons, count, str | None) and _are(t_ends, count, int | float)):
        raise DamagedRunError("summary.json does not say how each replica ended")
    for name, values in series.items():
        if values.shape != (len(history["t"]), count) or not np.allclose(values.mean(axis=1), history[name]):
            raise DamagedRunError(f"replicas.npz: its mean of {name.removesuffix(NETWORK)} is not that of history.csv")
    taken = {name: ensemble.results[name] for name in ("wall_seconds", "drive_evaluations", "steps")}
    about = {name: ensemble.results[name] for name in ("identity", *ABOUT)}
    about |= {name: value and value / count for name, value in taken.items()} | {"replicas": count}
    predicted = {name: values for name, values in history.items() if not name.endswith((NETWORK, *OVER_REPLICAS))}
    for r, (seed, alpha) in enumerate(zip(arrays["seed"].tolist(), arrays["alpha"].tolist(), strict=True)):
        flat = with_symbols(ensemble.settings, {"seed": seed, "alpha": alpha})
        own = {name: values[:, r] for name, values in series.items()}
        theory = predicted if alpha == ensemble.settings["alpha"] else {}
        own = {"k": history["k"], "t": history["t"]} | theory | own
        own = _before(t_ends[r], own) if reasons[r] == StopReason.DIVERGED else _until(t_ends[r], own)
        reached = state if reasons[r] == ensemble.results["stop_reason"] else RunState.COMPLETE
        last = last_observation(own)
        ends = {"t_end": t_ends[r], "n_unsatisfied": count_unsatisfied(last, flat)}
        found = {"identity": None, **ending(reasons[r], reached, flat), **ends, **last, **about}
        yield Run(flat, found, own, ensemble.written, r)


def _are(values: object, count: int, kind: Any) -> bool:
    return isinstance(values, list) and len(values) == count and all(isinstance(value, kind) for value in values)


def _before(t_end: float, history: History) -> dict[str, Float[np.ndarray, " k"]]:
    """What was observed of a replica until it diverged."""
    return {name: values[history["t"] <= t_end] for name, values in history.items()}


def _until(t_end: float, history: History) -> dict[str, Float[np.ndarray, " k"]]:
    """A history that ends at ``t_end`` with what was observed next; predictions are interpolated in ln t."""
    t = history["t"]
    last = int(np.searchsorted(t, t_end * (1.0 - 1e-12)))
    if last in (0, len(t)):
        return {name: values[: last + 1] for name, values in history.items()}
    part = np.log(t_end / t[last - 1]) / np.log(t[last] / t[last - 1]) if t[last - 1] > 0.0 else t_end / t[last]
    ended = {name: values[: last + 1].copy() for name, values in history.items()}
    for name, values in ended.items():
        if name != "k" and not name.endswith(NETWORK):
            values[-1] = values[-2] + part * (values[-1] - values[-2])
    ended["t"][-1] = t_end
    return ended
