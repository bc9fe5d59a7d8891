"""The end of a run in numbers: ``summary.json`` and the table on the terminal."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch import Trainer

import mfnet
from mfnet.record.directory import RunDirectory, agreement
from mfnet.record.identity import identity
from mfnet.record.series import GAMMA, TEST_ERROR, UNSATISFIED
from mfnet.record.stop_reason import StopReason
from mfnet.training.callbacks.theory_overlay import overlays
from mfnet.training.module import MeanFieldModule
from mfnet.training.observation import Observation

TABLE_SERIES = (GAMMA, UNSATISFIED, TEST_ERROR)


def summarise(
    trainer: Trainer,
    module: MeanFieldModule,
    last: Observation,
    history: Mapping[str, Float[np.ndarray, " K"]],
    config: Mapping[str, Any],
    wall_seconds: float,
    stop_reason: str,
) -> dict[str, Any]:
    """Contents of ``summary.json``: what was run, how it ended, how it compares with each theory."""
    flow = module.flow
    result = {
        "config": dict(config),
        "identity": identity(config),
        "version": mfnet.__version__,
        "git_commit": git_commit(),
        "device": device_name(module.device),
        "dtype": str(module.network.w.dtype).removeprefix("torch."),
        "wall_seconds": wall_seconds,
        "evaluator": flow.objective.evaluators[0].name,
        "drive_evaluations": flow.n_evaluations,
        "steps": flow.n_steps,
        "stop_reason": stop_reason,
        "t_end": last.t,
        "n_unsatisfied": int((last.train_margins < module.loss.h).sum()),
        **{name: value for name, value in last.series.items() if name != UNSATISFIED.name},
    }
    if module.n_replicas > 1:
        result |= of_replicas(module, last)
    for overlay in overlays(trainer):
        key = "agreement" if overlay.name == "theory" else f"agreement_{overlay.name}"
        result[key] = agreement(history, overlay.name)
    return result


def of_replicas(module: MeanFieldModule, last: Observation) -> dict[str, Any]:
    """What the summary says of replicas; steps and drive evaluations are of all together."""
    progress = module.flow.progress
    return {
        "n_unsatisfied": last.series[UNSATISFIED.name] * last.train_margins.shape[0],
        "replicas": module.n_replicas,
        "final": {
            name: {"mean": last.series[name], "std": last.std(name), "se": last.se(name)} for name in last.series
        },
        "stop_reasons": [str(p.stop_reason or module.stop_reason or StopReason.T_MAX) for p in progress],
        "t_ends": [p.t for p in progress],
    }


def table(history: Mapping[str, Float[np.ndarray, " K"]], rows: int = 9) -> str:
    """Network against theory at some of the observation times, as text."""
    shown = np.unique(np.linspace(0, len(history["t"]) - 1, rows + 1).round().astype(int))[1:]
    columns = [(series, side) for series in TABLE_SERIES for side in ("network", "theory")]
    columns = [(series, side) for series, side in columns if f"{series.name}_{side}" in history]
    head = ["         t"] + [f"{series.name:>12}" if side == "network" else " " * 10 for series, side in columns]
    sides = [" " * 10] + [f"{side:>{12 if side == 'network' else 10}}" for _, side in columns]
    lines = ["".join(head), "".join(sides)]
    for k in shown:
        cells = [
            f"{history[f'{series.name}_{side}'][k]:>{12 if side == 'network' else 10}.4f}"
            if series is not GAMMA
            else f"{history[f'{series.name}_{side}'][k]:>{12 if side == 'network' else 10}.4g}"
            for series, side in columns
        ]
        lines.append(f"{history['t'][k]:>10.4g}" + "".join(cells))
    return "\n".join(lines)


def report(directory: RunDirectory, shown: str) -> str:
    """What is printed at the end of a run: the table, until when theories held and should, and where to look."""
    history, summary = directory.read_history(), directory.read_summary()
    lines = [table(history), ""]
    lines += [
        f"{name:<12} within {entry['tolerance']:g} ({entry['measure']}) of theory until t = {entry['within_until']:.4g}"
        for name, entry in summary.get("agreement", {}).items()
    ]
    lines += departure_lines(summary.get("nodes", {}))
    lines += baseline_lines(summary.get("baselines", {}))
    lines += trust_lines(summary.get("trust", {}))
    lines += [brief(directory), f"figures      {shown}/{directory.figures.name}"]
    if directory.tensorboard.exists():
        lines += [
            f"TensorBoard  tensorboard --logdir {shown}/{directory.tensorboard.name}",
            "             then http://localhost:6006/?smoothing=0#timeseries",
        ]
    return "\n".join(lines)


def brief(directory: RunDirectory) -> str:
    """How a run ended, in a line, and its replicas in another."""
    summary = directory.read_summary()
    end = (
        f"ended by {summary['stop_reason']} at t = {summary['t_end']:.5g} after {summary['steps']} steps "
        f"({summary['evaluator']}, {summary['wall_seconds']:.1f} s): {summary['n_unsatisfied']:g} unsatisfied, "
        f"test_error {summary['test_error']:.4f}"
    )
    return "\n".join([end, *replica_lines(summary)])


def replica_lines(summary: Mapping[str, Any]) -> list[str]:
    """How the replicas ended, and how far apart, in a line."""
    if "replicas" not in summary:
        return []
    ends = ", ".join(f"{count} {reason}" for reason, count in Counter(summary["stop_reasons"]).most_common())
    final = summary["final"][TEST_ERROR.name]
    spread = f"test_error {final['mean']:.4f}, standard deviation {final['std']:.4f}, error {final['se']:.4f}"
    return [f"{summary['replicas']} replicas ({ends}): {spread}"]


def trust_lines(trusted: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Until when each prediction was said to be trustworthy, in a line."""
    parts = [f"{name} {'always' if x['until'] is None else format(x['until'], '.3g')}" for name, x in trusted.items()]
    return [f"trustworthy until t = {', '.join(parts)}"] if parts else []


def departure_lines(departures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Until when nodes followed each theory, and what was seen when they left it."""
    lines = []
    for name, x in departures.items():
        if not x["departed"]:
            lines.append(f"nodes follow {name} to the end")
            continue
        why = " and ".join(f"{measure} fell below {x['tolerance'][measure]:g}" for measure in x["because"])
        lines.append(
            f"nodes follow {name} until t = {x['until']:.4g}: then {why}, with {x['unsatisfied_then']:.2f} unsatisfied "
            f"and {x['outside_then']:.2f} of the motion not along ŵ*"
        )
    return lines


def baseline_lines(errors: Mapping[str, Any]) -> list[str]:
    """Test errors of other classifiers, in a line."""
    parts = [f"{name.replace('_', ' ')} {errors[name]:.4f}" for name in errors if not name.endswith("_examples")]
    return [f"test_error of others: {', '.join(parts)} (on {errors['rbf_svm_examples']} examples)"] if parts else []


@cache
def git_commit() -> str | None:
    """Commit of the checkout that this package is run from, with '+' where it was changed; None elsewhere.

    As it was when first asked for.
    """
    here = Path(mfnet.__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        tracked = git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD") + ("+" if tracked and git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def device_name(device: torch.device) -> str:
    """'cpu', or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
