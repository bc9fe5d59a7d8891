"""Ends a run on SIGTERM, a cluster's or a container's, as on Ctrl-C."""

from __future__ import annotations

import signal

from lightning.pytorch import Callback, LightningModule, Trainer


class SigtermIsCtrlC(Callback):
    """Takes the place of Lightning's handler, which would wait for the end of the interval; `Trainer` restores it."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
