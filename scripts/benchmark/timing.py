"""Clocks, and contestants that take turns on a machine that others use too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch

#: Seconds that a block of steps of one contestant takes at least, if 100 steps do.
BLOCK = 0.1

#: Runs for a number of steps and returns the seconds they took.
Contestant = Callable[[int], float]


def now(device: torch.device) -> float:
    """Seconds of a clock, when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def repeated(step: Callable[[], object], device: torch.device) -> Contestant:
    """The contestant that calls ``step``."""

    def run(n: int) -> float:
        start = now(device)
        for _ in range(n):
            step()
        return now(device) - start

    return run


def block_size(run: Contestant) -> int:
    """Steps of a contestant that take `BLOCK`; warms it up."""
    run(1)
    return min(max(round(BLOCK / run(1)), 1), 100)


def interleaved(contestants: Mapping[str, Contestant], blocks: Mapping[str, int], budget: float) -> dict[str, float]:
    """Median seconds of a step of contestants that take 3 turns, and up to 15 within ``budget`` seconds."""
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    start = time.perf_counter()
    for turn in range(15):
        if turn >= 3 and time.perf_counter() - start > budget:
            break
        for name, run in contestants.items():
            samples[name].append(run(blocks[name]) / blocks[name])
    return {name: median(values) for name, values in samples.items()}


class Stopwatch:
    """Adds up wall and processor seconds of what is done inside ``with``."""

    def __init__(self, device: torch.device):
        self.device, self.wall, self.processor = device, 0.0, 0.0

    def __enter__(self) -> Stopwatch:
        self._begun = now(self.device), time.process_time()
        return self

    def __exit__(self, *exception: object) -> None:
        wall, processor = self._begun
        self.wall += now(self.device) - wall
        self.processor += time.process_time() - processor
