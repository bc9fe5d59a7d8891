"""Steps of a fixed length (`mfnet.flow.Rotation`, `mfnet.flow.Euler`) for all replicas at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mfnet.ensemble import drive
from mfnet.ensemble.drive import Nodes
from mfnet.ensemble.flow import EnsembleFlow
from mfnet.ensemble.problem import Problem, State
from mfnet.ensemble.replicas import Batches, Replicas
from mfnet.losses import MarginLoss


class EnsembleFixedStep(EnsembleFlow[State]):
    """`mfnet.flow.FixedStepFlow` of every replica."""

    state_type = State

    def __init__(
        self,
        replicas: Replicas,
        loss: MarginLoss,
        alpha: Float[Tensor, " R"],
        source: Callable[[], Batches],
        *,
        dt: float,
    ):
        super().__init__(replicas, loss, alpha, source)
        self.dt = dt

    @abstractmethod
    def _moved(self, problem: Problem, nodes: Nodes, rates: Tensor, dt: Float[Tensor, " r"]) -> Nodes:
        """Where nodes are after steps of ``dt``."""

    def _begin(self) -> State:
        nodes = Nodes(self.replicas.a.clone(), self.replicas.w.clone())
        return State(*nodes, self.problem.margins(nodes))

    def _longest(self, running: Tensor, left: Float[Tensor, " r"], state: State, problem: Problem) -> Tensor:
        return torch.full_like(left, self.dt)

    def steps_to(self, until: float) -> float:
        left = (until - self.times[self.running]).clamp_min(0.0)
        return float((left / self.dt - 1e-9).ceil().sum())

    def _shortest(self, until: float) -> float:
        return 0.0

    def _step(
        self, running: Tensor, state: State, problem: Problem, dt: Float[Tensor, " r"]
    ) -> tuple[State, Bool[Tensor, " r"]]:
        rates, _ = problem.rates(state.nodes, self.loss.force(state.margins))
        nodes = self._moved(problem, state.nodes, rates, dt.to(state.a.device, state.a.dtype))
        self.work[running] += 2.0
        return State(*nodes, problem.margins(nodes)), torch.ones(len(dt), dtype=torch.bool)


class EnsembleRotation(EnsembleFixedStep):
    """`mfnet.flow.Rotation` of every replica; homogeneous activations."""

    def _moved(self, problem: Problem, nodes: Nodes, rates: Tensor, dt: Float[Tensor, " r"]) -> Nodes:
        return drive.moved(problem.activation, nodes, rates, dt)


class EnsembleEuler(EnsembleFixedStep):
    """`mfnet.flow.Euler` of every replica."""

    def _moved(self, problem: Problem, nodes: Nodes, rates: Tensor, dt: Float[Tensor, " r"]) -> Nodes:
        a, w = drive.velocity(problem.activation, nodes, rates)
        return Nodes(nodes.a + dt[:, None] * a, nodes.w + dt[:, None, None] * w)
