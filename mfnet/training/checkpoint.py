"""What a checkpoint says of its run beside Lightning's state, and what may be changed when it goes on."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

import mfnet
from mfnet.record.stop_reason import StopReason
from mfnet.setup.errors import InvalidSettingError
from mfnet.setup.settings import Effect, kept
from mfnet.setup.setup import Setup

_KEY = "mfnet"

#: What is saved, and how; raised when that changes, so that an older checkpoint is refused.
_FORMAT = 4


@dataclass(frozen=True)
class Checkpoint:
    """The k-th observation of a run, as saved.

    Attributes:
        path: The file.
        k: Number of the observation.
        times: Observation times up to it.
        stop_reason: How the run has ended, or None if it has not.
        config: The run's settings, in plain containers.
        follows: Settings that follow ``seed``, and so differ among replicas.
        loggers: What loggers call the run, by their names in the settings.
    """

    path: Path
    k: int
    times: Float[np.ndarray, " K"]
    stop_reason: StopReason | None
    config: Mapping[str, Any]
    follows: Sequence[str] = ()
    loggers: Mapping[str, str] = field(default_factory=dict)

    @property
    def run_directory(self) -> Path:
        """Directory of the run, in whose ``checkpoints`` the checkpoint lies.

        Raises:
            InvalidSettingError: If it was put elsewhere.
        """
        directory = self.path.resolve().parent.parent
        if not (directory / "history.csv").exists():
            raise InvalidSettingError("ckpt", self.path, "does not lie in a run's checkpoints; name its hydra.run.dir")
        return directory

    @property
    def may_go_on(self) -> bool:
        """Whether its run has not ended, or by a rule that a new start does away with."""
        return self.stop_reason is None or self.stop_reason is StopReason.WALL_TIME

    def extend(self, schedule: Float[np.ndarray, " K"]) -> Float[np.ndarray, " L"]:
        """The times observed so far, then those of ``schedule`` that are still to come."""
        return np.concatenate([self.times, schedule[schedule > self.times[-1]]])

    def check_continues(self, config: Mapping[str, Any], schedule: Float[np.ndarray, " K"]) -> None:
        """Checks that a run with ``config`` can go on from here to the end of ``schedule``.

        Raises:
            InvalidSettingError: If the run has ended, or ``config`` differs in what is computed.
        """
        if self.stop_reason is not None and self.stop_reason.final:
            raise InvalidSettingError(
                "ckpt", self.path, f"this run has ended ({self.stop_reason}) at t={self.times[-1]:g}"
            )
        ours, theirs = (kept(settings, Effect.RESULT) for settings in (config, self.config))
        for key in {**theirs, **ours}:
            if ours.get(key) != theirs.get(key):
                raise InvalidSettingError(key, ours.get(key), f"the run of this checkpoint has {theirs.get(key)}")
        if schedule[-1] <= self.times[-1]:
            raise InvalidSettingError(
                "ckpt", self.path, f"this run has reached t={self.times[-1]:g}; raise schedule.t_max"
            )


def contents(
    k: int,
    times: Float[np.ndarray, " K"],
    stop_reason: StopReason | None,
    setup: Setup,
    loggers: Mapping[str, str],
) -> dict[str, Any]:
    """What `read_checkpoint` needs, under its key, in plain containers."""
    return {
        _KEY: {
            "format": _FORMAT,
            "version": mfnet.__version__,
            "k": k,
            "times": torch.from_numpy(times),
            "stop_reason": stop_reason and str(stop_reason),
            "config": setup.config,
            "follows": list(setup.follows),
            "loggers": dict(loggers),
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
    reason = saved["stop_reason"] and StopReason(saved["stop_reason"])
    times = saved["times"].numpy()
    return Checkpoint(path, saved["k"], times, reason, saved["config"], saved["follows"], saved["loggers"])
