"""Records when training examples are first satisfied (Fig. 1d)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer

from mfnet.training.callbacks.observer import Observer
from mfnet.training.module import MeanFieldModule
from mfnet.training.observation import Observation


class ExampleLog(Observer):
    """The time t_sat at which each of the first ``n`` training examples first reaches its margin h.

    Between two observations the margin is taken to be linear in t.

    Args:
        n: Number of examples to follow; all of them if there are fewer.
    """

    t_sat: np.ndarray
    _t: float
    _margins: np.ndarray

    def __init__(self, n: int = 2000):
        self.n = n

    def on_observation(self, trainer: Trainer, module: MeanFieldModule, observation: Observation) -> None:
        margins = observation.train_margins[: self.n].double().cpu().numpy()
        if observation.k == 0:
            self.t_sat = np.where(margins >= module.loss.h, 0.0, np.inf)
        else:
            before, after, h = self._margins, margins, module.loss.h
            new = np.isinf(self.t_sat) & (after >= h)
            share = (h - before[new]) / (after[new] - before[new])
            self.t_sat[new] = self._t + share * (observation.t_margins - self._t)
        self._t, self._margins = observation.t_margins, margins

    def projections(self, module: MeanFieldModule) -> np.ndarray:
        """Signed projections y ŵ*·x of the followed examples, negative where the label is flipped."""
        x, y = (values[: self.n] for values in module.task.train)
        return (y * (x @ module.task.direction)).numpy()

    def state_dict(self) -> dict[str, Any]:
        return {"t": self._t, "margins": torch.from_numpy(self._margins), "t_sat": torch.from_numpy(self.t_sat)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._t = state_dict["t"]
        self._margins, self.t_sat = state_dict["margins"].numpy().copy(), state_dict["t_sat"].numpy().copy()
