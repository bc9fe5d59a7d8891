"""The base of callbacks that look at observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer

from mfnet.training.module import MeanFieldModule
from mfnet.training.observation import Observation


class Observer(Callback):
    """Sees each observation once: the initial network, then the end of every interval."""

    _last_k = -1

    def on_observation(self, trainer: Trainer, module: MeanFieldModule, observation: Observation) -> None:
        """Called with each new observation."""

    def columns(self) -> Mapping[str, float]:
        """Columns that this callback adds to the present row of the history, by their full names."""
        return {}

    def summary(self, history: Mapping[str, Float[np.ndarray, " K"]]) -> Mapping[str, Any]:
        """What this callback adds to ``summary.json``, given the columns of the history."""
        return {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == 0:
            self._look(trainer, pl_module)
        else:  # the run goes on from a checkpoint, whose observation was seen
            self._last_k = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self._look(trainer, pl_module)

    def _look(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, MeanFieldModule)
        if module.observation.k > self._last_k:  # not again the last one, when the flow has diverged since
            self._last_k = module.observation.k
            self.on_observation(trainer, module, module.observation)


def observers(trainer: Trainer) -> list[Observer]:
    """The callbacks of a run that look at its observations, in their order."""
    return [callback for callback in trainer.callbacks if isinstance(callback, Observer)]  # type: ignore[attr-defined]  # Lightning declares no type
