"""One run as numbers: its settings, its history, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mfnet.collection.files import NETWORK, NUMBERS
from mfnet.collection.settings import Setting
from mfnet.record.directory import RunState
from mfnet.record.series import UNSATISFIED
from mfnet.record.stop_reason import StopReason
from mfnet.theory.losses import LOSSES

#: How far a run is: one that has diverged has failed, one that may go on is unfinished.
COMPLETE, UNFINISHED, FAILED = "complete", "unfinished", "failed"

#: Columns of an ensemble's history beside its mean.
OVER_REPLICAS = (f"{NETWORK}_std", f"{NETWORK}_se")

#: What is said of a run in words; ``ABOUT`` is from its summary.
ABOUT = ("version", "git_commit", "device", "dtype")
WORDS = ("identity", "state", "stop_reason", *ABOUT)

History = dict[str, Float[np.ndarray, " K"]]


@dataclass(frozen=True)
class Run:
    """One run, or one replica of an ensemble.

    Attributes:
        settings: Its settings by dotted name.
        results: What `results` says.
        history: Columns of ``history.csv``.
        written: When its files were last written, in seconds of the file system.
        replica: Its number in an ensemble.
    """

    settings: dict[str, Setting]
    results: dict[str, Any]
    history: History
    written: float
    replica: int | None = None


def results(
    state: RunState, summary: Mapping[str, Any], history: History, settings: Mapping[str, Setting]
) -> dict[str, Any]:
    """How a run ended, or, of one that was cut off and has no summary, what was last seen of it."""
    last = last_observation(history)
    ends = {number: summary.get(number) for number in NUMBERS}
    if not summary and last:
        ends |= {"t_end": float(history["t"][-1]), "n_unsatisfied": count_unsatisfied(last, settings)}
    return {
        "identity": summary.get("identity"),
        **ending(summary.get("stop_reason"), state, settings),
        **ends,
        "replicas": 1,
        **last,
        **{name: summary.get(name) for name in ABOUT},
        **{key: value for key, value in _numbers(summary) if key not in ends and key not in last},
    }


def ending(reason: str | None, state: RunState, settings: Mapping[str, Setting]) -> dict[str, Any]:
    """``state``, ``stop_reason`` and ``at_rest``."""
    failed = state is RunState.FAILED or reason == StopReason.DIVERGED
    return {
        "state": FAILED if failed else COMPLETE if state is RunState.COMPLETE else UNFINISHED,
        "stop_reason": reason,
        "at_rest": reason == StopReason.ALL_SATISFIED and _ends_at_its_margin(settings.get("loss.name")),
    }


def _ends_at_its_margin(loss: Setting) -> bool:
    """Whether a loss has no force on satisfied examples: hinges have none, the logistic loss has."""
    known = LOSSES.get(str(loss))
    return known is not None and not known.force(np.array([2.0]), 1.0).any()


def last_observation(history: History) -> dict[str, float]:
    """The last value of each series, and of each prediction of it."""
    return {
        name.removesuffix(NETWORK): float(values[-1])
        for name, values in history.items()
        if name not in ("k", "t") and not name.endswith(OVER_REPLICAS) and len(values) > 0
    }


def count_unsatisfied(last: Mapping[str, float], settings: Mapping[str, Setting]) -> int | None:
    """Number of unsatisfied training examples, from their share."""
    share, n_train = last.get(UNSATISFIED.name), settings["N"]
    return round(share * n_train) if share is not None and isinstance(n_train, int) else None


def _numbers(summary: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a summary by dotted name, without the config."""
    for name, entry in summary.items():
        if isinstance(entry, dict):
            if name != "config":
                yield from _numbers(entry, f"{prefix}{name}.")
        elif isinstance(entry, int | float) and not isinstance(entry, bool):
            yield f"{prefix}{name}", entry
