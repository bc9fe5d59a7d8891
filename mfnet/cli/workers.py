"""Work shared out among the cores of this machine, in copies of this process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

T = TypeVar("T")

#: Processes, at most.
MOST = 16


def n_cores() -> int:
    """Cores that this process may use, and no more than the threads that ``OMP_NUM_THREADS`` gives it."""
    if sys.platform != "linux" or multiprocessing.current_process().daemon:
        return 1  # elsewhere a process cannot be copied safely, and a daemon may have no children
    allowed = len(os.sched_getaffinity(0))
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return max(1, min(allowed, int(given) if given.isdecimal() else allowed, MOST))


def share_out(tasks: Sequence[T], work: Callable[[T], Any], n: int) -> None:
    """Does tasks in this process and in copies of it, each of which takes the next one when it is free.

    The copies end with this process, however that ends; Ctrl-C and SIGTERM end all of them as they would end it.

    Args:
        tasks: What is to be done.
        work: Does one; what it prints is all that comes back.
        n: Number of processes, of which this is one.
    """
    context = multiprocessing.get_context("fork")
    taken = context.Value("i", 0)
    alive, ends = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    copies = [context.Process(target=_copy, args=(tasks, work, taken, alive, ends)) for _ in range(n - 1)]
    try:
        for copy in copies:
            copy.start()
        with single_threaded():
            _take(tasks, work, taken)
        for copy in copies:
            copy.join()
    except BaseException:
        for copy in copies:
            if copy.pid is not None and copy.is_alive():
                os.kill(copy.pid, signal.SIGTERM)
        for copy in copies:
            if copy.pid is not None:
                copy.join()
        raise
    finally:
        os.close(alive)
        os.close(ends)


def meanwhile(task: Callable[[], T], action: Callable[[], Any]) -> T:
    """Does a task in a copy of this process while this one does something else, and returns what the task returns.

    Where there is one core, and if the copy does not come to its end, the task is done here afterwards.

    Args:
        task: What it returns can be pickled.
        action: What is done here.
    """
    if n_cores() == 1:
        action()
        return task()
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    copy = context.Process(target=_send, args=(task, sender), daemon=True)
    copy.start()
    sender.close()
    try:
        action()
        return receiver.recv()
    except EOFError:
        return task()
    finally:
        copy.terminate()
        copy.join()
        receiver.close()


def _send(task: Callable[[], Any], sender: Connection) -> None:
    """What the copy does; a task that fails is done again in the first process, which tells why."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(Exception):
        sender.send(task())


@contextmanager
def single_threaded() -> Iterator[None]:
    """Inside, torch and numpy compute on one thread: the other cores are other processes'."""
    from mfnet.compute.threads import one_thread

    with one_thread(), threadpool_limits(1):
        yield


def _take(tasks: Sequence[T], work: Callable[[T], Any], taken: Any) -> None:
    """Does tasks until all are taken."""
    while True:
        with taken.get_lock():
            number = taken.value
            taken.value += 1
        if number >= len(tasks):
            return
        work(tasks[number])


def _copy(tasks: Sequence[T], work: Callable[[T], Any], taken: Any, alive: int, ends: int) -> None:
    """What a copy does."""
    os.close(ends)
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    try:
        with single_threaded():
            _take(tasks, work, taken)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _end_with(alive: int) -> None:
    """Ends this process as soon as nobody holds the other end of a pipe any more."""
    os.read(alive, 1)
    os.kill(os.getpid(), signal.SIGTERM)
