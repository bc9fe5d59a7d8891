"""Many runs: what is complete is skipped, what was cut off goes on, what fails is listed at the end."""

from __future__ import annotations

import logging
import shlex
import signal
from collections import Counter
from collections.abc import Sequence

from mfnet.cli.compose import Job
from mfnet.cli.launch import launch
from mfnet.cli.run import INTERRUPTED, shown
from mfnet.record.directory import RunDirectory, RunState


def sweep(jobs: Sequence[Job], arguments: Sequence[str], command: Sequence[str]) -> int:
    """Starts the runs that are not complete, says at the end what has become of all, and returns the exit status.

    Args:
        jobs: The runs, as checked.
        arguments: What Hydra is to read off the command line for these runs.
        command: What was typed, to be typed again.
    """
    print(_before(jobs), flush=True)
    status = 0
    if any(state is not RunState.COMPLETE for state in _states(jobs)):
        logging.getLogger("hydra").setLevel(logging.WARNING)  # each run says itself what it is
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            launch("train", arguments)
        except KeyboardInterrupt:
            status = INTERRUPTED
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
    text, good = _after(jobs, [shlex.quote(word) for word in command])
    print(text, flush=True)
    return status or int(not good)


def _states(jobs: Sequence[Job]) -> list[RunState]:
    """How far each run is."""
    return [RunDirectory(job.directory).state() for job in jobs]


def _before(jobs: Sequence[Job]) -> str:
    """What is left to do, in a line."""
    count = Counter(_states(jobs))
    parts = [f"{count[state]} {state}" for state in RunState if count[state]]
    return f"{_runs(len(jobs))} in {shown(jobs[0].root)}: {', '.join(parts)}"


def _after(jobs: Sequence[Job], command: Sequence[str]) -> tuple[str, bool]:
    """What has become of the runs, those that are not complete by name; and whether all are, and none has diverged."""
    lines, complete = [], 0
    for job, state in zip(jobs, _states(jobs), strict=True):
        directory = RunDirectory(job.directory)
        if state is RunState.COMPLETE:
            complete += 1
            if directory.read_summary()["stop_reason"] == "diverged":
                lines.append(f"  diverged   {shown(directory.path)}")
        elif state is RunState.FAILED:
            lines.append(f"  failed     {shown(directory.path)}: {directory.failure_reason()}")
        else:
            lines.append(f"  unfinished {shown(directory.path)}{' (in use)' if directory.in_use() else ''}")
    head = f"{complete} of {_runs(len(jobs))} complete in {shown(jobs[0].root)}"
    if complete < len(jobs):
        lines.append(f"the same command goes on: {' '.join(command)}")
    lines.append(f"tables and figures: mfnet collect {shown(jobs[0].root)}")
    return "\n".join([head, *lines]), complete == len(jobs) and len(lines) == 1


def _runs(n: int) -> str:
    return "1 run" if n == 1 else f"{n} runs"
