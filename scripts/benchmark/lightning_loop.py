"""(b): the loop of (a) as one would write it with Lightning."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmark.plain import PlainNetwork
from benchmark.problems import Problem
from benchmark.settings import SEED
from benchmark.timing import Contestant, now
from mfnet.compute.seeding import generator


class PlainModule(lightning.LightningModule):
    """`PlainNetwork` with automatic optimisation; ``seconds`` is the time from the start to the end of training."""

    def __init__(self, problem: Problem, alpha: float, dt: float):
        super().__init__()
        self.plain, self.dt = PlainNetwork(problem, alpha), dt
        self.seconds = 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.plain.parameters(), lr=len(self.plain.a) * self.dt)

    def training_step(self, batch: Any) -> Tensor:
        loss: Tensor = self.plain()
        return loss

    def on_train_start(self) -> None:
        self.seconds = -now(self.device)

    def on_train_end(self) -> None:
        self.seconds += now(self.device)


def lightning_loop(problem: Problem, alpha: float = 1.0, dt: float = 0.0) -> Contestant:
    """(b); the start and the end of `Trainer.fit` are not counted, all that it does for a step is."""
    module = PlainModule(problem, alpha, dt)

    def run(n: int) -> float:
        trainer = lightning.Trainer(
            accelerator="gpu" if problem.x.is_cuda else "cpu",
            devices=1,
            precision="64-true" if problem.x.dtype is torch.float64 else "32-true",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        batches: Any = [problem.train[0]] * n
        trainer.fit(module, DataLoader(batches, batch_size=None, generator=generator(SEED, "loader")))
        return module.seconds

    return run
