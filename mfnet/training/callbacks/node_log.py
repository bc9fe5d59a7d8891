"""Follows single nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer

from mfnet.theory.growing import Growing
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
        self._begin()

    def _begin(self) -> None:
        self._t, self._rows = Growing(), Growing()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._begin()

    @property
    def trajectories(self) -> Nodes:
        """What was recorded so far, each of shape (K, n)."""
        return Nodes(*(self._rows.values[:, i] for i in range(len(Nodes._fields))))

    def observe(self, observation: Observation) -> Mapping[str, Value]:
        self._t.append(observation.t)
        self._rows.append(torch.stack([values[0, : self.n].double() for values in observation.nodes]).cpu().numpy())
        return {}

    def arrays(self, observation: Observation, predictions: list[Prediction]) -> Mapping[str, Mapping[str, np.ndarray]]:
        """``t`` (K,), and ``a``, ``w_par``, ``w_perp`` (K, n), and the same of each theory that predicts nodes."""
        seen = self.trajectories
        arrays: dict[str, np.ndarray] = {"t": self._t.values, **seen._asdict()}
        for prediction in predictions:
            predicted = prediction.nodes(observation.k, observation.t, seen)
            if predicted is not None:
                arrays |= {f"{name}_{prediction.name}": values for name, values in predicted._asdict().items()}
        return {"nodes": arrays}

    def state_dict(self) -> dict[str, Any]:
        return {"t": torch.from_numpy(self._t.values.copy()), "rows": torch.from_numpy(self._rows.values.copy())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._t, self._rows = (Growing(state_dict[name].numpy()) for name in ("t", "rows"))
