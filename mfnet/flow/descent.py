"""Any `torch.optim` optimizer on minibatches, through autograd: the reference, and the way for real data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mfnet.compute.seeding import generator
from mfnet.flow.evaluator import Batch, Evaluator
from mfnet.flow.fixed_step import FixedStepFlow
from mfnet.flow.objective import Objective
from mfnet.flow.state import Progress, State
from mfnet.network import Nodes


class Descent(FixedStepFlow):
    """One optimizer step for each Δt.

    Plain SGD follows the flow with learning rate M·Δt, its default here; each step then advances the mean-field
    time by what it did. An optimizer with its own ``lr`` (Adam) has no mean-field time: t only counts steps of Δt.

    Args:
        objective: What to follow.
        dt: Mean-field time of one step.
        optimizer: Makes the optimizer from parameters and, unless one is bound already, ``lr``.
        batch_size: Examples a step, drawn with replacement; None takes them all.
        seed: Keys the draws, with the number of the step.
    """

    only_one_network = "an optimizer of torch's has one state for all nodes: replicas could not end each by itself"
    only_one_process = "an optimizer of torch's steps by autograd, which sees the examples and nodes of one process"

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
        lr = {} if bound.get("lr") is not None else {"lr": objective.networks.M * dt}
        self.inner = optimizer(objective.networks.parameters(), **lr)
        self.lrs = [group["lr"] for group in self.inner.param_groups]
        self.batch_size, self.seed = batch_size, seed

    def _begin(self, evaluator: Evaluator, nodes: Nodes) -> State:
        return State((Progress(),), *self.objective.networks.nodes, nodes.w[..., :0], evaluator.f0[:, :0])

    def _turn(
        self, evaluator: Evaluator, state: State, prepared: None, n_steps: Sequence[int], until: Sequence[float]
    ) -> tuple[State, bool]:
        """A step of the optimizer, which moves the network itself, unless the margins say that the run has ended."""
        (p,), (n,), (end,) = state.progress, n_steps, until
        dt = (end - p.t) / n
        if not self.objective.fixed:
            (evaluator,) = self.objective.evaluators_at(p.n_steps)
        x, y, f0 = (values[0][self._rows(p.n_steps, evaluator)] for values in (evaluator.x, evaluator.y, evaluator.f0))
        with torch.enable_grad():
            self.inner.zero_grad()
            loss, margins = self.objective.loss(Batch(x, y), f0)
            loss.backward()
        ((lost,), (above,)) = torch.stack([each.sum() for each in evaluator.seen(margins[None])])[:, None].tolist()
        satisfied = above / len(margins) if self.batch_size is None else 0.0
        p = replace(p, lost=lost, satisfied=satisfied, work=p.work + 2.0 * len(margins) / evaluator.N)
        if self.rules.of_margins(lost, satisfied if self.objective.fixed else 0.0):
            return replace(state, progress=(p,)), False
        for group, lr in zip(self.inner.param_groups, self.lrs, strict=True):
            group["lr"] = lr * dt / self.dt  # an interval's steps may be shorter than dt
        self.inner.step()
        p = replace(p, t=end if n == 1 else p.t + dt, n_steps=p.n_steps + 1)
        return replace(state, progress=(p,)), True

    def _rows(self, step: int, evaluator: Evaluator) -> slice | Int[Tensor, " n"]:
        """The examples that a step sees."""
        if self.batch_size is None:
            return slice(None)
        N, device = evaluator.y.shape[1], evaluator.y.device
        return torch.randint(N, (self.batch_size,), generator=generator(self.seed, "minibatch", step)).to(device)

    def margins(self) -> Float[Tensor, "1 N"]:
        return self.objective.margins()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "inner": self.inner.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        self.inner.load_state_dict(state.pop("inner"))
        super().load_state_dict(state)
        (own,), (a, w) = self._begun(), self.objective.networks.nodes
        self._states = [replace(own, a=a, w=w)]
