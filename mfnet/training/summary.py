"""The end of a run in numbers: ``summary.json`` and the table on the terminal."""

from __future__ import annotations

import math
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

import mfnet
from mfnet.record.contents import Contents
from mfnet.record.directory import agreement
from mfnet.record.series import GAMMA, TEST_ERROR, UNSATISFIED
from mfnet.record.stop_reason import StopReason
from mfnet.training.moment import Moment
from mfnet.training.observation import Observation, Spread

TABLE_SERIES = (GAMMA, UNSATISFIED, TEST_ERROR)

#: Names in ``summary.json`` and ``replicas.npz`` that are not those of series.
TAKEN = {
    *("config", "identity", "version", "git_commit", "device", "dtype", "wall_seconds", "evaluator", "trust"),
    *(
        "drive_evaluations",
        "steps",
        "stop_reason",
        "t_end",
        "n_unsatisfied",
        "series",
        "theories",
        "overlaid",
        "agreement",
    ),
    *("replicas", "final", "stop_reasons", "t_ends", "left_out", "nodes", "baselines", "k", "t", "seed", "alpha"),
}


def summarise(
    moment: Moment,
    observation: Observation,
    last: Mapping[str, Spread],
    history: Mapping[str, Float[np.ndarray, " K"]],
    theories: Sequence[str],
    device: str,
    wall_seconds: float,
    stop_reason: str,
) -> dict[str, Any]:
    """What ``summary.json`` says of a run beside its settings: how it ended, how it compares with each theory.

    Args:
        moment: The run.
        observation: The last one.
        last: Every series then.
        history: Columns of ``history.csv``.
        theories: Names of the theories.
        device: What it was trained on; Lightning has moved the networks from there by now.
        wall_seconds: Seconds that the run has taken.
        stop_reason: How it ended.
    """
    result: dict[str, Any] = {
        "version": mfnet.__version__,
        "git_commit": git_commit(),
        "device": device,
        "dtype": moment.dtype,
        "wall_seconds": wall_seconds,
        "evaluator": moment.evaluator,
        "drive_evaluations": moment.n_evaluations,
        "steps": moment.n_steps,
        "stop_reason": stop_reason,
        "t_end": observation.t,
        "n_unsatisfied": int((observation.train_margins[0] < observation.h).sum()),
        **{name: spread.mean for name, spread in last.items() if name != UNSATISFIED.name},
        "series": list(last),
        "theories": list(theories),
    }
    if moment.n_replicas > 1:
        result |= of_replicas(moment, observation, last)
    for name in theories:
        result["agreement" if name == "theory" else f"agreement_{name}"] = agreement(history, name)
    return result


def of_replicas(moment: Moment, observation: Observation, last: Mapping[str, Spread]) -> dict[str, Any]:
    """What the summary says of replicas; steps and drive evaluations are of all together."""
    progress = moment.progress
    return {
        "n_unsatisfied": last[UNSATISFIED.name].mean * observation.train_margins.shape[1],
        "replicas": moment.n_replicas,
        "final": {name: {"mean": spread.mean, "std": spread.std, "se": spread.se} for name, spread in last.items()},
        "stop_reasons": [str(p.stop_reason or moment.stop_reason or StopReason.T_MAX) for p in progress],
        "t_ends": [p.t for p in progress],
    }


def finite(value: Any) -> Any:
    """``value`` as JSON can hold it: numbers that are not finite are None.

    >>> finite({"a": [1.0, math.inf], "b": {"c": math.nan}})
    {'a': [1.0, None], 'b': {'c': None}}
    """
    if isinstance(value, Mapping):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


def report(contents: Contents) -> str:
    """What is said at the end of a run: the table, and until when theories held and should."""
    history, summary = contents.history, contents.summary
    lines = [table(history), ""]
    lines += [
        f"{name:<12} within {entry['tolerance']:g} ({entry['measure']}) of theory until t = {entry['within_until']:.4g}"
        for name, entry in summary.get("agreement", {}).items()
    ]
    lines += departure_lines(summary.get("nodes", {}))
    lines += baseline_lines(summary.get("baselines", {}))
    lines += trust_lines(summary.get("trust", {}))
    lines += choice_lines(summary.get("overlaid", {}))
    return "\n".join([*lines, brief(summary)])


def brief(summary: Mapping[str, Any]) -> str:
    """How a run ended, in a line, and its replicas in another."""
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


def choice_lines(overlaid: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Which theory was chosen where none was asked for, and why, in a line."""
    chosen = {name: entry for name, entry in overlaid.items() if "because" in entry}
    return [f"{name} is {entry['theory']}: {entry['because']}" for name, entry in chosen.items()]


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
