"""Keeps the latest state of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, Timer

from mfnet.setup.setup import Setup
from mfnet.training.checkpoint import contents
from mfnet.training.module import MeanFieldModule
from mfnet.training.saving import Replacing


class LastCheckpoint(Checkpoint):
    """Saves after each observation (`mfnet.training.saving`); Lightning calls it after the other callbacks.

    Args:
        path: The checkpoint; None where there is none, and others are told what `read_checkpoint` needs.
        setup: What is run.
        loggers: What each logger calls the run, so that it can go on with it.
    """

    def __init__(self, path: Path | None, setup: Setup, loggers: Mapping[str, str] | None = None):
        self.path, self.described, self.loggers = path, setup, dict(loggers or {})

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.path is not None:
            trainer.strategy.checkpoint_io = Replacing(self.path, trainer.strategy.checkpoint_io)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        if self.path is not None:
            trainer.save_checkpoint(self.path)  # by every process: what is divided is gathered; the first one writes

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        assert isinstance(pl_module, MeanFieldModule)
        k = trainer.global_step
        times = np.append(trainer.datamodule.schedule[:k], pl_module.flow.t)  # type: ignore[attr-defined]  # set by fit
        checkpoint.update(contents(k, times, pl_module.stop_reason, self.described, self.loggers))
        checkpoint["callbacks"].pop(Timer.__qualname__, None)  # a new start has its own +trainer.max_time
        # a longer schedule may follow: only Lightning's own end of an epoch forbids it
        checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False
