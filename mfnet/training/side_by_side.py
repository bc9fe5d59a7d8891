"""Runs that are trained side by side: one computation, and each leaves what it would have left alone.

Small networks cost the overhead of their operations, and a run costs more than its flow: so runs of one shape are
replicas of one flow (`mfnet.flow.batched`), each with its own data, scale α, margin h, times and end. What one records
is its own business, as is its checkpoint, from which it goes on alone or beside others.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import torch
from jaxtyping import Bool, Float
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor
from torch.utils._pytree import tree_map_only

from mfnet.data import ReplicatedData
from mfnet.flow import StopReason
from mfnet.flow.flow import state_of
from mfnet.flow.objective import BATCHED
from mfnet.network import MeanFieldNetwork, Replicas
from mfnet.network.observables import NodeParameters
from mfnet.record.identity import identity
from mfnet.setup.checks import memory_needed
from mfnet.setup.errors import SettingError
from mfnet.setup.pieces import told
from mfnet.setup.setup import Setup
from mfnet.training.callbacks.checkpoint import loops_of
from mfnet.training.callbacks.observer import Observer
from mfnet.training.callbacks.progress import SidesProgress
from mfnet.training.checkpoint import contents
from mfnet.training.module import NOT_FINITE, MeanFieldModule
from mfnet.training.moment import Moment
from mfnet.training.observation import Observation
from mfnet.training.quiet import quiet
from mfnet.training.recorder import Recorder
from mfnet.training.saving import Pace, Replacing
from mfnet.training.summary import device_name
from mfnet.training.train import Training

#: Runs that are trained together, at most: each has a file open, and its record in memory.
TOGETHER = 64

#: Share of the free memory that they may take.
SHARE = 0.25

#: Methods of Lightning's callbacks that an observer may have and still be asked by many runs at once.
_ASKED = {"setup", "state_dict", "load_state_dict"}

#: Loggers of which a process may have several at a time.
_MANY_AT_A_TIME = {"mfnet.training.TensorBoard", "lightning.pytorch.loggers.CSVLogger"}


def together(training: Training) -> Hashable | None:
    """What runs must have in common to be trained side by side; None for a run that is trained alone.

    Args:
        training: The run.
    """
    setup: Setup = training.setup
    pieces, checkpoint = training.pieces, training.checkpoint
    if setup.replicas > 1 or training.processes.size > 1 or training.options() or setup.stop.get("wall_seconds"):
        return None
    if pieces.precision not in ("float32", "float64") or is_large(setup):
        return None
    if not all(map(_only_observes, training.callbacks)) or not set(_targets(setup.logger)) <= _MANY_AT_A_TIME:
        return None
    flow = pieces.flow.func if hasattr(pieces.flow, "func") else pieces.flow
    data = pieces.data
    if getattr(flow, "only_one_network", "unknown") is not None or data.online:
        return None
    task = data.task
    shapes = tuple(tuple(values.shape) for values in (*task.train, *task.test))
    alike = {
        **{name: getattr(setup, name) for name in ("M", "flow", "stop", "trainer")},
        "activation": setup.network["activation"],
        "loss": setup.loss["name"],
    }
    return identity(alike), shapes, pieces.precision, pieces.dt, checkpoint.k if checkpoint is not None else 0


def is_large(setup: Setup) -> bool:
    """Whether a run takes more time for arithmetic than for the overhead of its operations."""
    return setup.N * setup.M * setup.d * setup.replicas > BATCHED["cpu"]


def most_together(setup: Setup, processes: int = 1) -> int:
    """How many runs such as this are trained side by side, at most.

    Args:
        setup: The run.
        processes: Processes of this machine that do so.
    """
    free = SHARE * float(psutil.virtual_memory().available) / processes
    return max(1, min(TOGETHER, int(free / memory_needed(setup.config, replicas=2))))


def _targets(pieces: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [str(piece["_target_"]) for piece in pieces.values()]


def _only_observes(callback: Callback) -> bool:
    """Whether a callback does nothing but return what it adds to the record of its run."""
    if not isinstance(callback, Observer):
        return False
    hooks = {name for name, _ in inspect.getmembers(Callback, inspect.isfunction)} - _ASKED
    return all(getattr(type(callback), name) is getattr(Observer, name) for name in hooks)


@dataclass
class Side:
    """One of the runs.

    Attributes:
        training: The run.
        recorder: Its record.
        versions: What each logger calls it.
        ended: Whether it has ended.
        error: What it has failed of, if it has.
    """

    training: Training
    recorder: Recorder
    versions: Mapping[str, str]
    ended: bool = False
    error: Exception | None = None

    @property
    def observers(self) -> list[Observer]:
        """What looks at it."""
        return [callback for callback in self.training.callbacks if isinstance(callback, Observer)]

    @property
    def path(self) -> Path | None:
        """Where its checkpoint is."""
        directory = self.training.directory
        return None if directory is None else directory.checkpoint


class SideBySide(MeanFieldModule):
    """Runs as replicas of one flow.

    Args:
        trainings: The runs.

    Attributes:
        moments: Each at its latest observation.
    """

    network: Replicas

    def __init__(self, trainings: Sequence[Training]):
        pieces_of = [training.pieces for training in trainings]
        first = pieces_of[0]
        networks = [cast(MeanFieldNetwork, pieces.networks) for pieces in pieces_of]
        losses, alpha = [pieces.loss for pieces in pieces_of], [training.setup.alpha for training in trainings]
        super().__init__(Replicas(networks), losses, alpha, first.flow, first.rules)
        self._each: list[MeanFieldNetwork] = networks
        self._n_intervals = np.array([len(training.times) - 1 for training in trainings])
        self._h = [training.setup.h for training in trainings]
        self.moments: dict[int, Moment] = {}

    def on_fit_start(self) -> None:
        self.share()
        super().on_fit_start()

    def share(self) -> None:
        """Makes the nodes of each run's network those that are trained."""
        for r, network in enumerate(self._each):
            for name in ("a", "w"):
                getattr(network, name).data = getattr(self.network, name).data[r]
            for name in ("a0", "w0"):
                setattr(network, name, getattr(self.network, name)[r])

    @property
    def arrived(self) -> Bool[np.ndarray, " R"]:
        """Which runs have reached their last observation time."""
        return self.trainer.global_step >= self._n_intervals

    @property
    def moving(self) -> Bool[np.ndarray, " R"]:
        # before the step, global_step counts the observations that were made
        return self.flow.running & ~self.arrived

    def training_step(self, batch: tuple[Any, Any], batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        progress, reasons = self.flow.progress, self.reasons
        for r, (p, reason) in enumerate(zip(progress, reasons, strict=True)):
            self.moments[r] = replace(self.moments[r], progress=[p], stop_reason=reason)

    @property
    def reasons(self) -> list[StopReason | None]:
        """How each run has ended, if it has."""
        ends = zip(self.flow.progress, self.arrived, strict=True)
        return [p.stop_reason or (StopReason.T_MAX if arrived else None) for p, arrived in ends]

    def _reason(self) -> StopReason | None:
        return StopReason.REPLICAS_ENDED if all(self.reasons) else None

    @torch.no_grad()
    def _observe(self, k: int, t: float, moving: Bool[np.ndarray, " R"]) -> bool:
        seen = super()._observe(k, t, moving)
        progress = self.flow.progress
        for r in np.flatnonzero(moving).tolist():
            if k == 0 or progress[r].stop_reason is not StopReason.DIVERGED:
                self.moments[r] = self._moment_of(r)
        return seen

    def take_up(self) -> None:
        """Makes the moments those that runs go on from, where they do."""
        for r, p in enumerate(self.flow.progress):
            latest = {name: values[r : r + 1].copy() for name, values in self._last.items()}
            self.moments[r] = replace(self.moments[r], progress=[p], latest=latest)

    def _moment_of(self, r: int) -> Moment:
        """A run at the latest observation of all."""
        whole, (p,), own = self.observation, self.flow.progress[r : r + 1], slice(r, r + 1)
        latest = {name: values[own].copy() for name, values in self._last.items()}
        nodes = NodeParameters(*(values[own] for values in whole.nodes))
        observation = Observation(
            *(whole.k, p.t, latest, self._each[r], nodes, whole.train_margins[own]),
            *([whole.tasks[r]], np.array([p.t]), self._h[r]),
        )
        dtype = str(self.network.w.dtype).removeprefix("torch.")
        name = self.flow.objective.evaluators[0].name
        return Moment(observation, latest, [p], p.stop_reason, self.alpha[own], (), name, dtype)

    def fail(self, runs: Sequence[int]) -> None:
        """Ends runs that have failed."""
        self.flow.end([StopReason.ERROR if r in runs else None for r in range(self.n_replicas)])


class Recordings(Checkpoint):
    """Shows each run's recorder what is its own, and keeps its latest state; Lightning calls it last.

    Sinks are given what was seen when checkpoints are written, which takes a small share of the time, and when a run
    ends.

    Args:
        sides: The runs.
        told: Is told of each run when it has ended.

    Attributes:
        unwritten: Runs whose latest checkpoint could not be written, and why.
    """

    def __init__(self, sides: Sequence[Side], told: Callable[[Side], None]):
        self.sides, self.told = list(sides), told
        self.unwritten: dict[int, Exception] = {}
        self._pace = Pace()
        self._loops: dict[str, Any] | None = None
        self._written: list[int] = []  # runs whose checkpoint is being written

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for side in self.sides:
            for observer in side.observers:
                observer.setup(trainer, pl_module, stage)
        trainer.strategy.checkpoint_io = Apart(self, trainer.strategy.checkpoint_io)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SideBySide)
        k, device = trainer.global_step, device_name(pl_module.device)
        pl_module.take_up()
        for r, side in enumerate(self.sides):
            t = float(side.training.times[k])
            if k == 0 and pl_module.moments[r].progress[0].stop_reason is StopReason.DIVERGED:
                self._fail(pl_module, r, SettingError(NOT_FINITE))
            self._try(pl_module, r, partial(side.recorder.begin, device, pl_module.moments[r], k, t))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        assert isinstance(pl_module, SideBySide)
        self._loops = loops_of(trainer)
        running = [r for r, side in enumerate(self.sides) if not side.ended]
        for r in running:
            self._try(pl_module, r, partial(self.sides[r].recorder.look, pl_module.moments[r]))
        ended = [r for r in running if not self.sides[r].ended and pl_module.moments[r].stop_reason is not None]
        self._keep(trainer, pl_module, running if self._pace.is_due() else ended)
        for r in ended:
            self._end(pl_module, r)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        assert isinstance(pl_module, SideBySide)
        if not pl_module.moments:  # nothing was seen
            return
        running = [r for r, side in enumerate(self.sides) if not side.ended]
        interrupted = isinstance(exception, KeyboardInterrupt)
        if self._loops is not None and pl_module.at_observation:
            self._keep(trainer, pl_module, running)
        reason = StopReason.INTERRUPTED if interrupted else f"{StopReason.ERROR}: {told(exception)}"
        for r in running:
            self._close(pl_module, r, str(reason), finished=False)

    def _keep(self, trainer: Trainer, module: SideBySide, runs: Sequence[int]) -> None:
        """Gives sinks what they have not seen of some runs, and writes their checkpoints."""
        if not runs:
            return
        began = time.monotonic()
        for r in runs:
            self._try(module, r, partial(self.sides[r].recorder.pass_on, module.moments[r]))
        self._written = [r for r in runs if self.sides[r].path is not None and self.sides[r].error is None]
        if self._written:
            self.unwritten.clear()
            trainer.save_checkpoint(cast(Path, self.sides[self._written[0]].path))
            for r, error in self.unwritten.items():
                self._fail(module, r, error)
        if len(runs) > 1:
            self._pace.has_taken(time.monotonic() - began)

    def _end(self, module: SideBySide, r: int) -> None:
        """Closes a run that has come to its end."""
        self._close(module, r, str(module.moments[r].stop_reason), finished=True)
        if not self.sides[r].ended:
            self.sides[r].ended = True
            self.told(self.sides[r])

    def _close(self, module: SideBySide, r: int, reason: str, *, finished: bool) -> None:
        close = self.sides[r].recorder.close
        self._try(module, r, partial(close, module.moments[r], reason, finished=finished))

    def _try(self, module: SideBySide, r: int, action: Callable[[], None]) -> None:
        """Does something for a run, which fails alone if that does."""
        side = self.sides[r]
        if side.error is not None:
            return
        try:
            action()
        except Exception as error:  # of a disk, or of a piece of the user's
            self._fail(module, r, error)

    def _fail(self, module: SideBySide, r: int, error: Exception) -> None:
        """Ends a run that has failed; the others go on."""
        side = self.sides[r]
        side.error, side.ended = error, True
        module.fail([r])
        with suppress(Exception):  # for the same reason: the first is told
            side.recorder.close(module.moments[r], f"{StopReason.ERROR}: {told(error)}", finished=False)
        self.told(side)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        assert isinstance(pl_module, SideBySide)
        checkpoint["loops"] = self._loops
        checkpoint["sides"] = {}
        k = trainer.global_step
        for r in self._written:
            side, moment = self.sides[r], pl_module.moments[r]
            times = np.append(side.training.times[:k], moment.progress[0].t)
            callbacks = {observer.state_key: state for observer in side.observers if (state := observer.state_dict())}
            checkpoint["sides"][r] = {
                "callbacks": {**callbacks, Recorder.__name__: side.recorder.state_dict()},
                **contents(k, times, moment.stop_reason, side.training.setup, side.versions),
            }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for side, own in zip(self.sides, state_dict["each"], strict=True):
            side.recorder.load_state_dict(own[Recorder.__name__])
            for observer in side.observers:
                if observer.state_key in own:
                    observer.load_state_dict(own[observer.state_key])

    @property
    def paths(self) -> list[Path]:
        """The checkpoints of all runs."""
        return [cast(Path, side.path) for side in self.sides]


class Apart(CheckpointIO):
    """Writes what Lightning saves of all runs as a checkpoint of each, and reads it again.

    Args:
        recordings: The runs, and which are written.
        inner: Writes and reads files.
    """

    def __init__(self, recordings: Recordings, inner: CheckpointIO):
        self.recordings, self.inner = recordings, inner

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes the checkpoints of the runs that are to be written."""
        whole = dict(checkpoint)
        sides = whole.pop("sides")
        for name in ("state_dict", "optimizer_states"):
            whole[name] = tree_map_only(Tensor, lambda x: x.detach().cpu(), whole[name])
        for r, own in sides.items():
            target = self.recordings.paths[r]
            alone = {**checkpoint_of(whole, r), **own}
            try:
                Replacing(target, self.inner).save_checkpoint(alone, target, storage_options)
            except Exception as error:  # a run fails alone
                self.recordings.unwritten[r] = error

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The checkpoints of all runs, as that of one."""
        return merged([self.inner.load_checkpoint(each, *args, **kwargs) for each in self.recordings.paths])

    def remove_checkpoint(self, path: Any) -> None:
        self.inner.remove_checkpoint(path)


def checkpoint_of(whole: Mapping[str, Any], r: int) -> dict[str, Any]:
    """What a checkpoint of all runs says of one, as if it had been alone."""
    (flow,) = whole["optimizer_states"]
    return {
        **whole,
        "state_dict": {name: values[r].clone() for name, values in whole["state_dict"].items()},
        "optimizer_states": [state_of(flow, r)],
        "so_far": [whole["so_far"][r]],
        "last": {name: values[r : r + 1].clone() for name, values in whole["last"].items()},
    }


def merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The checkpoint of all runs from those of each, after the same observation."""
    first = parts[0]
    flows = [part["optimizer_states"][0] for part in parts]
    saved: dict[str, Any] = {"progress": [p for flow in flows for p in flow["flow"]["progress"]]}
    for name in first["optimizer_states"][0]["flow"]:
        if name != "progress":
            saved[name] = torch.cat([flow["flow"][name] for flow in flows])
    return {
        **first,
        "state_dict": {name: torch.stack([part["state_dict"][name] for part in parts]) for name in first["state_dict"]},
        "optimizer_states": [{**flows[0], "flow": saved}],
        "so_far": [part["so_far"][0] for part in parts],
        "last": {name: torch.cat([part["last"][name] for part in parts]) for name in first["last"]},
        "callbacks": {Recordings.__name__: {"each": [part["callbacks"] for part in parts]}},
    }


def schedule_of(trainings: Sequence[Training]) -> Float[np.ndarray, "K R"]:
    """The observation times of each run, of which shorter ones end in their last."""
    K = max(len(training.times) for training in trainings)
    return np.stack([np.pad(t.times, (0, K - len(t.times)), mode="edge") for t in trainings], axis=1)


def data_of(trainings: Sequence[Training]) -> ReplicatedData:
    """The data of all runs."""
    data = ReplicatedData([training.pieces.data for training in trainings])
    data.schedule = schedule_of(trainings)
    return data


def train_side_by_side(trainings: Sequence[Training], told: Callable[[Side], None]) -> list[Side]:
    """Trains runs that have `together` in common, and returns what has become of each.

    Args:
        trainings: The runs; all go on from the same observation, or none from any.
        told: Is told of each when it has ended.
    """
    with quiet():
        sides = []
        for training in trainings:
            recorder, _, versions = training.recorder(live=False)
            sides.append(Side(training, recorder, versions))
        module = SideBySide(trainings)
        first = trainings[0]
        left = SidesProgress(lambda: sum(not side.ended for side in sides), len(sides))
        callbacks: list[Callback] = [left] if first.shows_progress else []
        try:
            first.fit(module, data_of(trainings), [*callbacks, Recordings(sides, told)])
        finally:
            module.share()
            for side in sides:
                side.training.part_with(side.recorder)
    return sides
