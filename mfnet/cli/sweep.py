"""Many runs: what is complete is skipped, what was cut off goes on, what fails is listed at the end."""

from __future__ import annotations

import copy
import difflib
import logging
import os
import shlex
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from mfnet.cli import run
from mfnet.cli.arguments import Arguments
from mfnet.cli.going_on import checkpoint_of
from mfnet.cli.grid import Sweep
from mfnet.cli.imports import import_training
from mfnet.cli.jobs import Job, check_directories, job_of, quoted
from mfnet.cli.parts import InParts, Plan, at_a_time, described, parts, plans, side_by_side, start_part
from mfnet.cli.workers import n_cores, share_out
from mfnet.record.directory import RunDirectory, RunState
from mfnet.record.series import MEAN_FORCE, SERIES, SLIDING
from mfnet.record.stop_reason import StopReason
from mfnet.setup.checks import check_directory
from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.pieces import told
from mfnet.setup.setup import Setup

#: Runs of a sweep that are composed at once, at most: each takes 20 ms.
AT_ONCE = 1000

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
    if len(swept) > AT_ONCE:
        return _as_it_goes(swept, typed)
    return start(planned(swept), swept, typed)


def planned(swept: Sweep, numbers: Sequence[int] | None = None) -> list[Plan]:
    """Runs of a sweep, or some of them, that have been checked, and how they are started.

    Raises:
        SettingError: If a setting of any is wrong, or its directory has something else.
    """
    jobs = swept.jobs_meanwhile(import_training, numbers)
    if not jobs:
        raise SettingError("the sweep is empty: a setting has no values")
    found = plans(jobs, batch=swept.composed.batch and not _has_hooks(swept.composed))
    check_directories(jobs, in_sweep=True, goes_on=True)
    return found


def _has_hooks(composed: DictConfig) -> bool:
    """Whether Hydra, or a sweeper, is to do something for each run by itself."""
    hydra = composed.hydra
    return bool(hydra.callbacks or hydra.job.env_set or hydra.job.chdir or composed.get("objective"))


def start(runs: Sequence[Plan], swept: Sweep, typed: Sequence[str]) -> int:
    """Starts runs that have been checked, and says what has become of them."""
    jobs = [plan.job for plan in runs]
    workers = _workers(swept)
    left = parts(runs, workers)
    workers = at_a_time(left, workers) if _is_basic(swept) else min(workers, len(left))
    print(_before(jobs) + (f"; {described(left, workers)}" if left else ""), flush=True)
    status = launch(swept, [[plan.job for plan in part] for part in left], run.in_sweep, workers) if left else 0
    text, good = _after(jobs, [shlex.quote(word) for word in typed])
    print(text, flush=True)
    return status or int(not good)


def _as_it_goes(swept: Sweep, typed: Sequence[str]) -> int:
    """A sweep of more runs than are composed at once: those at the ends of each setting are checked, then each batch.

    Raises:
        SettingError: If a setting of a run that is checked before any starts is wrong.
    """
    root = run.shown(swept.root)
    print(f"{_runs(len(swept))} in {root}: {AT_ONCE} at a time are composed, checked and started", flush=True)
    first = planned(swept, range(AT_ONCE))
    if ends := _at_the_ends(swept):
        planned(swept, ends)
    counts: Counter[str] = Counter()
    for number in range(0, len(swept), AT_ONCE):
        numbers = range(number, min(number + AT_ONCE, len(swept)))
        try:
            some = first if number == 0 else planned(swept, numbers)
        except SettingError as error:
            raise SettingError(f"after {number} runs: {error}") from None
        print(f"runs {numbers[0] + 1} to {numbers[-1] + 1} of {len(swept)}", flush=True)
        status = start(some, swept, typed)
        if status == run.INTERRUPTED:
            return status
        counts.update(_states([plan.job for plan in some]))
    found = ", ".join(f"{counts[state]} {state}" for state in RunState if counts[state])
    print(f"{_runs(len(swept))} in {root}: {found}", flush=True)
    return int(counts[RunState.COMPLETE] < len(swept))


def _at_the_ends(swept: Sweep) -> list[int]:
    """Numbers of runs with the last value of a setting, or with any if there are few, and the first of others."""
    numbers, weight = [], 1
    for axis in reversed(swept.axes.values()):
        some = range(1, len(axis)) if len(axis) <= AT_ONCE else [len(axis) - 1]
        numbers += [weight * i for i in some if weight * i >= AT_ONCE]
        weight *= len(axis)
    return numbers


def _workers(swept: Sweep) -> int:
    """How many processes may train at a time."""
    launcher = swept.composed.hydra.launcher
    if _is_basic(swept):
        import torch

        on_gpu = swept.composed.trainer.accelerator != "cpu" and torch.cuda.is_available()
        return 1 if on_gpu or _has_hooks(swept.composed) else n_cores()  # a GPU takes one large batch
    asked = launcher.get("n_jobs", launcher.get("array_parallelism", 1))
    if not isinstance(asked, int) or asked == 0:
        return 1
    return asked if asked > 0 else n_cores()  # joblib's -1: all cores


def _is_basic(swept: Sweep) -> bool:
    """Whether runs are started here, and by no launcher."""
    return str(swept.composed.hydra.launcher.get("_target_")).endswith(BasicLauncher.__name__)


def _by_sweeper(swept: Sweep) -> int:
    """A sweep whose runs are chosen as it goes: one in its midst is checked, and each run when it starts."""
    objective = swept.composed.get("objective")
    if objective is None:
        raise InvalidSettingError("objective", "null", "the sweeper needs a number, as in objective=test_error")
    job = job_of(copy.deepcopy(swept.composed), swept.overrides)
    _check_objective(objective, job.setup)
    plans([job], batch=False)
    root = Path(swept.composed.hydra.sweep.dir)
    check_directory("hydra.sweep.dir", root, new=False)
    results, began = root / "optimization_results.yaml", time.time()
    status = _with_hydra(swept, partial(_let_choose, swept))
    directories = [path.parent for path in sorted(root.glob("*/history.csv"))]
    states = Counter(RunDirectory(path).state() for path in directories)
    counts = ", ".join(f"{states[state]} {state}" for state in RunState if states[state])
    print(f"{_runs(len(directories))} in {run.shown(root)}: {counts or 'none'}", flush=True)
    if results.exists() and results.stat().st_mtime >= began - 1.0:  # not those of an earlier sweep
        print(results.read_text().rstrip(), flush=True)
    return status


def _let_choose(swept: Sweep, context: HydraContext) -> None:
    """Lets a sweeper choose runs, and start them."""
    sweeper = Plugins.instance().instantiate_sweeper(
        hydra_context=context, task_function=run.in_sweep, config=swept.composed
    )
    sweeper.sweep(arguments=list(swept.overrides))


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


def launch(swept: Sweep, started: Sequence[Sequence[Job]], alone: Callable[[DictConfig], Any], workers: int = 1) -> int:
    """Starts runs, here or by the launcher that is asked for; those of a part together.

    Args:
        swept: The sweep.
        started: The parts.
        alone: Starts a run, given its config.
        workers: How many parts are started at a time, if it is here.
    """
    path = swept.root / "multirun.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(swept.composed, path)
    if _is_basic(swept):
        return _with_hydra(swept, lambda _: _here(started, alone, workers))
    batches = [part for part in started if len(part) > 1]
    task = InParts.of(batches) if batches else alone

    def by_launcher(context: HydraContext) -> None:
        config = swept.composed
        launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=config)
        size = config.hydra.sweeper.get("max_batch_size") or len(started)
        for i in range(0, len(started), size):
            launcher.launch([_asked_of(part[0], swept) for part in started[i : i + size]], initial_job_idx=i)

    return _with_hydra(swept, by_launcher)


def _here(started: Sequence[Sequence[Job]], alone: Callable[[DictConfig], Any], workers: int) -> None:
    """Starts parts, several at a time in copies of this process, or one after the other."""
    if workers > 1:
        share_out(started, start_part, workers)
        return
    for part in started:
        if len(part) > 1:
            side_by_side(part)
        else:
            run.in_its_directory(part[0], alone, in_sweep=True)


def _asked_of(job: Job, swept: Sweep) -> list[str]:
    """The overrides by which a launcher composes a run, whose place is known here."""
    subdir = os.path.relpath(job.directory, job.root)
    return [*(line for line in job.overrides if line not in swept.own), f"hydra.sweep.subdir={quoted(subdir)}"]


def _with_hydra(swept: Sweep, start: Callable[[HydraContext], Any]) -> int:
    """Does what Hydra does around a sweep, lets it start runs, and returns the exit status.

    Its own multirun would compose the settings that stay without those that vary, and refuse ``flow=euler,rotation
    flow.dt=0.1``.
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
        start(context)
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
