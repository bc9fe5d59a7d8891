"""(d): gradient flow by Euler steps that adapt to the gradient, as work on lazy and rich training does it.

A step is taken if the gradient at its end differs little from that at its beginning, ``|g′ − g|²/(|g||g′|)`` below a
bound for all parameters; else it is tried again ten times shorter. If it is below half the bound, the next is 1.1
times as long. The force of the linear hinge jumps, and so does the gradient: when few examples have a force, a step in
which one loses it would be refused however short it is. So steps of the shortest length are always taken. (Measured,
N = 1000, M = 100, α = 1: ten times shorter ones are taken nine times as often; the jumps set the length of the steps.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmark.plain import PlainNetwork
from benchmark.problems import Problem
from benchmark.timing import now
from mfnet.network import Nodes

GROW, SHRINK = 1.1, 0.1

#: Bound on the change of the gradient, if none is given.
BOUND = 1e-2


class AdaptiveEuler:
    """(d).

    Args:
        problem: What to train.
        alpha: Scale α.
        dt: First step.
        shortest: Shortest step.
        bound: Bound on the relative change of the gradient in a step.
        patience: Seconds after which it stops where it is.
    """

    def __init__(
        self,
        problem: Problem,
        alpha: float,
        dt: float,
        *,
        shortest: float,
        bound: float = BOUND,
        patience: float = math.inf,
    ):
        self.network, self.device = PlainNetwork(problem, alpha), problem.device
        self.parameters = list(self.network.parameters())
        self.dt, self.shortest, self.bound, self.patience = dt, shortest, bound, patience
        self.t, self.n_steps, self.n_gradients, self.seconds = 0.0, 0, 0, 0.0
        self.loss, self.gradient = self._loss_and_gradient()

    def advance(self, until: float) -> bool:
        """Steps to the time ``until``, or until all examples are satisfied; False if it has run out of patience."""
        start = now(self.device) - self.seconds
        while self.t < until and self.loss > 0.0 and self.seconds < self.patience:
            self._try(until)
            self.seconds = now(self.device) - start
        return self.t >= until or self.loss == 0.0

    @property
    def nodes(self) -> Nodes:
        """The present nodes."""
        return self.network.nodes

    def _loss_and_gradient(self) -> tuple[float, tuple[Tensor, ...]]:
        self.n_gradients += 1
        loss = self.network()
        return float(loss.detach()), torch.autograd.grad(loss, self.parameters)

    @torch.no_grad()
    def _move(self, dt: float) -> list[Tensor]:
        """Moves the nodes; where they were."""
        before = [parameter.clone() for parameter in self.parameters]
        for parameter, gradient in zip(self.parameters, self.gradient, strict=True):
            parameter.add_(gradient, alpha=-len(self.network.a) * dt)
        return before

    def _try(self, until: float) -> None:
        """Takes a step, or shortens the next."""
        left = until - self.t
        dt = min(self.dt, left)
        before = self._move(dt)
        loss, gradient = self._loss_and_gradient()
        change = relative_change(self.gradient, gradient)
        if not change < self.bound and dt > self.shortest:
            self.dt = max(SHRINK * dt, self.shortest)
            with torch.no_grad():
                for parameter, value in zip(self.parameters, before, strict=True):
                    parameter.copy_(value)
            return
        self.t = until if dt == left else self.t + dt
        self.n_steps += 1
        self.loss, self.gradient = loss, gradient
        if change < 0.5 * self.bound and dt == self.dt:
            self.dt *= GROW


def relative_change(before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> float:
    """max |g′ − g|²/(|g||g′|) over the parameters; 0 where a gradient is 0."""
    changes = []
    for g, new in zip(before, after, strict=True):
        size = g.norm() * new.norm()
        changes.append(((new - g).square().sum() / size).where(size > 0.0, 0.0))
    return float(torch.stack(changes).max())
