"""How this process was started: alone, or as one of several."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

#: Holds the process that starts others by Lightning, so that they know that they were started, whatever else is set.
PARENT = "MFNET_PARENT"


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
        return Launch("torchrun", _number("RANK"), _number("WORLD_SIZE"), _number("LOCAL_WORLD_SIZE"))
    if os.environ.get(PARENT) == str(os.getppid()):
        size = _number("WORLD_SIZE")
        return Launch("lightning", _number("LOCAL_RANK"), size, size)
    if "SLURM_STEP_ID" in os.environ and _number("SLURM_STEP_NUM_TASKS") > 1:
        size = _number("SLURM_STEP_NUM_TASKS")
        return Launch("srun", _number("SLURM_PROCID"), size, size // _number("SLURM_STEP_NUM_NODES"))
    return Launch()


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    if not value.isdecimal():
        raise ValueError(f"{name}={value!r} in the environment must be a whole number")
    return int(value)
