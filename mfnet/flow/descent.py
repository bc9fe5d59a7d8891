"""Any `torch.optim` optimizer on minibatches, through autograd: the reference, and the way for real data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from mfnet.drive import Batch
from mfnet.flow.base import FixedStepFlow
from mfnet.flow.objective import Objective
from mfnet.seeding import generator


class Descent(FixedStepFlow):
    """One optimizer step for each Δt.

    Plain SGD follows the flow with learning rate M·Δt, its default here; each step then advances the mean-field
    time by what it did. An optimizer with its own ``lr`` (Adam) has no mean-field time: t only counts steps of Δt.

    Args:
        objective: What to follow.
        dt: Mean-field time of one step.
        optimizer: Makes the optimizer from parameters and, unless it is already bound, ``lr``.
        batch_size: Examples a step, drawn with replacement; None takes them all.
        seed: Keys the draws, with the number of the step.
    """

    def __init__(
        self,
        objective: Objective,
        dt: float,
        optimizer: Callable[..., torch.optim.Optimizer],
        batch_size: int | None = None,
        seed: int = 0,
    ):
        super().__init__(objective, dt)
        bound = optimizer.keywords if isinstance(optimizer, partial) else {}
        lr = {} if "lr" in bound else {"lr": objective.network.M * dt}
        self.inner = optimizer(objective.network.parameters(), **lr)
        self.lrs = [group["lr"] for group in self.inner.param_groups]
        self.batch_size, self.seed = batch_size, seed

    def _take_step(self, dt: float) -> None:
        with torch.enable_grad():
            self.inner.zero_grad()
            loss, margins = self.objective.loss(self._draw())
            loss.backward()
        if self._must_stop(margins, complete=self.batch_size is None):
            return
        for group, lr in zip(self.inner.param_groups, self.lrs, strict=True):
            group["lr"] = lr * dt / self.dt  # an interval's steps may be shorter than dt
        self.inner.step()

    def _draw(self) -> Batch:
        batch = self.objective.source(self.n_steps)
        self.objective.work += 2.0 if self.batch_size is None else 2.0 * self.batch_size / len(batch.y)
        if self.batch_size is None:
            return batch
        rows = torch.randint(
            len(batch.y), (self.batch_size,), generator=generator(self.seed, "minibatch", self.n_steps)
        ).to(batch.y.device)
        return Batch(batch.x[rows], batch.y[rows], batch.f0[rows])

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "inner": self.inner.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        self.inner.load_state_dict(state.pop("inner"))
        super().load_state_dict(state)
