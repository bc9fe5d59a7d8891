"""Steps of a fixed length: every interval is divided into equal steps."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from mfnet.flow.evaluator import Evaluator
from mfnet.flow.flow import Flow, Step
from mfnet.flow.motion import hyperbolic_rotation, linear_motion, velocity
from mfnet.flow.objective import Objective
from mfnet.flow.state import Progress, State
from mfnet.network import Nodes


class FixedStepFlow(Flow[State]):
    """A flow in steps of ``dt`` under the rates of their beginning; first order.

    Args:
        objective: What to follow.
        dt: Longest step Δt in mean-field time, above 0. A `torch.optim.SGD` step of learning rate M·Δt is as long.
    """

    state_type = State

    def __init__(self, objective: Objective, dt: float):
        super().__init__(objective)
        self.dt = dt

    @abstractmethod
    def _moved(self, evaluator: Evaluator, nodes: Nodes, rates: Tensor, dt: Sequence[float]) -> Nodes:
        """Where nodes are after steps of ``dt``."""

    def _begin(self, evaluator: Evaluator, nodes: Nodes) -> State:
        rates, margins = evaluator.present_rates_and_margins(nodes)
        progress = tuple(Progress(work=2.0, **outcome) for outcome in evaluator.outcomes(margins))
        return State(progress, *nodes, rates, margins)

    def _propose(
        self, evaluator: Evaluator, state: State, prepared: None, dt: Sequence[float]
    ) -> tuple[State, list[Step]]:
        nodes = self._moved(evaluator, state.nodes, state.rates, dt)
        if not self.objective.fixed:  # a single network sees the examples of its next step
            (evaluator,) = self.objective.evaluators_at(state.progress[0].n_steps + 1)
        rates, margins = evaluator.present_rates_and_margins(nodes)
        steps = [Step(error=0.0, work=2.0, **outcome) for outcome in evaluator.outcomes(margins)]
        return replace(state, a=nodes.a, w=nodes.w, rates=rates, margins=margins), steps

    def _longest(self, progress: Progress, left: float) -> float:
        return self.dt

    def _steps_to(self, progress: Progress, until: float) -> float:
        return math.ceil(max(until - progress.t, 0.0) / self.dt - 1e-9)


class Euler(FixedStepFlow):
    """θ ← θ + Δt θ̇: gradient descent with learning rate M·Δt, for any activation."""

    def _moved(self, evaluator: Evaluator, nodes: Nodes, rates: Tensor, dt: Sequence[float]) -> Nodes:
        return linear_motion(nodes, velocity(evaluator.activation, nodes, rates), dt)


class Rotation(FixedStepFlow):
    """Each node turns by a hyperbolic angle |B_i|Δt about its drive; homogeneous activations only.

    Conserves a_i² − |w_i|² to rounding, as the flow does, and stays accurate in the rich regime, where Euler's norms
    fall behind.

    Raises:
        ValueError: If the activation is not positively homogeneous.
    """

    def __init__(self, objective: Objective, dt: float):
        require_homogeneous(objective)
        super().__init__(objective, dt)

    def _moved(self, evaluator: Evaluator, nodes: Nodes, rates: Tensor, dt: Sequence[float]) -> Nodes:
        return hyperbolic_rotation(nodes, rates, dt)


def require_homogeneous(objective: Objective) -> None:
    """Refuses what cannot turn.

    Raises:
        ValueError: If the activation is not positively homogeneous.
    """
    activation = objective.networks.activation
    if not activation.homogeneous:
        raise ValueError(f"rotation steps need a homogeneous activation, and {activation.name} is not")
