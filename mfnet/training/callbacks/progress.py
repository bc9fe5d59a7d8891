"""The progress bar of a run."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from mfnet.series import GAMMA, UNSATISFIED
from mfnet.training.callbacks.theory_overlay import overlays
from mfnet.training.observed_module import ObservedModule


class RunProgress(TQDMProgressBar):
    """Shows t, the unsatisfied fraction and γ against theory, once an observation."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        assert isinstance(pl_module, ObservedModule)
        observation = pl_module.observation
        gamma = f"{observation.series[GAMMA.name]:.4g}"
        for overlay in overlays(trainer):
            if GAMMA.name in (series := overlay.series(observation.k, observation.t)):
                gamma += f" ({overlay.name} {series[GAMMA.name].value[-1]:.4g})"
        return {"t": f"{observation.t:.4g}", "unsatisfied": f"{observation.series[UNSATISFIED.name]:.3f}", "γ": gamma}
