"""Many runs: what is complete is skipped, what was cut off goes on, what fails is listed at the end."""

from __future__ import annotations

import copy
import difflib
import logging
import shlex
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig

from mfnet.cli import run
from mfnet.cli.arguments import Arguments
from mfnet.cli.going_on import checkpoint_of
from mfnet.cli.jobs import Job, Sweep, check_directories, check_pieces, job_of, of_sweep
from mfnet.record.directory import RunDirectory, RunState
from mfnet.record.series import MEAN_FORCE, SERIES, SLIDING
from mfnet.record.stop_reason import StopReason
from mfnet.setup.checks import check_directory
from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.pieces import told
from mfnet.setup.setup import Setup

#: Numbers of ``summary.json`` beside the last values of series.
_NUMBERS = ("n_unsatisfied", "t_end", "steps", "drive_evaluations", "wall_seconds")

#: Callbacks that add none.
_WITHOUT_NUMBERS = ("mfnet.training.NodeLog", "mfnet.training.ExampleLog")


def sweep(arguments: Arguments, typed: Sequence[str]) -> int:
    """Starts the runs that are not complete, says at the end what has become of all, and returns the exit status.

    Args:
        arguments: What is asked for.
        typed: What was typed, to be typed again.

    Raises:
        SettingError: If a setting of any run is wrong; then nothing was written.
    """
    checkpoint_of(arguments)
    swept = Sweep.read(arguments)
    if not swept.is_grid:
        return _by_sweeper(swept)
    jobs = of_sweep(swept)
    check_pieces(jobs)
    check_directories(jobs, in_sweep=True, goes_on=True)
    return start(jobs, swept, typed)


def start(jobs: Sequence[Job], swept: Sweep, typed: Sequence[str]) -> int:
    """The same for runs that have been checked."""
    print(_before(jobs), flush=True)
    status = 0
    if any(state is not RunState.COMPLETE for state in _states(jobs)):
        status = launch(swept, run.in_sweep)
    text, good = _after(jobs, [shlex.quote(word) for word in typed])
    print(text, flush=True)
    return status or int(not good)


def _by_sweeper(swept: Sweep) -> int:
    """A sweep whose runs are chosen as it goes: one in its midst is checked, and each run when it starts."""
    objective = swept.composed.get("objective")
    if objective is None:
        raise InvalidSettingError("objective", "null", "the sweeper needs a number, as in objective=test_error")
    job = job_of(copy.deepcopy(swept.composed), swept.overrides)
    _check_objective(objective, job.setup)
    check_pieces([job])
    root = Path(swept.composed.hydra.sweep.dir)
    check_directory("hydra.sweep.dir", root, new=False)
    results, began = root / "optimization_results.yaml", time.time()
    status = launch(swept, run.in_sweep)
    directories = [path.parent for path in sorted(root.glob("*/history.csv"))]
    states = Counter(RunDirectory(path).state() for path in directories)
    counts = ", ".join(f"{states[state]} {state}" for state in RunState if states[state])
    print(f"{_runs(len(directories))} in {run.shown(root)}: {counts or 'none'}", flush=True)
    if results.exists() and results.stat().st_mtime >= began - 1.0:  # not those of an earlier sweep
        print(results.read_text().rstrip(), flush=True)
    return status


def _check_objective(name: str, setup: Setup) -> None:
    """Checks that a run will have a number of this name, where all that looks at it is known here.

    Raises:
        InvalidSettingError: If it will not.
    """
    known = [*_NUMBERS, *SERIES, MEAN_FORCE, SLIDING]
    others = [callback for callback in setup.callbacks.values() if callback.get("_target_") not in _WITHOUT_NUMBERS]
    own_flow = not str(setup.flow["_target_"]).startswith("mfnet.")
    if name not in known and not others and not own_flow:
        similar = difflib.get_close_matches(name, known, n=2)
        hint = f"; did you mean {' or '.join(similar)}?" if similar else ""
        raise InvalidSettingError("objective", name, f"must be a number of summary.json: {', '.join(known)}{hint}")


def launch(swept: Sweep, job: Callable[[DictConfig], Any]) -> int:
    """Lets Hydra start the runs, by its sweeper and launcher, as its own multirun does.

    That would compose the settings that stay without those that vary, and refuse ``flow=euler,rotation flow.dt=0.1``.
    """
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    config = swept.composed
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    logging.getLogger("hydra").setLevel(logging.WARNING)  # each run says itself what it is
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    callbacks = Callbacks(config)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks)
    try:
        callbacks.on_multirun_start(config=config, config_name=swept.config_name)
        sweeper = Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=job, config=config)
        if swept.is_grid:
            sweeper.validate_batch_is_legal = lambda batch: None  # type: ignore[method-assign]  # they were composed
        sweeper.sweep(arguments=list(swept.overrides))
        callbacks.on_multirun_end(config=config, config_name=swept.config_name)
    except KeyboardInterrupt:
        return run.INTERRUPTED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except HydraException as error:
        raise SettingError(told(error)) from None
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
    root = run.shown(jobs[0].root)
    lines.append(f"tables and figures: mfnet collect {root}; figures of single runs: mfnet figures RUN")
    return "\n".join([head, *lines]), complete == len(jobs) and len(lines) == 1


def _runs(n: int) -> str:
    return "1 run" if n == 1 else f"{n} runs"
