"""Lets a recorder see the run that Lightning drives."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from mfnet.record.stop_reason import StopReason
from mfnet.setup.pieces import told
from mfnet.training.module import MeanFieldModule
from mfnet.training.recorder import Recorder, say
from mfnet.training.summary import device_name


class Recording(Callback):
    """Shows a recorder each observation, and the end.

    Args:
        recorder: The recorder.
    """

    def __init__(self, recorder: Recorder):
        self.recorder = recorder

    @property
    def state_key(self) -> str:
        return Recorder.__name__

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, MeanFieldModule)
        k = trainer.global_step
        t = float(trainer.datamodule.schedule[k])  # type: ignore[attr-defined]  # set by fit
        self.recorder.begin(device_name(pl_module.device), pl_module.moment, k, t)
        self.recorder.pass_on(pl_module.moment)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self._look(pl_module)

    def _look(self, module: LightningModule) -> None:
        assert isinstance(module, MeanFieldModule)
        self.recorder.look(module.moment)
        self.recorder.pass_on(module.moment)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, MeanFieldModule)
        timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
        late = any((timer.time_remaining() or 1.0) <= 0.0 for timer in timers)
        stopped = StopReason.WALL_TIME if late else StopReason.CALLBACK
        self.recorder.close(pl_module.moment, str(pl_module.stop_reason or stopped), finished=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        assert isinstance(pl_module, MeanFieldModule)
        if self.recorder.latest is None or self.recorder.contents is not None:
            return
        interrupted = isinstance(exception, KeyboardInterrupt)
        reason = StopReason.INTERRUPTED if interrupted else f"{StopReason.ERROR}: {told(exception)}"
        try:
            if not interrupted:  # another callback may have failed at an observation that was not looked at yet
                self._look(pl_module)
            self.recorder.close(pl_module.moment, reason, finished=False)
        except OSError as error:  # which must not take the place of what has ended the run
            if not isinstance(exception, OSError):
                say(f"how the run has ended could not be written: {told(error)}")

    def state_dict(self) -> dict[str, Any]:
        return self.recorder.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.recorder.load_state_dict(state_dict)
