"""Work in copies of a process: what comes back, and what becomes of a copy that fails."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import time

import pytest

import mfnet.cli.workers
from mfnet.cli.imports import uncollected
from mfnet.cli.workers import meanwhile

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process cannot be copied safely")


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(mfnet.cli.workers, "n_cores", lambda: 2)


def of_this_process():
    return os.getpid()


@linux
@pytest.mark.usefixtures("two_cores")
def test_a_copy_does_a_task_while_this_process_does_something_else():
    done = []
    assert meanwhile(of_this_process, lambda: done.append(os.getpid())) != os.getpid()
    assert done == [os.getpid()]
    assert not multiprocessing.active_children()


def test_on_one_core_the_task_is_done_here(monkeypatch):
    monkeypatch.setattr(mfnet.cli.workers, "n_cores", lambda: 1)
    assert meanwhile(of_this_process, lambda: None) == os.getpid()


def kill_the_copy(here):
    if os.getpid() != here:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@linux
@pytest.mark.usefixtures("two_cores")
def test_a_task_whose_copy_does_not_end_well_is_done_here():
    """One that is killed, one whose answer cannot be sent, one that exits; and one that fails says why."""
    here = os.getpid()
    assert meanwhile(lambda: kill_the_copy(here), lambda: None) == here
    assert meanwhile(lambda: lambda: here, lambda: None)() == here
    with pytest.raises(ZeroDivisionError):
        meanwhile(lambda: 1 // 0, lambda: None)
    assert not multiprocessing.active_children()


@linux
@pytest.mark.usefixtures("two_cores")
def test_the_copy_ends_when_what_is_done_here_fails():
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        meanwhile(lambda: time.sleep(600.0), lambda: signal.raise_signal(signal.SIGINT))
    assert not multiprocessing.active_children()
    assert time.monotonic() - began < 60.0


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_after_imports_as_before(enabled):
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
    finally:
        gc.unfreeze()
        (gc.enable if before else gc.disable)()
