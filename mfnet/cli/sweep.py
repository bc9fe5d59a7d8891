"""Many runs: what is complete is skipped, what was cut off goes on, what fails is listed at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mfnet.cli.compose import Job
from mfnet.cli.run import shown
from mfnet.run_directory import RunDirectory, RunState


def states(jobs: Sequence[Job]) -> list[RunState]:
    """How far each run is."""
    return [RunDirectory(job.directory).state() for job in jobs]


def before(jobs: Sequence[Job]) -> str:
    """What is left to do, in a line."""
    count = Counter(states(jobs))
    parts = [f"{count[state]} {state}" for state in RunState if count[state]]
    return f"{_runs(len(jobs))} in {shown(_root(jobs))}: {', '.join(parts)}"


def after(jobs: Sequence[Job], command: Sequence[str]) -> tuple[str, bool]:
    """What has become of the runs, those that are not complete by name; and whether all are, and none has diverged."""
    lines, complete = [], 0
    for job, state in zip(jobs, states(jobs), strict=True):
        directory = RunDirectory(job.directory)
        if state is RunState.COMPLETE:
            complete += 1
            if directory.read_summary()["stop_reason"] == "diverged":
                lines.append(f"  diverged   {shown(directory.path)}")
        elif state is RunState.FAILED:
            lines.append(f"  failed     {shown(directory.path)}: {directory.failure_reason()}")
        else:
            lines.append(f"  unfinished {shown(directory.path)}{' (in use)' if directory.in_use() else ''}")
    head = f"{complete} of {_runs(len(jobs))} complete in {shown(_root(jobs))}"
    if complete < len(jobs):
        lines.append(f"the same command goes on: {' '.join(command)}")
    lines.append(f"tables and figures: mfnet collect {shown(_root(jobs))}")
    return "\n".join([head, *lines]), complete == len(jobs) and len(lines) == 1


def _root(jobs: Sequence[Job]) -> Path:
    return Path(jobs[0].composed.hydra.sweep.dir)


def _runs(n: int) -> str:
    return "1 run" if n == 1 else f"{n} runs"
