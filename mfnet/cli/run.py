"""One run in a directory of its own, told as it goes."""

from __future__ import annotations

import atexit
import os
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobStatus, run_job
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from mfnet.cli.jobs import Job, check_directories
from mfnet.cli.system import SystemRefusalError, refusal
from mfnet.record.directory import RunDirectory, RunInUseError, RunState
from mfnet.record.stop_reason import StopReason
from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.pieces import own_pieces
from mfnet.setup.setup import Setup

T = TypeVar("T")

#: Exit status of what was ended by Ctrl-C or SIGTERM, as the shell's.
INTERRUPTED = 130


@contextmanager
def reserved(job: Job, *, new: bool = True) -> Iterator[None]:
    """Inside, no other process is at work in the directory of a run alone, which is made if need be.

    Args:
        job: The run.
        new: Whether nothing may have been written there before.

    Raises:
        SettingError: If another process is, or was.
    """
    directory = RunDirectory(job.directory)
    directory.path.mkdir(parents=True, exist_ok=True)
    try:
        with directory.lock():
            if new:  # another process may have been there since it was asked for
                check_directories([job])
            yield
    except RunInUseError as error:
        raise SettingError(str(error)) from None


@contextmanager
def told_in_a_line(directory: RunDirectory, setup: Setup) -> Iterator[None]:
    """Inside, what ends a run from outside is told in a line: what the system has refused, and what is left.

    Raises:
        SystemRefusalError: Instead of the exception that has ended it.
    """
    try:
        yield
    except Exception as error:
        if (why := refusal(error, directory.path)) is None:
            raise
        raise SystemRefusalError(f"{why}; {what_is_left(directory, setup)}") from error


def in_its_directory(job: Job, start: Callable[[DictConfig], T], *, in_sweep: bool = False) -> T:
    """Lets Hydra make the directory of a run, with its config, and starts it there.

    Args:
        job: The run.
        start: Starts it, given its config; what it returns is returned.
        in_sweep: Whether it is one of a sweep.
    """
    hydra, composed = GlobalHydra.instance().hydra, job.compose()
    assert hydra is not None
    callbacks = Callbacks(composed) if in_sweep else Callbacks()
    context = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks)
    ended = run_job(
        hydra_context=context,
        task_function=start,
        config=composed,
        job_dir_key="hydra.sweep.dir" if in_sweep else "hydra.run.dir",
        job_subdir_key="hydra.sweep.subdir" if in_sweep else None,
    )
    if ended.status is JobStatus.FAILED:
        raise ended._return_value
    returned: T = ended.return_value
    return returned


def write_config(job: Job) -> None:
    """Writes what Hydra would into the directory of a run of a sweep, which it is to start without it."""
    composed = job.compose()
    with open_dict(composed):
        hydra = composed.pop("hydra")
    if hydra.output_subdir is None:
        return
    where = job.directory / str(hydra.output_subdir)
    with read_write(hydra.runtime), open_dict(hydra.runtime):
        hydra.runtime.output_dir = str(job.directory.absolute())
    where.mkdir(parents=True, exist_ok=True)
    parts = {"config": composed, "hydra": OmegaConf.create({"hydra": hydra}), "overrides": hydra.overrides.task}
    for name, part in parts.items():
        (where / f"{name}.yaml").write_text(OmegaConf.to_yaml(part), encoding="utf-8")


def follow(training: Any, shown_how: Callable[[], str], *, in_short: bool = False) -> int:
    """Trains, prints how it went, and returns the exit status: 1 if the run has diverged.

    Args:
        training: The run.
        shown_how: Says how to go on, if it is interrupted.
        in_short: Whether to say in a line how it ended.
    """
    from mfnet.training.summary import report

    directory: RunDirectory = training.directory
    where = shown(directory.path)
    print(f"{training.headline}\n{where}", flush=True)
    try:
        run = training.run()
    except KeyboardInterrupt:
        print(shown_how(), file=sys.stderr, flush=True)
        raise SystemExit(INTERRUPTED) from None
    if in_short:
        tell_in_short(directory, run.summary)
    else:
        figures = shown(directory.figures) if directory.figures.exists() else f"mfnet figures {where}"
        lines = [report(run.contents), f"figures      {figures}"]
        if directory.tensorboard.exists():
            lines += [
                f"TensorBoard  tensorboard --logdir {shown(directory.tensorboard)}",
                "             then http://localhost:6006/?smoothing=0#timeseries",
            ]
        print("\n".join(lines), flush=True)
    return int(run.summary["stop_reason"] == StopReason.DIVERGED)


def tell_in_short(directory: RunDirectory, summary: Mapping[str, Any]) -> None:
    """Says in a line how a run has ended."""
    from mfnet.training.summary import brief

    print(f"{shown(directory.path)}\n  {brief(summary)}", flush=True)


def fail(directory: RunDirectory, error: Exception) -> None:
    """Keeps and says of what a run of a sweep has failed."""
    directory.write_failure("".join(traceback.format_exception(error)))
    print(f"mfnet: FAILED {shown(directory.path)}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm":  # a job of its own, which is to end as FAILED too
        atexit.register(_end_as_failed)


def how_to_go_on(directory: RunDirectory, setup: Setup) -> str:
    """What is said when a run is interrupted; pieces of the user's own are named again, as no checkpoint may."""
    if not directory.checkpoint.exists():
        return f"\nmfnet: interrupted before the first checkpoint of {shown(directory.path)}"
    return f"\nmfnet: interrupted; {_going_on(directory, setup)}"


def _going_on(directory: RunDirectory, setup: Setup) -> str:
    words = [
        f"ckpt={shown(directory.checkpoint)}",
        *(f"++{key}={name}" for key, name in own_pieces(setup.config).items()),
    ]
    return f"go on with: mfnet train {shlex.join(words)}"


def what_is_left(directory: RunDirectory, setup: Setup) -> str:
    """What is said of a run that the system has ended: what it has left, and how it goes on."""
    from mfnet.training.checkpoint import read_checkpoint

    where = shown(directory.path)
    if not directory.history.exists():
        return "nothing was observed yet"
    try:
        times = directory.read_history()["t"]
        summary = directory.read_summary() if directory.state() is RunState.COMPLETE else {}
        if summary.get("t_end") == times[-1]:
            return f"the run is complete but for its figures; draw them with: mfnet figures {shlex.quote(where)}"
        kept = f"{len(times)} observation{'s' if len(times) > 1 else ''} up to t = {times[-1]:g} are kept in {where}"
        if not directory.checkpoint.exists():
            return f"{kept}, and no checkpoint"
        ended = not read_checkpoint(directory.checkpoint).may_go_on
    except (OSError, ValueError, KeyError, IndexError, TypeError, SettingError):
        return f"what was observed is kept in {where}"
    return f"{kept}, which are all, but no summary.json" if ended else f"{kept}; {_going_on(directory, setup)}"


def in_sweep(config: DictConfig) -> float | None:
    """One run of a sweep, in the directory that Hydra has made; returns its ``objective``, if one is asked for.

    A run that is complete stays as it is, one that was cut off goes on, and a failure is told and kept, and does not
    end the sweep.
    """
    directory, objective = RunDirectory(HydraConfig.get().runtime.output_dir), config.get("objective")
    while objective is not None and directory.in_use():  # by a trial that is the same
        time.sleep(0.2)
    try:
        with directory.lock():
            if directory.state() is not RunState.COMPLETE:  # by another process since the sweep was started
                _train_in_sweep(Setup.resolved(config), directory)
    except (RunInUseError, SettingError) as error:
        print(f"mfnet: error: {error}", file=sys.stderr, flush=True)
        if objective is not None:
            raise
    return None if objective is None else _reached(directory, objective)


def by_itself(job: Job) -> None:
    """One run of a sweep, whose directory is made here; else as `in_sweep`."""
    directory = RunDirectory(job.directory)
    directory.path.mkdir(parents=True, exist_ok=True)
    try:
        with directory.lock():
            if directory.state() is not RunState.COMPLETE:
                write_config(job)
                _train_in_sweep(job.setup, directory)
    except (RunInUseError, SettingError) as error:
        print(f"mfnet: error: {error}", file=sys.stderr, flush=True)


def _train_in_sweep(setup: Setup, directory: RunDirectory) -> None:
    from mfnet.cli.parts import checkpoint_in
    from mfnet.training import Training

    try:
        checkpoint = checkpoint_in(directory)
        directory.failure.unlink(missing_ok=True)
        training = Training(setup, directory, checkpoint, in_sweep=True)
        follow(training, lambda: f"\nmfnet: interrupted in {shown(directory.path)}", in_short=True)
    except Exception as error:
        fail(directory, error)


def _end_as_failed() -> None:
    """Ends the process with status 1; submitit has kept by then what the job returns."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _reached(directory: RunDirectory, objective: str) -> float:
    """The number of ``summary.json`` that a sweeper looks at.

    Raises:
        SettingError: If the run has none of this name.
    """
    if directory.state() is RunState.FAILED:
        raise SettingError(f"{shown(directory.path)} has failed, and has no {objective}")
    summary = directory.read_summary() if directory.summary.exists() else {}
    value = summary.get(objective)
    if isinstance(value, bool) or not isinstance(value, int | float):
        numbers = [name for name, entry in summary.items() if isinstance(entry, int | float)]
        allowed = f"must be a number of summary.json: {', '.join(numbers) or 'none yet'}"
        raise InvalidSettingError("objective", objective, allowed)
    return float(value)


def shown(path: Path) -> str:
    """``path`` as a person here would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
