"""What a checkpoint says of its run beside Lightning's state, and what may be changed when it goes on."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

import mfnet
from mfnet.setup.validation import InvalidSettingError

_KEY = "mfnet"

#: What is saved, and how; raised when that changes, so that an older checkpoint is refused.
_FORMAT = 2

#: Parts of the config that may differ when a run goes on: they do not change what is computed at a given time.
_FREE = ("ckpt", "schedule", "trainer", "theory", "callbacks", "stop")

#: Ends after which a run cannot go on.
_FINAL = ("all_satisfied", "diverged", "step_too_small", "replicas_ended")


@dataclass(frozen=True)
class Checkpoint:
    """The k-th observation of a run, as saved.

    Attributes:
        path: The file.
        k: Number of the observation.
        times: Observation times up to it.
        stop_reason: How the run has ended, or None if it has not.
        config: The run's config, in plain containers.
        overrides: The command-line overrides that it was started with.
    """

    path: Path
    k: int
    times: Float[np.ndarray, " K"]
    stop_reason: str | None
    config: Mapping[str, Any]
    overrides: Sequence[str]

    @property
    def run_directory(self) -> Path:
        """Directory of the run: the checkpoint lies in its ``checkpoints``."""
        return self.path.resolve().parent.parent

    @property
    def may_go_on(self) -> bool:
        """Whether its run has not ended, or by a rule that a new start does away with."""
        return self.stop_reason in (None, "wall_time")

    def extend(self, schedule: Float[np.ndarray, " K"]) -> Float[np.ndarray, " L"]:
        """The times observed so far, then those of ``schedule`` that are still to come."""
        return np.concatenate([self.times, schedule[schedule > self.times[-1]]])

    def check_continues(self, config: Mapping[str, Any], schedule: Float[np.ndarray, " K"]) -> None:
        """Checks that a run with ``config`` can go on from here to the end of ``schedule``.

        Raises:
            InvalidSettingError: If the run has ended, or ``config`` differs in what is computed.
        """
        if self.stop_reason in _FINAL or str(self.stop_reason).startswith("error"):
            raise InvalidSettingError(
                "ckpt", self.path, f"this run has ended ({self.stop_reason}) at t={self.times[-1]:g}"
            )
        for key, value in self.config.items():
            if key not in _FREE and _computed(key, config.get(key)) != _computed(key, value):
                raise InvalidSettingError(key, config.get(key), f"the run of this checkpoint has {value}")
        if schedule[-1] <= self.times[-1]:
            raise InvalidSettingError(
                "ckpt", self.path, f"this run has reached t={self.times[-1]:g}; raise schedule.t_max"
            )


def _computed(key: str, value: Any) -> Any:
    """What of a part of the config changes what is computed."""
    return {name: inner for name, inner in value.items() if name != "memory"} if key == "data" else value


def contents(
    k: int, times: Float[np.ndarray, " K"], stop_reason: str | None, config: Mapping[str, Any], overrides: Sequence[str]
) -> dict[str, Any]:
    """What `read_checkpoint` needs, under its key, in plain containers."""
    return {
        _KEY: {
            "format": _FORMAT,
            "version": mfnet.__version__,
            "k": k,
            "times": times.tolist(),
            "stop_reason": stop_reason,
            "config": dict(config),
            "overrides": list(overrides),
        }
    }


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads what a checkpoint says of its run.

    Raises:
        InvalidSettingError: If the file is missing, or is not a checkpoint of this program and its version.
    """
    if not path.is_file():
        raise InvalidSettingError("ckpt", path, "there is no such file")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)[_KEY]
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, OSError):
        raise InvalidSettingError("ckpt", path, "is damaged, or not a checkpoint of mfnet") from None
    if saved.get("format") != _FORMAT:
        problem = "was written by an earlier version of mfnet, whose runs this one cannot go on with; start it anew"
        raise InvalidSettingError("ckpt", path, problem)
    return Checkpoint(
        path, saved["k"], np.array(saved["times"]), saved["stop_reason"], saved["config"], saved["overrides"]
    )
