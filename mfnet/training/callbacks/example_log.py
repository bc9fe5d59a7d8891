"""Records when training examples are first satisfied (Fig. 1d)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer

from mfnet.record.directory import curve_columns
from mfnet.theory.growing import Growing
from mfnet.theory.prediction import Prediction
from mfnet.training.callbacks.observer import Observer, Value
from mfnet.training.observation import Observation


class ExampleLog(Observer):
    """The time t_sat at which each of the first ``n`` training examples first reaches its margin h.

    Between two observations the margin is taken to be linear in t. Of replicas it follows the first.

    Args:
        n: Number of examples to follow; all of them if there are fewer.
    """

    of_all_nodes: ClassVar[bool] = False

    t_sat: np.ndarray
    _t: float
    _margins: np.ndarray

    def __init__(self, n: int = 2000):
        self.n = n
        self._times = Growing()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._times = Growing()

    def observe(self, observation: Observation) -> Mapping[str, Value]:
        margins = observation.train_margins[0, : self.n].double().cpu().numpy()
        h, t = observation.h, float(observation.times[0])
        if observation.k == 0:
            self.t_sat = np.where(margins >= h, 0.0, np.inf)
        else:
            before, after = self._margins, margins
            new = np.isinf(self.t_sat) & (after >= h)
            share = (h - before[new]) / (after[new] - before[new])
            self.t_sat[new] = self._t + share * (t - self._t)
        self._t, self._margins = t, margins
        self._times.append(observation.t)
        return {}

    def arrays(self, observation: Observation, predictions: list[Prediction]) -> Mapping[str, Mapping[str, np.ndarray]]:
        """``x_par``, signed projections y ŵ*·x, negative where the label is flipped, ``t_sat``, and theory's curve."""
        task = observation.tasks[0]
        x, y = (values[: self.n] for values in task.train)
        arrays = {"x_par": (y * (x @ task.direction)).numpy(), "t_sat": self.t_sat, "t": self._times.values}
        for prediction in predictions:
            curve = prediction.satisfaction(observation.k, observation.t)
            if curve is not None:
                arrays |= curve_columns("x", curve, prediction.name)
        return {"examples": arrays}

    def state_dict(self) -> dict[str, Any]:
        saved = {"margins": torch.from_numpy(self._margins), "t_sat": torch.from_numpy(self.t_sat)}
        return {"t": self._t, "times": torch.from_numpy(self._times.values.copy()), **saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._t, self._times = state_dict["t"], Growing(state_dict["times"].numpy())
        self._margins, self.t_sat = state_dict["margins"].numpy().copy(), state_dict["t_sat"].numpy().copy()
