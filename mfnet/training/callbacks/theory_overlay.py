"""Lays a theory over a run: any object with the interface of `mfnet.theory.Theory`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from torch.utils.tensorboard import SummaryWriter

from mfnet.data import ObservedData, Task
from mfnet.network import MeanFieldNetwork
from mfnet.theory import Curve, Draw, Theory
from mfnet.theory.overlay import Nodes
from mfnet.training import tags
from mfnet.training.callbacks.observer import Observer
from mfnet.training.module import MeanFieldModule
from mfnet.training.observation import Observation


class TheoryOverlay(Observer):
    """Predicts every series at the observation times, and logs it under the tags that the network uses.

    In TensorBoard the theory is a run of its own, beside ``network``: curves of one tag share a chart.

    A theory of one actual run is given the run's draw.

    Args:
        theory: The prediction.
        name: Its name in the files, where columns end in ``_name``, and in TensorBoard.
    """

    def __init__(self, theory: Theory, name: str = "theory"):
        self.theory, self.name = theory, name
        self._nodes: dict[int, Nodes | None] = {}  # by the number of nodes
        self._writer: SummaryWriter | None = None
        self._early: tuple[float, Mapping[str, Curve]] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Solves the theory once, at the scheduled times."""
        data = cast(ObservedData, trainer.datamodule)  # type: ignore[attr-defined]  # set by fit
        self.times = data.schedule

        def draw() -> Draw:
            assert isinstance(pl_module, MeanFieldModule)
            if not isinstance(pl_module.network, MeanFieldNetwork):
                raise ValueError(f"{self.name} speaks of one run, and this one has replicas")
            return draw_of(pl_module.network, data.task)

        self.theory = self.theory.of_draw(draw)
        self._series = self.theory.series(self.times)
        self._satisfaction = self.theory.satisfaction(self.times)

    def series(self, k: int, t: float) -> Mapping[str, Curve]:
        """Predictions at the observations up to the k-th, at ``t``: off the schedule where a run ends early."""
        if self.times[k] == t:
            return {name: _head(curve, k + 1) for name, curve in self._series.items()}
        if self._early is None or self._early[0] != t:
            self._early = t, self.theory.series(np.append(self.times[:k], t))
        return self._early[1]

    def nodes(self, k: int, t: float, start: Nodes) -> Nodes | None:
        """Trajectories up to the k-th observation of the first nodes; initial values are the first row of ``start``.

        The whole of them is predicted once for each number of nodes that is asked for.
        """
        first = [values[0] for values in start]
        if self.times[k] != t:
            return self.theory.nodes(np.append(self.times[:k], t), *first)
        n = len(first[0])
        if n not in self._nodes:
            self._nodes[n] = self.theory.nodes(self.times, *first)
        whole = self._nodes[n]
        return whole and Nodes(*(values[: k + 1] for values in whole))

    def satisfaction(self, k: int, t: float) -> Curve | None:
        """The projection satisfied at each observation up to the k-th."""
        if self.times[k] == t:
            return self._satisfaction and _head(self._satisfaction, k + 1)
        return self.theory.satisfaction(np.append(self.times[:k], t))

    def writer(self, trainer: Trainer) -> SummaryWriter:
        """TensorBoard's writer of this theory; the run must have a logger."""
        if self._writer is None:
            assert trainer.logger is not None  # its log_dir: the trainer's would wait for the other processes
            directory = Path(str(trainer.logger.log_dir)).parent / self.name
            self._writer = SummaryWriter(str(directory), purge_step=trainer.global_step or None)
        return self._writer

    def on_observation(self, trainer: Trainer, module: MeanFieldModule, observation: Observation) -> None:
        if trainer.logger is not None:
            for name, curve in self.series(observation.k, observation.t).items():
                tags.write_curve(self.writer(trainer), name, curve, observation.k)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def draw_of(network: MeanFieldNetwork, task: Task) -> Draw:
    """What a run has drawn, for theories that speak of it: all nodes must be on this process."""
    tensors = (network.a0, network.w0, *task.train, *task.test, task.direction)
    return Draw(*(tensor.detach().double().cpu().numpy() for tensor in tensors))


def overlays(trainer: Trainer) -> list[TheoryOverlay]:
    """The theories laid over a run."""
    return [callback for callback in trainer.callbacks if isinstance(callback, TheoryOverlay)]  # type: ignore[attr-defined]


def _head(curve: Curve, length: int) -> Curve:
    return Curve._make(None if values is None else values[:length] for values in curve)
