"""``mfnet train``: one run, or many."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from mfnet.cli import going_on, sweep
from mfnet.cli.arguments import Arguments
from mfnet.cli.imports import import_training
from mfnet.cli.jobs import Job, check_directories, single
from mfnet.cli.run import follow, how_to_go_on, in_its_directory, reserved, told_in_a_line
from mfnet.compute.launch import FellowEndedError, Launch, launch, starter_lives
from mfnet.record.directory import RunDirectory

if TYPE_CHECKING:
    from mfnet.training.checkpoint import Checkpoint


def train(arguments: Arguments, typed: Sequence[str]) -> int:
    """Runs the command, inside the source of its arguments, and returns its exit status.

    Raises:
        SettingError: If a setting is wrong; then nothing was written.
    """
    started = launch()
    if arguments.multirun:
        return _left_to_the_first(started) if _idle(started, 1) else sweep.sweep(arguments, typed)
    checkpoint = going_on.checkpoint_of(arguments)
    if checkpoint is None:
        return _train(single(arguments), None, typed, started)
    job, named = going_on.job_of(arguments, checkpoint)
    with going_on.as_stored(named):
        return _train(job, checkpoint, typed, started)


def _train(job: Job, checkpoint: Checkpoint | None, typed: Sequence[str], started: Launch) -> int:
    """One run, or what is left of it."""
    import_training()
    from mfnet.training import Training
    from mfnet.training.checks import n_processes

    if _idle(started, n_processes(job.setup)):
        return _left_to_the_first(started)
    if n_processes(job.setup) == 1:
        started = Launch()  # whatever else has left its variables in the environment
    directory = RunDirectory(job.directory)
    if checkpoint is None and started.rank == 0:
        check_directories([job])
    training = Training(job.setup, directory, checkpoint)
    if checkpoint is not None:
        checkpoint.check_continues(job.setup.config, training.pieces.theories.times)
    if started.rank > 0:
        with told_in_a_line(directory, job.setup):
            try:
                training.run()
            except FellowEndedError:
                if started.rank == 1 and not starter_lives(seconds=1.0):
                    raise
                return 1  # the first process says what has happened
        return 0
    if training.processes.size > 1:
        import __main__

        sys.argv = [str(__main__.__file__), *typed[1:]]  # Lightning starts the other processes by this command line

    def start(_: DictConfig) -> int:
        return follow(training, shown_how=lambda: how_to_go_on(directory, job.setup))

    with told_in_a_line(directory, job.setup), reserved(job, new=checkpoint is None):
        return in_its_directory(job, start)


def _idle(started: Launch, n_processes: int) -> bool:
    """Whether this process is one of several tasks of a job that has work for the first one only."""
    return started.by == "srun" and started.rank > 0 and n_processes == 1


def _left_to_the_first(started: Launch) -> int:
    """Says that this process has nothing to do."""
    print(
        f"mfnet: task {started.rank} of {started.size} of this job ends: the first one runs alone what is not divided "
        "(trainer.divide)",
        file=sys.stderr,
        flush=True,
    )
    return 0
