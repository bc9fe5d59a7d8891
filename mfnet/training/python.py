"""``mfnet.train``, ``mfnet.sweep`` and ``mfnet.load``: runs from Python."""

from __future__ import annotations

import copy
import itertools
import os
import zipfile
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mfnet.collection import Collection, curves, finals, gathered
from mfnet.network import MeanFieldNetwork, Replicas
from mfnet.record.directory import RunDirectory, RunInUseError, RunState
from mfnet.setup.checks import check_directory
from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.pieces import imported, makes, own_pieces, told, trusting
from mfnet.setup.python import varies
from mfnet.setup.setup import Setup
from mfnet.theory import Theory
from mfnet.training.build import Pieces
from mfnet.training.checkpoint import read_checkpoint
from mfnet.training.checks import n_processes
from mfnet.training.run import Run
from mfnet.training.side_by_side import most_together, together, train_side_by_side
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
    if setup is not None and not isinstance(setup, Setup):
        raise SettingError(f"{setup!r:.60}: settings have names, as in mfnet.train(alpha=1.0)")
    setup = Setup.of(**settings) if setup is None else setup.but(**settings) if settings else setup
    if n_processes(setup) > 1:
        raise InvalidSettingError("trainer.devices", setup.trainer["devices"], "several processes are the command's")
    if directory is None:
        return Training(setup).run()
    check_directory("directory", directory)
    return _kept(Training(setup, RunDirectory(directory)))


def _kept(training: Training) -> Run:
    """A run in its directory, which other processes leave alone."""
    kept = training.directory
    assert kept is not None
    kept.path.mkdir(parents=True, exist_ok=True)
    try:
        with kept.lock():
            if kept.state() is RunState.COMPLETE:  # by another process, since this one looked
                return _again(training.setup, kept)
            kept.failure.unlink(missing_ok=True)
            return training.run()
    except RunInUseError as error:
        raise SettingError(str(error)) from None


def _again(setup: Setup, kept: RunDirectory) -> Run:
    """A run that is complete, from its files."""
    read = load(kept.path)
    return Run(setup, read.contents, lambda: read.network, lambda: read.theories, kept.path)


class Runs(Sequence[Run]):
    """The runs of a sweep, in the order of its settings, of which seeds vary fastest.

    Attributes:
        collection: All of them as tables (`mfnet.collection.Collection`).
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


def sweep(*, directory: Directory | None = None, batch: bool = True, **settings: Any) -> Runs:
    """A run for every combination of the settings that have several values, in a list, a range or an array.

    Small runs of one shape are trained side by side (`mfnet.training.side_by_side`). With a ``directory`` each run has
    one of its own in it, runs that are complete are read, and those that were cut off go on; they draw no figures there
    but with ``figures=True``.

    Args:
        directory: Where the runs leave their files; without one nothing is written.
        batch: Whether runs are trained side by side where they can be.
        settings: As `train` takes them. A setting that is a list anyway varies in a list of lists.

    Raises:
        SettingError: For the first setting that is wrong; then nothing was written.

    >>> runs = sweep(alpha=[1.0, 10.0], seed=range(2), M=20, N=100, d=5, schedule={"t_max": 1.0, "per_decade": 2})
    >>> len(runs), len(runs.table), list(runs.finals()["alpha"])
    (4, 4, [1.0, 10.0])
    """
    values = {name: list(value) for name, value in settings.items() if varies(name, value)}
    fixed = {name: value for name, value in settings.items() if name not in values}
    for name, several in values.items():
        if not several:
            raise SettingError(f"{name}: has no values")
    values |= {"seed": values.pop("seed")} if "seed" in values else {}  # fastest
    chosen = itertools.product(*values.values())
    setups = [Setup.of(**fixed, **dict(zip(values, each, strict=True))) for each in chosen]
    setups = [_with_callbacks_of_its_own(setup) for setup in setups] if len(setups) > 1 else setups
    trainings = [_training(setup, directory) for setup in setups]
    names = [setup.name for setup in setups]
    if twins := [name for name in names if names.count(name) > 1]:
        raise SettingError(f"two of the runs are the same, {twins[0]}; ask for it once")
    runs = {i: each for i, each in enumerate(trainings) if isinstance(each, Run)}
    for part in _parts({i: each for i, each in enumerate(trainings) if isinstance(each, Training)}, batch=batch):
        runs |= _all_kept(part)
    return Runs([runs[i] for i in range(len(trainings))])


def _parts(trainings: Mapping[int, Training], *, batch: bool) -> list[dict[int, Training]]:
    """Runs by their numbers, in the parts that are trained side by side."""
    groups: dict[Hashable, dict[int, Training]] = {}
    for i, training in trainings.items():
        alike = together(training) if batch else None
        groups.setdefault(("alone", i) if alike is None else alike, {})[i] = training
    parts = []
    for group in groups.values():
        most = most_together(next(iter(group.values())).setup)
        items = list(group.items())
        parts += [dict(items[first : first + most]) for first in range(0, len(items), most)]
    return parts


def _all_kept(part: Mapping[int, Training]) -> dict[int, Run]:
    """Runs that are trained side by side, each in its directory, which other processes leave alone."""
    if len(part) == 1:
        ((i, training),) = part.items()
        return {i: _kept(training) if training.directory else training.run()}
    with ExitStack() as stack:
        left = {}
        for i, training in part.items():
            if (kept := training.directory) is not None:
                kept.path.mkdir(parents=True, exist_ok=True)
                try:
                    stack.enter_context(kept.lock())
                except RunInUseError as error:
                    raise SettingError(str(error)) from None
                if kept.state() is RunState.COMPLETE:  # by another process, since this one looked
                    continue
                kept.failure.unlink(missing_ok=True)
            left[i] = training
        sides = train_side_by_side(list(left.values()), lambda _: None) if left else []
    for side in sides:
        if side.error is not None:
            raise side.error
    ended = {i: side.training.ended(side.recorder) for i, side in zip(left, sides, strict=True)}
    others = {i: _again(each.setup, each.directory) for i, each in part.items() if i not in left and each.directory}
    return ended | others


def _with_callbacks_of_its_own(setup: Setup) -> Setup:
    """A run whose callbacks remember nothing of another."""
    for name in setup.logger:
        if not makes(setup.objects.get(f"logger.{name}", dict)):
            raise InvalidSettingError("logger", name, "goes with one run; name it, as in logger='csv'")
    own = {key: piece for key, piece in setup.objects.items() if key.startswith("callbacks.") and not makes(piece)}
    return replace(setup, objects={**setup.objects, **{key: copy.deepcopy(piece) for key, piece in own.items()}})


def _training(setup: Setup, directory: Directory | None) -> Training | Run:
    """A run that is about to start, or goes on, or has been complete before."""
    if directory is None:
        return Training(setup, in_sweep=True)
    kept = RunDirectory(Path(directory) / setup.name)
    if kept.state() is RunState.COMPLETE:
        return _again(setup, kept)
    check_directory("directory", kept.path, new=False)
    checkpoint = read_checkpoint(kept.checkpoint) if kept.checkpoint.exists() else None
    goes_on = checkpoint is not None and checkpoint.may_go_on
    return Training(setup, kept, checkpoint if goes_on else None, in_sweep=True)


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
    try:
        contents = kept.read()
    except (ValueError, KeyError, IndexError, OSError, zipfile.BadZipFile) as error:
        raise SettingError(f"{directory}: is damaged: {told(error)}") from None
    if not {"config", "series", "theories"} <= set(contents.summary):
        raise SettingError(f"{directory}: was written by an earlier version of mfnet; start the run anew")
    try:
        setup = Setup(**contents.summary["config"])
    except TypeError as error:
        raise SettingError(f"{directory}: its settings are not those of this version of mfnet: {told(error)}") from None
    pieces = Pieces(setup)

    def network() -> MeanFieldNetwork | Replicas:
        with _as_stored(setup):
            networks = pieces.networks
        state = torch.load(kept.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        networks.load_state_dict(
            {name.removeprefix("network."): state[name] for name in state if name[:8] == "network."}
        )
        return networks

    def theories() -> Mapping[str, Theory]:
        with _as_stored(setup):
            named = pieces.theories
            return {name: named.named(name).of_draw(pieces.draw) for name in contents.theories}

    return Run(setup, contents, network, theories, kept.path)


def _as_stored(setup: Setup) -> AbstractContextManager[None]:
    """Inside, pieces are made of what a directory says, and nothing that could be anybody's."""
    own = own_pieces(setup.config).values()
    return trusting(imported(own), "import its module first, which must be your own and no installed package")
