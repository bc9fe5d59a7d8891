"""Many runs: what is complete is skipped, what was cut off goes on, what fails is listed at the end."""

from __future__ import annotations

import logging
import shlex
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from mfnet.cli import run
from mfnet.cli.arguments import Arguments
from mfnet.cli.going_on import checkpoint_of
from mfnet.cli.jobs import Job, check_directories, check_pieces, chooses_its_own, of_sweep
from mfnet.record.directory import RunDirectory, RunState
from mfnet.record.stop_reason import StopReason
from mfnet.setup.compose import task
from mfnet.setup.errors import InvalidSettingError
from mfnet.setup.resolution import resolved


def sweep(arguments: Arguments, typed: Sequence[str]) -> int:
    """Starts the runs that are not complete, says at the end what has become of all, and returns the exit status.

    Args:
        arguments: What is asked for.
        typed: What was typed, to be typed again.

    Raises:
        SettingError: If a setting of any run is wrong; then nothing was written.
    """
    checkpoint_of(arguments)
    if (config := chooses_its_own(arguments)) is not None:
        return _by_sweeper(arguments, config)
    jobs = of_sweep(arguments)
    check_pieces(jobs)
    check_directories(jobs, in_sweep=True, goes_on=True)
    return start(jobs, arguments, typed)


def start(jobs: Sequence[Job], arguments: Arguments, typed: Sequence[str]) -> int:
    """The same for runs that have been checked."""
    print(_before(jobs), flush=True)
    status = 0
    if any(state is not RunState.COMPLETE for state in _states(jobs)):
        status = launch(arguments, run.in_sweep)
    text, good = _after(jobs, [shlex.quote(word) for word in typed])
    print(text, flush=True)
    return status or int(not good)


def _by_sweeper(arguments: Arguments, config: DictConfig) -> int:
    """A sweep whose runs are chosen as it goes: the settings that stay are checked, and each run when it starts."""
    if config.get("objective") is None:
        raise InvalidSettingError("objective", "null", "the sweeper needs a number, as in objective=test_error")
    resolved(task(config), {}, {})
    root = Path(config.hydra.sweep.dir)
    status = launch(arguments, run.in_sweep)
    directories = [path.parent for path in sorted(root.glob("*/history.csv"))]
    states = Counter(RunDirectory(path).state() for path in directories)
    counts = ", ".join(f"{states[state]} {state}" for state in RunState if states[state])
    print(f"{_runs(len(directories))} in {run.shown(root)}: {counts or 'none'}", flush=True)
    if (root / "optimization_results.yaml").exists():
        print((root / "optimization_results.yaml").read_text().rstrip(), flush=True)
    return status


def launch(arguments: Arguments, job: Callable[[DictConfig], Any]) -> int:
    """Lets Hydra start the runs, by its sweeper and launcher."""
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    logging.getLogger("hydra").setLevel(logging.WARNING)  # each run says itself what it is
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    overrides = [*arguments.overrides, *arguments.source.overrides]
    try:
        hydra.multirun(arguments.source.config_name, job, overrides)
    except KeyboardInterrupt:
        return run.INTERRUPTED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def _states(jobs: Sequence[Job]) -> list[RunState]:
    """How far each run is."""
    return [RunDirectory(job.directory).state() for job in jobs]


def _before(jobs: Sequence[Job]) -> str:
    """What is left to do, in a line."""
    count = Counter(_states(jobs))
    parts = [f"{count[state]} {state}" for state in RunState if count[state]]
    return f"{_runs(len(jobs))} in {run.shown(jobs[0].root)}: {', '.join(parts)}"


def _after(jobs: Sequence[Job], command: Sequence[str]) -> tuple[str, bool]:
    """What has become of the runs, those that are not complete by name; and whether all are, and none has diverged."""
    lines, complete = [], 0
    for job, state in zip(jobs, _states(jobs), strict=True):
        directory = RunDirectory(job.directory)
        if state is RunState.COMPLETE:
            complete += 1
            if directory.read_summary()["stop_reason"] == StopReason.DIVERGED:
                lines.append(f"  diverged   {run.shown(directory.path)}")
        elif state is RunState.FAILED:
            lines.append(f"  failed     {run.shown(directory.path)}: {directory.failure_reason()}")
        else:
            lines.append(f"  unfinished {run.shown(directory.path)}{' (in use)' if directory.in_use() else ''}")
    head = f"{complete} of {_runs(len(jobs))} complete in {run.shown(jobs[0].root)}"
    if complete < len(jobs):
        lines.append(f"the same command goes on: {' '.join(command)}")
    lines.append(f"tables and figures: mfnet collect {run.shown(jobs[0].root)}")
    return "\n".join([head, *lines]), complete == len(jobs) and len(lines) == 1


def _runs(n: int) -> str:
    return "1 run" if n == 1 else f"{n} runs"
