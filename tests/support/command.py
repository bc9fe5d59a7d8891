"""The command ``mfnet``, called in this process, with what it printed; and what its runs leave, read by other means."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from mfnet.cli import main
from support.type_checks import unchecked

#: A network that is trained in a second, most of which are observations.
SMALL = ["M=40", "N=400", "d=20", "data.n_test=400", "schedule.per_decade=6", "trainer.accelerator=cpu"]

#: TensorBoard's files take as long as that, and figures do; most tests look at neither.
NO_EVENTS = ["logger=[]"]


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit status, and what it printed.

    Attributes:
        status: Negative if a signal ended it: its number.
    """

    status: int
    out: str
    err: str

    def ok(self) -> Ended:
        """Itself, if it has succeeded."""
        assert self.status == 0, self.out + self.err
        return self


def call(*arguments: str, cwd: Path, figures: bool = False) -> Ended:
    """Calls the command in this process, unchecked, and leaves the process as it was.

    Args:
        arguments: The command and its settings.
        cwd: The directory that it is called in.
        figures: Whether runs draw their figures.
    """
    out, err = io.StringIO(), io.StringIO()
    with ExitStack() as stack:
        stack.enter_context(chdir(cwd))
        stack.enter_context(unchanged_process())
        stack.enter_context(unchecked())
        if not figures:
            stack.enter_context(mock.patch("mfnet.training.sinks.files.save_figures", return_value=[]))
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        status = exit_status(lambda: main(arguments))
    return Ended(status, out.getvalue(), err.getvalue())


def exit_status(command: Callable[[], int]) -> int:
    """What the shell would see, for a command that returns its status or raises SystemExit."""
    try:
        return command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Puts back what a command changes in its process: arguments, environment, signal handlers, loggers."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    loggers = [logging.getLogger(name) for name in (None, "hydra", "lightning.pytorch", "lightning.fabric")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    try:
        with mock.patch.dict(os.environ), mock.patch.object(sys, "argv", ["mfnet"]):
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for logger, level, kept in before:
            logger.setLevel(level)
            logger.handlers[:] = kept


# ---------------------------------------------------------------- the files of a run, read without mfnet


def rows(directory: Path) -> list[dict[str, float]]:
    """The observations of ``history.csv``."""
    with (directory / "history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def columns(directory: Path) -> dict[str, np.ndarray]:
    """The columns of ``history.csv``."""
    found = rows(directory)
    return {name: np.array([row[name] for row in found]) for name in found[0]}


def summary(directory: Path) -> dict[str, Any]:
    """``summary.json``, whose numbers are all finite: others are not JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{directory / 'summary.json'} holds {constant}")

    return json.loads((directory / "summary.json").read_text(), parse_constant=refuse)


def assert_same_files(ours: Path, theirs: Path, names: Sequence[str] = ("nodes.npz", "examples.npz")) -> None:
    """That two runs have left the same history and the same arrays, bit for bit."""
    assert (ours / "history.csv").read_bytes() == (theirs / "history.csv").read_bytes()
    for name in names:
        found, expected = np.load(ours / name), np.load(theirs / name)
        assert set(found) == set(expected)
        assert all(np.array_equal(found[key], expected[key]) for key in expected), name
