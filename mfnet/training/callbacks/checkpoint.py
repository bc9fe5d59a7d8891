"""Keeps the latest state of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, Timer

from mfnet.setup.pieces import told
from mfnet.setup.setup import Setup
from mfnet.training.checkpoint import contents
from mfnet.training.module import MeanFieldModule
from mfnet.training.recorder import say
from mfnet.training.saving import Pace, Replacing


class LastCheckpoint(Checkpoint):
    """Saves after observations (`mfnet.training.saving`); Lightning calls it after the other callbacks.

    Writing takes a small share of a run's time (`Pace`), so that not every observation is saved; the last one is, also
    where an exception ends the run. What is divided among processes is saved after each.

    Args:
        path: The checkpoint; None where there is none, and others are told what `read_checkpoint` needs.
        setup: What is run.
        loggers: What each logger calls the run, so that it can go on with it.
    """

    def __init__(self, path: Path | None, setup: Setup, loggers: Mapping[str, str] | None = None):
        self.path, self.described, self.loggers = path, setup, dict(loggers or {})
        self._pace = Pace()
        self._saved_k = -1
        self._loops: dict[str, Any] | None = None  # Lightning's, after the latest observation

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.path is not None:
            trainer.strategy.checkpoint_io = Replacing(self.path, trainer.strategy.checkpoint_io)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_k = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        assert isinstance(pl_module, MeanFieldModule)
        self._loops = loops_of(trainer)
        divided = pl_module.network.processes.size > 1
        if divided or pl_module.stop_reason is not None or self._pace.is_due():
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        assert isinstance(pl_module, MeanFieldModule)
        if self._loops is not None and pl_module.network.processes.size == 1 and pl_module.at_observation:
            try:
                self._save(trainer)
            except OSError as error:  # which must not take the place of what has ended the run
                if not isinstance(exception, OSError):
                    say(f"the last checkpoint could not be written: {told(error)}")

    def _save(self, trainer: Trainer) -> None:
        """Saves the latest observation, unless it is saved: by every process, what is divided; the first one writes."""
        if self.path is None or self._loops is None or self._saved_k == trainer.global_step:
            return
        began = time.monotonic()
        trainer.save_checkpoint(self.path)
        self._saved_k = trainer.global_step
        self._pace.has_taken(time.monotonic() - began)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        assert isinstance(pl_module, MeanFieldModule)
        k = trainer.global_step
        times = np.append(trainer.datamodule.schedule[:k], pl_module.flow.t)  # type: ignore[attr-defined]  # set by fit
        checkpoint.update(contents(k, times, pl_module.stop_reason, self.described, self.loggers))
        checkpoint["callbacks"].pop(Timer.__qualname__, None)  # a new start has its own +trainer.max_time
        if self._loops is not None:
            checkpoint["loops"] = self._loops


def loops_of(trainer: Trainer) -> dict[str, Any]:
    """The state of Lightning's loops, after an observation."""
    loops: dict[str, Any] = {
        "fit_loop": trainer.fit_loop.state_dict(),
        "validate_loop": trainer.validate_loop.state_dict(),
        "test_loop": trainer.test_loop.state_dict(),
        "predict_loop": trainer.predict_loop.state_dict(),
    }
    # a longer schedule may follow: only Lightning's own end of an epoch forbids it
    loops["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False
    return loops
