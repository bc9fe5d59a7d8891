"""Follows single nodes, and the distribution of all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from mfnet.theory.overlay import Nodes
from mfnet.training import tags
from mfnet.training.callbacks.observer import Observer
from mfnet.training.callbacks.theory_overlay import overlays
from mfnet.training.module import MeanFieldModule
from mfnet.training.observation import Observation

#: Most nodes that have curves in TensorBoard, which keeps three a node; the files have every node that is followed.
CURVES = 10


class NodeLog(Observer):
    """Records (a, w∥, |w⊥|) of the first ``n`` nodes, and histograms of all; initial values are independent.

    Args:
        n: Number of nodes to follow; all of them if there are fewer.
        histograms_every: Observations between two histograms in TensorBoard.
    """

    def __init__(self, n: int = 10, histograms_every: int = 4):
        self.n, self.histograms_every = n, histograms_every
        self._t: list[float] = []
        self._rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    @property
    def t(self) -> np.ndarray:
        """Observation times so far, shape (K,)."""
        return np.array(self._t)

    @property
    def trajectories(self) -> Nodes:
        """What was recorded so far, each of shape (K, n)."""
        return Nodes(*(np.stack(parameter) for parameter in zip(*self._rows, strict=True)))

    def on_observation(self, trainer: Trainer, module: MeanFieldModule, observation: Observation) -> None:
        parameters = (observation.a, observation.w_par, observation.w_perp)
        self._t.append(observation.t)
        self._rows.append(tuple(p[: self.n].double().cpu().numpy() for p in parameters))  # type: ignore[arg-type]  # a tuple of three
        if not isinstance(trainer.logger, TensorBoardLogger):
            return
        writer, k = trainer.logger.experiment, observation.k
        if k % self.histograms_every == 0:
            for name, values in zip(Nodes._fields, parameters, strict=True):
                writer.add_histogram(f"nodes/{name}", values, k)
        _write_nodes(writer, self.trajectories, k)
        for overlay in overlays(trainer):
            predicted = overlay.nodes(k, observation.t, self.trajectories)
            if predicted is not None:
                _write_nodes(overlay.writer(trainer), predicted, k)

    def state_dict(self) -> dict[str, Any]:
        return {"t": self._t, "rows": torch.from_numpy(np.stack(self._rows))}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._t = list(state_dict["t"])
        self._rows = [tuple(row) for row in state_dict["rows"].numpy().copy()]


def _write_nodes(writer: SummaryWriter, nodes: Nodes, k: int) -> None:
    """Writes the last point of the first trajectories."""
    for name, values in zip(Nodes._fields, nodes, strict=True):
        for i, number in enumerate(values[-1, :CURVES]):
            writer.add_scalar(tags.node(name, i), float(number), k)
