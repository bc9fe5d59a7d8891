"""How much a check may spend, and on how many processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import torch

from mfnet.compute.threads import one_thread

T = TypeVar("T")
A = TypeVar("A")
R = TypeVar("R")


class Effort:
    """The effort of a check; a context, at the end of which its processes end.

    Results do not depend on the number of processes: each simulation has its own seed and runs on one thread.

    Args:
        quick: Whether to take the small sizes and few seeds of a test.
        processes: Simulations at a time.
    """

    def __init__(self, *, quick: bool, processes: int = 1):
        self.quick, self.processes = quick, processes
        self._pool: ProcessPoolExecutor | None = None

    def choose(self, full: T, quick: T) -> T:
        """The one that this effort asks for."""
        return quick if self.quick else full

    def map(self, simulation: Callable[[A], R], cases: Sequence[A]) -> list[R]:
        """``simulation`` of every case, in their order; both must be picklable.

        Args:
            simulation: A function of a module, or `functools.partial` of one.
            cases: Its arguments.
        """
        if self.processes == 1 or len(cases) == 1:
            with one_thread():
                return [simulation(case) for case in cases]
        if self._pool is None:  # started by the first claim that needs it
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.processes, context, initializer=_begin)
        return list(self._pool.map(simulation, cases))

    def __enter__(self) -> Effort:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _begin() -> None:
    """Begins a process of the pool, which computes on one thread and ends with its parent, however that ends."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
