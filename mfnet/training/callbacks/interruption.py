"""Ctrl-C, and SIGTERM of a cluster or a container, end a run where nothing is half done."""

from __future__ import annotations

import signal
from types import FrameType

from lightning.pytorch import Callback, LightningModule, Trainer

from mfnet.training.module import MeanFieldModule


class Interruption(Callback):
    """Raises KeyboardInterrupt within a step of the flow, and nowhere else: what was observed is recorded whole.

    Asked for a second time it raises at once. `Trainer` and `mfnet.training.quiet` restore the handlers that were
    there.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._take_over(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._take_over(trainer, pl_module)  # from Lightning, which has come between

    @staticmethod
    def _take_over(trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, MeanFieldModule)
        here = module

        def interrupt(number: int, frame: FrameType | None) -> None:
            if here.stepping or here.interrupted:
                raise KeyboardInterrupt
            here.interrupted = True

        if trainer.is_global_zero:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, interrupt)
