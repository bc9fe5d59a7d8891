"""Records every series of every replica."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer

from mfnet.training.callbacks.observer import Observer
from mfnet.training.module import MeanFieldModule
from mfnet.training.observation import Observation


class ReplicaLog(Observer):
    """The series of each replica of an ensemble, and what tells the replicas apart."""

    def __init__(self) -> None:
        self._t: list[float] = []
        self._rows: dict[str, list[np.ndarray]] = {}
        self._keys: dict[str, np.ndarray] = {}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """``t`` (K,), ``seed`` and ``alpha`` (R,), and each series (K, R)."""
        return {"t": np.array(self._t), **self._keys, **{name: np.stack(rows) for name, rows in self._rows.items()}}

    def on_observation(self, trainer: Trainer, module: MeanFieldModule, observation: Observation) -> None:
        self._t.append(observation.t)
        self._keys = {"seed": np.array(module.seeds), "alpha": module.alpha.numpy()}
        for name, values in observation.replicas.items():
            self._rows.setdefault(name, []).append(values)

    def state_dict(self) -> dict[str, Any]:
        return {"t": self._t, "rows": {name: torch.from_numpy(np.stack(rows)) for name, rows in self._rows.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._t = list(state_dict["t"])
        self._rows = {name: list(rows.numpy().copy()) for name, rows in state_dict["rows"].items()}
