"""Steps of a fixed length: every interval is divided into equal steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mfnet.flow.evaluator import Evaluator
from mfnet.flow.flow import Flow, Step
from mfnet.flow.motion import hyperbolic_rotation, linear_motion, velocity
from mfnet.flow.objective import Objective
from mfnet.flow.state import Progress, State
from mfnet.network import Nodes
from mfnet.record.schedule import steps_between

#: Why nodes that turn need a drive.
TURNING = "rotation steps need a positively homogeneous activation"


class FixedStepFlow(Flow[State]):
    """A flow in steps of ``dt``; a subclass says in `moved` where nodes are after a step.

    One of your own, of second order for any activation, is::

        class Midpoint(FixedStepFlow):
            evaluations = 2

            def moved(self, evaluator, nodes, rates, dt):
                half = linear_motion(nodes, velocity(evaluator.activation, nodes, rates), [t / 2 for t in dt])
                rates, _ = evaluator.present_rates_and_margins(half)
                return linear_motion(nodes, velocity(evaluator.activation, half, rates), dt)

    Args:
        objective: What to follow.
        dt: Longest step Δt in mean-field time, above 0. A `torch.optim.SGD` step of learning rate M·Δt is as long.
    """

    state_type = State

    #: Drive evaluations of a step, for `Flow.n_evaluations`; that of the rates is one.
    evaluations: ClassVar[float] = 1

    def __init__(self, objective: Objective, dt: float):
        super().__init__(objective)
        self.dt = dt

    @classmethod
    def steps_at_least(cls, times: Float[np.ndarray, " K"], **settings: Any) -> float:
        return steps_between(times, settings["dt"])

    def moved(self, evaluator: Evaluator, nodes: Nodes, rates: Float[Tensor, "R M k"], dt: Sequence[float]) -> Nodes:
        """Where the nodes of R networks are after a step, in new tensors.

        Args:
            evaluator: Computes what is asked of the networks on their examples: ``evaluator.activation``, the rates at
                other nodes (`Evaluator.present_rates_and_margins`), and more.
            nodes: The nodes at the beginning of the step: ``nodes.a`` is (R, M), and ``nodes.w`` (R, M, d).
            rates: Their rates there: of a positively homogeneous activation the drive B, (R, M, d), else the
                velocity, (R, M, 1 + d). `mfnet.flow.velocity` makes (ȧ, ẇ) of either.
            dt: Length of the step of each of the R networks.
        """
        raise NotImplementedError(f"{type(self).__name__} must say in moved() where nodes are after a step")

    def _begin(self, evaluator: Evaluator, nodes: Nodes) -> State:
        rates, margins = evaluator.present_rates_and_margins(nodes)
        progress = tuple(Progress(work=2.0, **outcome) for outcome in evaluator.outcomes(margins))
        return State(progress, *nodes, rates, margins)

    def _propose(
        self, evaluator: Evaluator, state: State, prepared: None, dt: Sequence[float]
    ) -> tuple[State, list[Step]]:
        if not self.objective.fixed:  # a single network sees new examples at each step
            (evaluator,) = self.objective.evaluators_at(state.progress[0].n_steps)
        nodes = self.moved(evaluator, state.nodes, state.rates, dt)
        if not self.objective.fixed:
            (evaluator,) = self.objective.evaluators_at(state.progress[0].n_steps + 1)
        rates, margins = evaluator.present_rates_and_margins(nodes)
        work = 2.0 * self.evaluations
        steps = [Step(error=0.0, work=work, **outcome) for outcome in evaluator.outcomes(margins)]
        return replace(state, a=nodes.a, w=nodes.w, rates=rates, margins=margins), steps

    def _longest(self, progress: Progress) -> float:
        return self.dt

    def _steps_to(self, progress: Progress, until: float) -> float:
        return math.ceil(max(until - progress.t, 0.0) / self.dt - 1e-9)


class Euler(FixedStepFlow):
    """θ ← θ + Δt θ̇: gradient descent with learning rate M·Δt, for any activation."""

    def moved(self, evaluator: Evaluator, nodes: Nodes, rates: Tensor, dt: Sequence[float]) -> Nodes:
        return linear_motion(nodes, velocity(evaluator.activation, nodes, rates), dt)


class Rotation(FixedStepFlow):
    """Each node turns by a hyperbolic angle |B_i|Δt about its drive; homogeneous activations only.

    Conserves a_i² − |w_i|² to rounding, as the flow does, and stays accurate in the rich regime, where Euler's norms
    fall behind.
    """

    only_homogeneous = TURNING

    def moved(self, evaluator: Evaluator, nodes: Nodes, rates: Tensor, dt: Sequence[float]) -> Nodes:
        return hyperbolic_rotation(nodes, rates, dt)
