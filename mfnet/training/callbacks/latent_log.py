"""Records the output of the network over the latent directions that labels depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer

from mfnet.setup.errors import SettingError
from mfnet.theory.prediction import Prediction
from mfnet.training.callbacks.observer import Observer, Value
from mfnet.training.observation import Observation

#: Latent inputs at which theories say F: how far out, and how many in each direction, by the number of directions.
_REACH, _GRID = 3.0, {1: 121, 2: 25}


class LatentLog(Observer):
    """F(x) at the first ``n`` test examples, at every observation; of replicas those of the first.

    Args:
        n: Number of test examples to follow; all of them if there are fewer.
    """

    of_all_nodes: ClassVar[bool] = True

    def __init__(self, n: int = 4000):
        self.n = n
        self._times: list[float] = []
        self._outputs: list[np.ndarray] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._times, self._outputs = [], []

    def observe(self, observation: Observation) -> Mapping[str, Value]:
        task, networks = observation.tasks[0], observation.networks
        if task.latent is None:
            raise SettingError("callbacks.latent_log: these data have no latent directions")
        x = task.test.x[: self.n].to(networks.w)
        (a, w), (a0, w0) = networks.nodes, networks.initial_nodes
        output = networks.streamed(a[0], w[0], x) - networks.streamed(a0[0], w0[0], x)
        self._times.append(observation.t)
        self._outputs.append(output.double().cpu().numpy())
        return {}

    def arrays(self, observation: Observation, predictions: list[Prediction]) -> Mapping[str, Mapping[str, np.ndarray]]:
        """``u (n, k)``, ``y (n,)``, ``t (K,)``, ``output (K, n)``; of theories ``output_NAME`` at ``u_grid``, now."""
        task = observation.tasks[0]
        assert task.latent is not None
        x, y = (values[: self.n] for values in task.test)
        arrays = {
            "u": (x @ task.latent.T).numpy(),
            "y": y.numpy(),
            "t": np.array(self._times),
            "output": np.array(self._outputs),
        }
        k = len(task.latent)
        if k in _GRID:
            grid = np.stack(np.meshgrid(*[np.linspace(-_REACH, _REACH, _GRID[k])] * k, indexing="ij"), axis=-1)
            arrays["u_grid"] = grid.reshape(-1, k)
            for prediction in predictions:
                found = prediction.theory.latent_output(np.array([observation.t]), arrays["u_grid"])
                if found is not None:
                    arrays[f"output_{prediction.name}"] = found[0]
        return {"latent": arrays}

    def state_dict(self) -> dict[str, Any]:
        return {"times": self._times, "outputs": torch.from_numpy(np.array(self._outputs))}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._times, self._outputs = list(state_dict["times"]), list(state_dict["outputs"].numpy().copy())
