"""Modules run as processes of their own, for tests of signals, locks and exit statuses.

Importing torch, Lightning and Hydra takes seconds. A server imports them once, computes nothing, and every process
is a fork of it.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext
from multiprocessing.reduction import DupFd
from pathlib import Path

import psutil

from support.command import Ended

#: Seconds after which what should happen is given up.
PATIENCE = 120.0

#: What the server imports.
IMPORTED = [
    "mfnet.cli.run",
    "mfnet.claims",
    "mfnet.figures.experiments",
    "mfnet.training.summary",
    "matplotlib.backends.backend_agg",
    "torch.distributed.run",
]


def prepared() -> ForkServerContext:
    """What starts processes that have imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


class Started:
    """``python -m MODULE ARGUMENTS``, running.

    Args:
        arguments: What follows the module.
        cwd: The directory that it is started in.
        environment: Variables beside those of this process. PYTHONPATH is looked at as when Python starts.
        module: What is run.
    """

    def __init__(self, *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None, module: str = "mfnet"):
        self._printed = [tempfile.TemporaryFile() for _ in ("out", "err")]  # noqa: SIM115  (they outlive this call)
        streams = [DupFd(file.fileno()) for file in self._printed]
        given = (module, arguments, cwd, {**os.environ, **(environment or {})}, *streams)
        self._process = prepared().Process(target=_run, args=given, daemon=True)  # it ends with the tests
        self._process.start()

    @property
    def children(self) -> list[psutil.Process]:
        """The processes that it has started."""
        return psutil.Process(self._process.pid).children()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Returns as soon as ``condition`` holds, which must be before the process ends."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self._process.exitcode is None, "it ended too early"
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        os.kill(self._process.pid, number)

    def end(self) -> Ended:
        """Waits for its end."""
        self._process.join(PATIENCE)
        if (status := self._process.exitcode) is None:
            self._process.kill()
            raise AssertionError("it does not end")
        for file in self._printed:
            file.seek(0)
        out, err = (file.read().decode() for file in self._printed)
        return Ended(status, out, err)


def started(*arguments: str, cwd: Path, environment: Mapping[str, str] | None = None, module: str = "mfnet") -> Ended:
    """As `Started`, at its end."""
    return Started(*arguments, cwd=cwd, environment=environment, module=module).end()


def cold(*arguments: str, cwd: Path, environment: Mapping[str, str] | None = None) -> Ended:
    """``python -m mfnet ARGUMENTS`` from an interpreter that has imported nothing, at its end."""
    command, given = [sys.executable, "-m", "mfnet", *arguments], {**os.environ, **(environment or {})}
    done = subprocess.run(command, cwd=cwd, env=given, capture_output=True, text=True, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def _run(
    module: str, arguments: tuple[str, ...], cwd: Path, environment: dict[str, str], out: DupFd, err: DupFd
) -> None:
    """What the process does: as if Python had just been started."""
    for stream, number in ((out, 1), (err, 2)):
        os.dup2(stream.detach(), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)
