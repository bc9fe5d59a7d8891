"""How this process was started: alone, or as one of several."""

from __future__ import annotations

import os
import time
from typing import Literal, NamedTuple

#: Holds the process that starts others by Lightning, so that they know that they were started, whatever else is set.
PARENT = "MFNET_PARENT"


class FellowEndedError(Exception):
    """Another process of a run that is divided has ended before this one."""


class Launch(NamedTuple):
    """How this process was started.

    Attributes:
        by: What has started it with others: Lightning, torchrun, or srun of Slurm; or nothing.
        rank: Its number among them.
        size: How many there are.
        per_node: How many on each machine.
    """

    by: Literal["alone", "lightning", "torchrun", "srun"] = "alone"
    rank: int = 0
    size: int = 1
    per_node: int = 1


def launch() -> Launch:
    """As the environment says. What a job of Slurm is given counts in a step of several tasks alone.

    Raises:
        ValueError: If a variable of the environment that counts is no whole number.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        size = _number("WORLD_SIZE", least=1)
        return Launch("torchrun", _rank("RANK", size), size, _number("LOCAL_WORLD_SIZE", least=1))
    if os.environ.get(PARENT) == str(os.getppid()):
        size = _number("WORLD_SIZE", least=1)
        return Launch("lightning", _rank("LOCAL_RANK", size), size, size)
    if "SLURM_STEP_ID" in os.environ and _number("SLURM_STEP_NUM_TASKS") > 1:
        size = _number("SLURM_STEP_NUM_TASKS")
        return Launch("srun", _rank("SLURM_PROCID", size), size, size // _number("SLURM_STEP_NUM_NODES", least=1))
    return Launch()


def starter_lives(seconds: float = 0.0) -> bool:
    """Whether the process that has started this one, where Lightning has, is there, and is in so many seconds too."""
    deadline = time.monotonic() + seconds
    while True:
        parent = str(os.getppid())
        if os.environ.get(PARENT, parent) != parent:
            return False
        if time.monotonic() >= deadline:
            return True
        time.sleep(0.05)


def _number(name: str, *, least: int = 0) -> int:
    value = os.environ.get(name, "")
    if not value.isdecimal() or int(value) < least:
        above = f" of at least {least}" if least else ""
        raise ValueError(f"{name}={value!r} in the environment must be a whole number{above}; unset it")
    return int(value)


def _rank(name: str, size: int) -> int:
    """The number of this process among ``size``."""
    if (rank := _number(name)) >= size:
        raise ValueError(f"{name}={rank} in the environment must be below the number of processes, {size}; unset it")
    return rank
