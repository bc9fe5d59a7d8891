"""Follows single nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer

from mfnet.theory.overlay import Nodes
from mfnet.theory.prediction import Prediction
from mfnet.training.callbacks.observer import Observer, Value
from mfnet.training.observation import Observation


class NodeLog(Observer):
    """Records (a, w∥, |w⊥|) of the first ``n`` nodes, whose initial values are independent.

    Of replicas it follows the first.

    Args:
        n: Number of nodes to follow; all of them if there are fewer.
    """

    of_all_nodes: ClassVar[bool] = False

    def __init__(self, n: int = 10):
        self.n = n
        self._t: list[float] = []
        self._rows: list[tuple[np.ndarray, ...]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._t, self._rows = [], []

    @property
    def trajectories(self) -> Nodes:
        """What was recorded so far, each of shape (K, n)."""
        return Nodes(*(np.stack(parameter) for parameter in zip(*self._rows, strict=True)))

    def observe(self, observation: Observation) -> Mapping[str, Value]:
        self._t.append(observation.t)
        self._rows.append(tuple(values[0, : self.n].double().cpu().numpy() for values in observation.nodes))
        return {}

    def arrays(self, observation: Observation, predictions: list[Prediction]) -> Mapping[str, Mapping[str, np.ndarray]]:
        """``t`` (K,), and ``a``, ``w_par``, ``w_perp`` (K, n), and the same of each theory that predicts nodes."""
        seen = self.trajectories
        arrays: dict[str, np.ndarray] = {"t": np.array(self._t), **seen._asdict()}
        for prediction in predictions:
            predicted = prediction.nodes(observation.k, observation.t, seen)
            if predicted is not None:
                arrays |= {f"{name}_{prediction.name}": values for name, values in predicted._asdict().items()}
        return {"nodes": arrays}

    def state_dict(self) -> dict[str, Any]:
        return {"t": self._t, "rows": torch.from_numpy(np.stack(self._rows))}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._t = list(state_dict["t"])
        self._rows = [tuple(row) for row in state_dict["rows"].numpy().copy()]
