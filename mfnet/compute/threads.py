"""Threads of this process: parts of a pass side by side, or all of it on one thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[None]:
    """For operations too small to share: on a busy machine each would wait for the slower thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def side_by_side(work: Callable[[slice], Result], n: int, least: int, device: torch.device) -> list[Result]:
    """``work`` on consecutive shares of ``n`` rows, without gradients; what it returns of each, in their order.

    On a CPU each of torch's threads takes a share and does all of its operations alone, because threads that share
    every operation wait for one another at the end of each; a GPU gets all rows at once.

    Args:
        work: Called with the rows of a share, at the same time as with the others.
        n: Number of rows.
        least: Rows that are worth a thread.
        device: Where the work is done.
    """
    threads = min(torch.get_num_threads(), n // least) if device.type == "cpu" else 1
    if threads <= 1:
        return [work(slice(0, n))]
    shares = [slice(i * n // threads, (i + 1) * n // threads) for i in range(threads)]
    work = torch.no_grad()(work)
    with one_thread():
        others = [_others(threads - 1).submit(work, share) for share in shares[1:]]
        try:
            first = work(shares[0])
        finally:
            results = [other.result() for other in others]
    return [first, *results]


@cache
def _others(n: int) -> ThreadPoolExecutor:
    """Threads beside the calling one; they are made under `one_thread`, and stay at that."""
    return ThreadPoolExecutor(n, thread_name_prefix="mfnet")


os.register_at_fork(after_in_child=_others.cache_clear)  # a forked process has none of its parent's threads
