"""What is measured, and how thoroughly."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch

CPU = torch.device("cpu")

#: Input dimension of the large problems, their seed, and the number of examples that test errors are taken from.
D, SEED, N_TEST = 100, 0, 10_000

TIMES = (3.0, 10.0, 20.0, 30.0, 60.0, 100.0, 150.0, 300.0, 600.0, 1e3, 2e3, 4e3, 1e4, 2e4, 4e4, 1e5)


@dataclass(frozen=True)
class Way:
    """A run: to the time ``times[-1]``, or until all are satisfied if it is ``to_satisfied``; Δt is that of (a)."""

    alpha: float
    dt: float
    N: int
    M: int
    times: tuple[float, ...]
    to_satisfied: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """The default of ``mfnet train``."""
        return torch.float64 if self.alpha >= 100.0 else torch.float32

    def __str__(self) -> str:
        end = "all satisfied" if self.to_satisfied else f"t={self.times[-1]:g}"
        return f"α={self.alpha:g} to {end}, N={self.N:g}, M={self.M}, Δt={self.dt:g}, {name_of(self.dtype)}"


@dataclass(frozen=True)
class Settings:
    """How much is done for each table, and where.

    Attributes:
        tables: Which tables are made.
        sizes: (N, M) of the single gradients.
        ways: The whole ways.
        small: (N, M, d) of the small problems.
        seeds: Networks and data of each small problem.
        halvings: How often (a)'s Δt is halved at most to be as accurate as ours.
        memory_sizes: (N, M) whose memory is measured.
        precision_sizes: (N, M) of the gradients in reduced precision, and of the runs whose errors are compared.
        replicas: Networks of the ensembles.
        dtypes: Types of the first of them.
        alone: How many of its networks are trained one after the other, at most; the rest takes as long.
        turns: Runs of everything that is run whole; medians are reported.
        budget: Seconds that contestants take turns for, about.
        patience: Seconds after which (d) is stopped on a way.
        threads: Of the CPU.
        device: Where everything is run.
        full: Whether (a) and (b) are run all the way.
        reference: Whether errors on the ways are compared with a finer flow.
    """

    tables: tuple[str, ...] = ("gradient", "way", "small", "precision", "memory", "ensemble")
    sizes: tuple[tuple[int, int], ...] = tuple(itertools.product((1000, 10_000, 100_000), (100, 400, 10_000)))
    ways: tuple[Way, ...] = (
        Way(1.0, 1.0, 10_000, 400, TIMES, to_satisfied=True),
        Way(1e-3, 1e-3, 10_000, 400, (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)),
        Way(1e3, 10.0, 10_000, 400, (30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4)),
        Way(1.0, 1.0, 100_000, 400, tuple(t for t in TIMES if t <= 4e3)),
    )
    small: tuple[tuple[int, int, int], ...] = ((100, 50, 5), (1000, 100, 20))
    seeds: int = 4
    halvings: int = 4
    memory_sizes: tuple[tuple[int, int], ...] = ((10_000, 400), (10_000, 10_000), (10_000, 100_000))
    precision_sizes: tuple[tuple[int, int], tuple[int, int]] = ((10_000, 400), (4000, 400))
    replicas: tuple[int, ...] = (32,)
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
    alone: int = 32
    turns: int = 3
    budget: float = 20.0
    patience: float = 300.0
    threads: int = 0
    device: torch.device = CPU
    full: bool = False
    reference: bool = False

    @property
    def patience_of_ways(self) -> float:
        """Seconds after which (d) is stopped on a way; it is not if all are run all the way."""
        return math.inf if self.full else self.patience


FULL = Settings()

#: Large networks, and many: what a GPU is for.
CUDA = Settings(
    tables=("gradient", "way", "precision", "memory", "ensemble"),
    sizes=((10_000, 400), (100_000, 400), (10_000, 10_000), (100_000, 100_000), (10_000, 1_000_000)),
    ways=(
        Way(1.0, 1.0, 10_000, 400, TIMES, to_satisfied=True),
        Way(1.0, 1.0, 100_000, 400, tuple(t for t in TIMES if t <= 1e3)),
        Way(1.0, 1.0, 10_000, 10_000, tuple(t for t in TIMES if t <= 300.0)),
        Way(1.0, 1.0, 100_000, 100_000, (3.0, 10.0, 30.0)),
        Way(1.0, 1.0, 10_000, 1_000_000, (3.0, 10.0, 30.0)),
    ),
    memory_sizes=((10_000, 400), (10_000, 10_000), (100_000, 100_000), (10_000, 1_000_000)),
    precision_sizes=((100_000, 100_000), (4000, 400)),
    replicas=(32, 256, 1024),
    dtypes=(torch.float32,),
    alone=3,
    turns=1,
    budget=1.0,
    patience=5.0,
)

#: One small case a table, on one thread.
QUICK = Settings(
    sizes=((1000, 100),),
    ways=(Way(1.0, 1.0, 1000, 100, TIMES, to_satisfied=True),),
    small=((100, 50, 5),),
    seeds=1,
    halvings=2,
    memory_sizes=((1000, 100),),
    precision_sizes=((1000, 100), (200, 20)),
    replicas=(4,),
    turns=1,
    budget=1.0,
    patience=3.0,
    threads=1,
)


def name_of(dtype: torch.dtype) -> str:
    """As it is called without torch."""
    return str(dtype).removeprefix("torch.")
