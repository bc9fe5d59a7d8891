"""How the runs of a sweep are started: those of one shape together, the others one after the other."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mfnet.cli import run
from mfnet.cli.imports import import_training
from mfnet.cli.jobs import Job
from mfnet.record.directory import RunDirectory, RunInUseError, RunState
from mfnet.setup.errors import SettingError

if TYPE_CHECKING:
    from mfnet.training import Training
    from mfnet.training.checkpoint import Checkpoint
    from mfnet.training.side_by_side import Side

#: Runs that a batch has at least where more batches than need be are made, to share them out.
FEWEST = 4

#: Seconds of an observation, of a try of a step, and of a run beside them, by itself and beside others (measured on a
#: CPU of 2025; for an estimate).
_ALONE, _BESIDE = (5e-3, 2e-3, 0.3), (4e-3, 1e-4, 0.06)

#: Multiplications a second, and tries of a step between two observations, likewise.
_SPEED, _TRIES = 1.5e10, 3.0


@dataclass(frozen=True)
class Plan:
    """What is known of a run before it starts.

    Attributes:
        job: The run.
        alike: What it has in common with those that it can be trained beside; None if it is trained alone.
        observations: How many are to come.
        tries: About how many steps are to be tried.
    """

    job: Job
    alike: Hashable | None
    observations: int
    tries: float

    def seconds(self, *, together: bool) -> float:
        """About how long it takes."""
        of_observation, of_try, of_run = _BESIDE if together else _ALONE
        setup = self.job.setup
        of_try += 4.0 * setup.N * setup.M * setup.d * setup.replicas / _SPEED
        return self.observations * of_observation + self.tries * of_try + of_run


def plans(jobs: Iterable[Job], *, batch: bool) -> list[Plan]:
    """Checks the classes that runs name, and their theories, and finds out what each has in common with others.

    Args:
        jobs: The runs.
        batch: Whether they are to be trained together where they can be.

    Raises:
        SettingError: For the first that is wrong.
    """
    import_training()
    from mfnet.training import Training
    from mfnet.training.side_by_side import together

    found = []
    for job in jobs:
        training = Training(job.setup)
        if batch:
            training = _with_checkpoint(training, RunDirectory(job.directory))
            alike = together(training)
        else:
            alike = None
        begun = training.checkpoint.k if training.checkpoint is not None else 0
        observations = len(training.times) - 1 - begun
        dt = training.pieces.dt
        tries = _TRIES * observations if dt is None else float(training.times[-1] - training.times[begun]) / dt
        found.append(Plan(job, alike, observations, tries))
    return found


def _with_checkpoint(training: Training, directory: RunDirectory) -> Training:
    """A run in its directory, as it goes on from there if it does; one whose checkpoint is damaged as it is."""
    from mfnet.training import Training

    try:
        return Training(training.setup, directory, checkpoint_in(directory), in_sweep=True)
    except SettingError:
        return training


def checkpoint_in(directory: RunDirectory) -> Checkpoint | None:
    """The checkpoint that a run of a sweep goes on from, if there is one.

    Raises:
        SettingError: If it cannot be read.
    """
    from mfnet.training.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(directory.checkpoint) if directory.checkpoint.exists() else None
    # one that may not go on was killed while it wrote its last files
    return checkpoint if checkpoint is not None and checkpoint.may_go_on else None


def parts(planned: Sequence[Plan], workers: int = 1) -> list[list[Plan]]:
    """Runs that are not complete, in the parts that are started: those that take longest come first.

    Args:
        planned: All runs.
        workers: Processes among which the parts are shared.
    """
    from mfnet.training.side_by_side import most_together

    groups: dict[Hashable, list[Plan]] = {}
    for number, plan in enumerate(planned):
        if RunDirectory(plan.job.directory).state() is not RunState.COMPLETE:
            groups.setdefault(("alone", number) if plan.alike is None else plan.alike, []).append(plan)
    found: list[list[Plan]] = []
    for group in groups.values():
        most = most_together(group[0].job.setup, workers)
        n = max(math.ceil(len(group) / most), min(workers, len(group) // FEWEST))
        found += [group[i::n] for i in range(n)]  # whose runs take different times, alike in each
    return sorted(found, key=_seconds, reverse=True) if workers > 1 else found


def at_a_time(started: Sequence[Sequence[Plan]], workers: int) -> int:
    """How many parts are started at a time: as many as there is memory for.

    Large runs go one after the other, each on all cores, where they are fewer than the cores.

    Args:
        started: The parts.
        workers: Processes that there may be.
    """
    from mfnet.training.side_by_side import is_large, most_together

    alone = [part[0].job.setup for part in started if len(part) == 1]
    if len(started) < workers and any(map(is_large, alone)):
        return 1
    return min([workers, len(started), *map(most_together, alone)])


def described(started: Sequence[Sequence[Plan]], workers: int = 1) -> str:
    """How runs are started, and about how long they take.

    Args:
        started: The parts.
        workers: How many of them are started at a time.
    """
    batches = [part for part in started if len(part) > 1]
    beside, alone = sum(map(len, batches)), len(started) - len(batches)
    words = []
    if batches:
        words.append(f"{beside} side by side in {f'{len(batches)} batches' if len(batches) > 1 else 'one batch'}")
        words += [f"{alone} alone"] if alone else []
    words += [f"{workers} at a time"] if workers > 1 else []
    longest = max(map(_seconds, started), default=0.0)
    about = f"about {_duration(max(sum(map(_seconds, started)) / workers, longest))}"
    return f"{', '.join(words)}; {about}" if words else about


def _seconds(part: Sequence[Plan]) -> float:
    """About how long a part takes."""
    return sum(plan.seconds(together=len(part) > 1) for plan in part)


def _duration(seconds: float) -> str:
    """A rough time, in words."""
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2.0 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 1.0):.0f} s"


@dataclass(frozen=True)
class InParts:
    """What a launcher of Hydra's starts in another process: a run, and those that are trained beside it.

    Args:
        beside: The runs of each part, by the directory of the first.
    """

    beside: Mapping[str, Sequence[Job]]

    @staticmethod
    def of(batches: Sequence[Sequence[Job]]) -> InParts:
        """What can be sent there: jobs with their configs."""
        sent = [[replace(job, compose=partial(_given, job.compose())) for job in batch] for batch in batches]
        return InParts({os.path.abspath(batch[0].directory): batch for batch in sent})

    def __call__(self, config: DictConfig) -> Any:
        jobs = self.beside.get(os.path.abspath(HydraConfig.get().runtime.output_dir))
        return run.in_sweep(config) if jobs is None else side_by_side(jobs)


def _given(composed: DictConfig) -> DictConfig:
    return composed


def start_part(jobs: Sequence[Job]) -> None:
    """Trains the runs of a part, each in its directory; what is complete by now stays as it is.

    A failure is told and kept, and does not end the others.
    """
    if len(jobs) > 1:
        side_by_side(jobs)
    else:
        run.by_itself(jobs[0])


def side_by_side(jobs: Sequence[Job]) -> None:
    """Trains runs together, as `start_part` does."""
    with ExitStack() as stack:
        groups: dict[Hashable, list[Training]] = {}
        for job in jobs:
            directory = RunDirectory(job.directory)
            directory.path.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(directory.lock())
            except RunInUseError as error:
                print(f"mfnet: error: {error}", file=sys.stderr, flush=True)
                continue
            if directory.state() is not RunState.COMPLETE:  # by another process since the sweep was started
                run.write_config(job)
                _take_up(job, directory, groups)
        for group in groups.values():
            _train(group)


def _take_up(job: Job, directory: RunDirectory, groups: dict[Hashable, list[Training]]) -> None:
    """Puts a run, as it goes on, with those that it is trained beside."""
    from mfnet.training import Training
    from mfnet.training.side_by_side import together

    try:
        directory.failure.unlink(missing_ok=True)
        training = Training(job.setup, directory, checkpoint_in(directory), in_sweep=True)
        groups.setdefault(together(training), []).append(training)
    except Exception as error:
        run.fail(directory, error)


def _train(trainings: Sequence[Training]) -> None:
    from mfnet.training.side_by_side import train_side_by_side

    ended: set[Path] = set()

    def tell(side: Side) -> None:
        directory = side.training.directory
        assert directory is not None
        ended.add(directory.path)
        if side.error is not None:
            run.fail(directory, side.error)
        else:
            assert side.recorder.contents is not None
            run.tell_in_short(directory, side.recorder.contents.summary)

    first = trainings[0]
    if len(trainings) > 1:
        print(f"{len(trainings)} runs side by side, the first of which is", flush=True)
    print(first.headline, flush=True)
    try:
        train_side_by_side(trainings, tell)
    except KeyboardInterrupt:
        left = len(trainings) - len(ended)
        print(f"\nmfnet: interrupted with {left} of {len(trainings)} runs on their way", file=sys.stderr, flush=True)
        raise SystemExit(run.INTERRUPTED) from None
    except Exception as error:  # of what they have in common
        for training in trainings:
            assert training.directory is not None
            if training.directory.path not in ended:
                run.fail(training.directory, error)
