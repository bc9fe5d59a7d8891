"""The progress bar of a run."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from mfnet.record.series import GAMMA, UNSATISFIED
from mfnet.theory.prediction import Prediction
from mfnet.training.module import MeanFieldModule


class RunProgress(TQDMProgressBar):
    """Shows t, the unsatisfied fraction and γ against theory, and the time left to the last observation.

    Observations are evenly spaced in log t and their costs differ by orders of magnitude, so the time left is that of
    the steps still to come, at the recent seconds a step; a run whose examples are all satisfied ends earlier.

    Args:
        predictions: The theories whose γ is shown.
    """

    def __init__(self, predictions: Sequence[Prediction]) -> None:
        super().__init__()
        self.predictions = predictions
        self._recent: deque[tuple[float, int]] = deque(maxlen=6)  # (clock, steps) at the last observations

    def init_train_tqdm(self) -> Tqdm:
        bar = super().init_train_tqdm()
        bar.bar_format = "{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"  # without tqdm's own time left
        return bar

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        assert isinstance(pl_module, MeanFieldModule)
        observation, flow = pl_module.observation, pl_module.flow
        gamma = f"{observation.series[GAMMA.name]:.4g}"
        for prediction in self.predictions:
            if GAMMA.name in (series := prediction.series(observation.k, observation.t)):
                gamma += f" ({prediction.name} {series[GAMMA.name].value[-1]:.4g})"
        shown = {"t": f"{observation.t:.4g}", "unsatisfied": f"{observation.series[UNSATISFIED.name]:.3f}", "γ": gamma}
        self._recent.append((time.monotonic(), flow.n_steps))
        until = float(trainer.datamodule.schedule[-1])  # type: ignore[attr-defined]  # set by fit
        left = seconds_left(self._recent, flow.steps_to(until))
        return shown if left is None else {**shown, "left": Tqdm.format_interval(left)}


class SidesProgress(TQDMProgressBar):
    """Shows how many of several runs have ended, and the time of those that go on.

    Args:
        n_running: Says how many go on.
        n: How many there are.
    """

    def __init__(self, n_running: Callable[[], int], n: int) -> None:
        super().__init__()
        self.n_running, self.n = n_running, n

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        assert isinstance(pl_module, MeanFieldModule)
        return {"t": f"{pl_module.flow.t:.4g}", "ended": f"{self.n - self.n_running()} of {self.n}"}


def seconds_left(recent: deque[tuple[float, int]], steps: float) -> float | None:
    """Seconds that so many steps will take at the pace of the last observations; None where nothing is known.

    Args:
        recent: Clock in seconds and number of steps taken, at some observations.
        steps: Steps to come.
    """
    (first, steps_then), (last, steps_now) = recent[0], recent[-1]
    if steps_now == steps_then or not math.isfinite(steps):
        return None
    return steps * (last - first) / (steps_now - steps_then)
