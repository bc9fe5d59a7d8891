"""``mfnet.train``, ``mfnet.sweep`` and ``mfnet.load``: runs from Python."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mfnet.collection import Collection, curves, finals, gathered
from mfnet.flow.objective import BATCHED
from mfnet.network import MeanFieldNetwork, Replicas
from mfnet.record.directory import RunDirectory, RunState
from mfnet.setup.checks import check_directory
from mfnet.setup.errors import SettingError
from mfnet.setup.pieces import check_imported
from mfnet.setup.python import varies
from mfnet.setup.setup import Setup
from mfnet.theory import Theory
from mfnet.training.build import Pieces
from mfnet.training.checkpoint import read_checkpoint
from mfnet.training.run import Run
from mfnet.training.train import Training

Directory = str | os.PathLike[str]


def train(setup: Setup | None = None, /, *, directory: Directory | None = None, **settings: Any) -> Run:
    """Trains a network, lays the theory over it, and returns both.

    Settings are those of the command, as `Setup.of` takes them: ``mfnet.train(alpha=10.0, data="digits",
    flow={"rtol": 0.003}, overlay=["kernel_closure"])``.

    Args:
        setup: What to run; with ``settings``, that with other settings.
        directory: A new directory for the files of `RunDirectory`; without one nothing is written.
        settings: What differs from the defaults.

    Raises:
        SettingError: For the first setting that is wrong; then nothing was written.

    >>> run = train(M=20, N=100, d=5, schedule={"t_max": 1.0, "per_decade": 2})
    >>> run.summary["stop_reason"], run.network.w.shape, run.figures
    ('t_max', torch.Size([20, 5]), ['fig1', 'errors'])
    """
    setup = Setup.of(**settings) if setup is None else setup.but(**settings) if settings else setup
    if directory is None:
        return Training(setup).run()
    check_directory("directory", directory)
    return _kept(Training(setup, RunDirectory(directory)))


def _kept(training: Training) -> Run:
    """A run in its directory, which other processes leave alone."""
    assert training.directory is not None
    training.directory.path.mkdir(parents=True, exist_ok=True)
    with training.directory.lock():
        return training.run()


class Runs(Sequence[Run]):
    """The runs of a sweep, in the order of its settings; replicas that were computed together are one of them.

    Attributes:
        collection: All of them as tables, each replica as a run of its own (`mfnet.collection.Collection`).
    """

    def __init__(self, runs: Sequence[Run]):
        self._runs = list(runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, index: Any) -> Any:
        return self._runs[index]

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    @cached_property
    def collection(self) -> Collection:
        """The tables of all runs."""
        return gathered({run.setup.name: run.contents for run in self._runs})

    @property
    def table(self) -> pd.DataFrame:
        """A row a run: what varied, and how it ended."""
        return self.collection.runs

    @property
    def history(self) -> pd.DataFrame:
        """A row a run and observation: what varied, and the columns of its history."""
        return self.collection.history

    def finals(self, by: Sequence[str] | None = None) -> pd.DataFrame:
        """How runs ended, averaged over seeds (`mfnet.collection.finals`)."""
        return finals(self.collection, by)

    def curves(self, by: Sequence[str] | None = None) -> pd.DataFrame:
        """Histories averaged over seeds (`mfnet.collection.curves`)."""
        return curves(self.collection, by)


def sweep(*, directory: Directory | None = None, **settings: Any) -> Runs:
    """A run for every combination of the settings that have several values, in a list, a range or an array.

    Small networks that differ in nothing but seeds in a row are trained side by side, as replicas of one run. With a
    ``directory`` each run has one of its own in it, runs that are complete are read, and those that were cut off go on.

    Args:
        directory: Where the runs leave their files; without one nothing is written.
        settings: As `train` takes them. A setting that is a list anyway varies in a list of lists.

    Raises:
        SettingError: For the first setting that is wrong; then nothing was written.

    >>> runs = sweep(alpha=[1.0, 10.0], seed=range(2), M=20, N=100, d=5, schedule={"t_max": 1.0, "per_decade": 2})
    >>> len(runs), len(runs.table), list(runs.finals()["alpha"])
    (2, 4, [1.0, 10.0])
    """
    values = {name: list(value) for name, value in settings.items() if varies(name, value)}
    fixed = {name: value for name, value in settings.items() if name not in values}
    for name, several in values.items():
        if not several:
            raise SettingError(f"{name}: has no values")
    seeds = values.pop("seed", None)
    setups: list[Setup] = []
    for chosen in itertools.product(*values.values()):
        each = {**fixed, **dict(zip(values, chosen, strict=True))}
        setups += [Setup.of(**each)] if seeds is None else _by_seeds(each, seeds)
    trainings = [_training(setup, directory) for setup in setups]
    names = [setup.name for setup in setups]
    if twins := [name for name in names if names.count(name) > 1]:
        raise SettingError(f"two of the runs are the same, {twins[0]}; ask for it once")
    return Runs(
        [each if isinstance(each, Run) else _kept(each) if each.directory else each.run() for each in trainings]
    )


def _by_seeds(settings: Mapping[str, Any], seeds: Sequence[Any]) -> list[Setup]:
    """Setups of one run for all seeds, or of one for each."""
    seeds = [seed.item() if isinstance(seed, np.generic) else seed for seed in seeds]
    in_a_row = len(seeds) > 1 and seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    if in_a_row and settings.get("replicas", 1) == 1:
        together = Setup.of(**{**settings, "seed": seeds[0], "replicas": len(seeds)})
        size = together.N * together.M * together.d
        try:
            Training(together)
        except SettingError:
            size = 2 * BATCHED["cpu"]
        if size <= BATCHED["cpu"]:
            return [together]
    return [Setup.of(**{**settings, "seed": seed}) for seed in seeds]


def _training(setup: Setup, directory: Directory | None) -> Training | Run:
    """A run that is about to start, or goes on, or has been complete before."""
    if directory is None:
        return Training(setup)
    kept = RunDirectory(Path(directory) / setup.name)
    if kept.state() is RunState.COMPLETE:
        return load(kept.path)
    checkpoint = read_checkpoint(kept.checkpoint) if kept.checkpoint.exists() else None
    return Training(setup, kept, checkpoint if checkpoint is not None and checkpoint.may_go_on else None)


def load(directory: Directory) -> Run:
    """A run from its files.

    Its network is that of its last checkpoint. Pieces of your own are found if their modules have been imported: what a
    directory names is not imported for it.

    Raises:
        SettingError: If there is no run.
    """
    kept = RunDirectory(directory)
    if not kept.summary.exists():
        raise SettingError(f"{directory}: is not the directory of a run that has ended")
    contents = kept.read()
    if not {"config", "series", "theories"} <= set(contents.summary):
        raise SettingError(f"{directory}: was written by an earlier version of mfnet; start the run anew")
    setup = Setup(**contents.summary["config"])
    pieces = Pieces(setup)

    def network() -> MeanFieldNetwork | Replicas:
        check_imported(setup.config)
        networks = pieces.networks
        state = torch.load(kept.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        networks.load_state_dict(
            {name.removeprefix("network."): state[name] for name in state if name[:8] == "network."}
        )
        return networks

    def theories() -> Mapping[str, Theory]:
        check_imported(setup.config)
        named = pieces.theories
        return {name: named.named(name).of_draw(pieces.draw) for name in contents.theories}

    return Run(setup, contents, network, theories, kept.path)
