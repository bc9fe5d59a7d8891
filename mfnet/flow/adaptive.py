"""Steps as long as the error allows."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mfnet.flow.evaluator import Evaluator
from mfnet.flow.fixed_step import TURNING
from mfnet.flow.flow import Flow, Step
from mfnet.flow.motion import hyperbolic_rotation, linear_motion, velocity
from mfnet.flow.objective import Objective
from mfnet.flow.state import Progress, S, State
from mfnet.network import Nodes
from mfnet.network.activations import Activation


@dataclass(frozen=True)
class Tolerance:
    """How accurate a run is to be, and how the lengths of its steps follow.

    The error of a step is estimated by its difference from a step of first order, and may be ``atol + (20 rtol)²
    |θ − θ₀|``, as root mean squares over the nodes. So Δt ∝ rtol, and what the steps of a run add up to falls with
    rtol: with forces that jump it is a few times rtol at the end of a lazy run, and ten times at that of a rich one
    (`mfnet.flow.averaged` has a table). The displacement |θ − θ₀| is a measure that lets the error go to zero
    with Δt although forces jump at the margin; relative to the change of the drive it would not.

    Attributes:
        rtol: Tolerance of a step, relative to the displacement from the initial nodes; the error of a run is larger.
        atol: Error of a step that is always allowed, because rounding makes it.
        safety: Factor on the length that the error alone would allow.
        shrink: Least factor between a step and the next.
        grow: Largest factor between a step and the next.
        dt_first: First step; None takes a hundredth of the time in which nodes would move by their own size.
        dt_min: Shortest step; None takes 10⁻¹⁰ of the time to be reached.
        dt_max: Longest step, or None.
    """

    rtol: float = 1e-2
    atol: float = 1e-6
    safety: float = 0.9
    shrink: float = 0.2
    grow: float = 4.0
    dt_first: float | None = None
    dt_min: float | None = None
    dt_max: float | None = None

    def allowed(self, displacement: float) -> float:
        """Error that a step may have."""
        return self.atol + (20.0 * self.rtol) ** 2 * displacement

    def steps_at_least(self, until: float) -> float:
        """About how many steps these tolerances ask for, of nodes that move by their own size."""
        accurate = 1.0 / (self.safety * math.sqrt(max(self.allowed(1.0), 1e-300)))
        even = until / self.dt_max if self.dt_max else 0.0
        first = self.dt_first if self.dt_first and self.dt_first < until else until
        growing = min(until / first, math.log(until / first) / math.log1p(self.grow - 1.0))
        return max(accurate, even, growing)

    def factor(self, error: float) -> float:
        """Length of the next step in units of the present one, whose error (1 is allowed) is of second order."""
        if not math.isfinite(error):
            return self.shrink
        return min(self.grow, max(self.shrink, self.safety / math.sqrt(max(error, 1e-12))))


class AdaptiveFlow(Flow[S]):
    """A flow that tries a step, looks at its error, and takes it or tries a shorter one.

    Steps divide the way to the next observation evenly, so that they land on it. A step whose error is not
    finite is tried again shorter; one that would have to be shorter than ``dt_min`` ends the run with
    `StopReason.STEP_TOO_SMALL`.

    Args:
        objective: What to follow, on a fixed training set.
        tolerance: The fields of `Tolerance`.

    Raises:
        ValueError: If the examples change from step to step.
    """

    only_fixed = "adaptive steps need a fixed training set: with new examples each step has no error"

    #: Names of the keyword arguments that are passed on, for those who check settings.
    KEYWORDS = tuple(field.name for field in fields(Tolerance))

    def __init__(self, objective: Objective, **tolerance: Any):
        super().__init__(objective)
        self.tolerance = Tolerance(**tolerance)

    @classmethod
    def steps_at_least(cls, times: Float[np.ndarray, " K"], **settings: Any) -> float:
        return Tolerance(**{key: settings[key] for key in cls.KEYWORDS if key in settings}).steps_at_least(times[-1])

    def _first(self, evaluator: Evaluator, state: S, work: float) -> S:
        """The state of the beginning with its progress, of which ``work`` has been done, and its first steps."""
        speed = velocity(evaluator.activation, state.nodes, state.rates)
        squares = evaluator.mean_squares([state.nodes, speed]).T.tolist()
        first = [0.01 * math.sqrt(size / speed_) if speed_ > 0.0 else math.inf for size, speed_ in squares]
        if self.tolerance.dt_first is not None:
            first = [self.tolerance.dt_first] * len(squares)
        outcomes = zip(first, evaluator.outcomes(state.margins), strict=True)
        return replace(state, progress=tuple(Progress(dt=dt, work=work, **outcome) for dt, outcome in outcomes))

    def _longest(self, progress: Progress) -> float:
        return min(progress.dt, self.tolerance.dt_max or math.inf)

    def _shortest(self, until: float) -> float:
        return self.tolerance.dt_min or 1e-10 * until

    def _next_dt(self, progress: Progress, dt: float, error: float) -> float:
        factor = self.tolerance.factor(error)
        if not error <= 1.0:
            return dt * min(factor, 0.8)
        held_back = dt <= 0.5 * progress.dt  # by an observation
        return max(dt * factor, progress.dt) if held_back else dt * factor

    def _steps_to(self, progress: Progress, until: float) -> float:
        """With steps that grow in proportion to t, as the dynamics slows down."""
        if progress.n_steps == 0:
            return math.inf
        return max(progress.t / progress.dt, 0.0) * math.log(max(until / progress.t, 1.0))


class SecondOrder(AdaptiveFlow[State]):
    """Moves with the mean of the rates at both ends of a step, which is of second order where the forces are smooth.

    The rates at the beginning are computed once, however often a step is tried. Those at the end are the rates of
    the nodes that the first-order step has reached; they are not taken for those of the next step's beginning, because
    a force that has jumped between the two makes them differ by as much as the rates themselves.
    """

    state_type = State

    @abstractmethod
    def _first_order(self, activation: Activation, nodes: Nodes, rates: Tensor, dt: Sequence[float]) -> Nodes:
        """Where nodes are after times ``dt`` under rates that do not change."""

    @abstractmethod
    def _second_order(
        self, activation: Activation, nodes: Nodes, rates: Tensor, end: Nodes, at_end: Tensor, dt: Sequence[float]
    ) -> Nodes:
        """The same under the mean of the rates here and at the ``end`` of the first-order step."""

    def _begin(self, evaluator: Evaluator, nodes: Nodes) -> State:
        rates, margins = evaluator.present_rates_and_margins(nodes)
        return self._first(evaluator, State((), *nodes, rates, margins), 2.0)

    def _propose(
        self, evaluator: Evaluator, state: State, prepared: None, dt: Sequence[float]
    ) -> tuple[State, list[Step]]:
        activation = evaluator.activation
        first = self._first_order(activation, state.nodes, state.rates, dt)
        at_end, _ = evaluator.present_rates_and_margins(first)
        nodes = self._second_order(activation, state.nodes, state.rates, first, at_end, dt)
        difference = Nodes(nodes.a - first.a, nodes.w - first.w)
        errors = [
            math.sqrt(square) / self.tolerance.allowed(math.sqrt(moved))
            for square, moved in evaluator.mean_squares([difference, evaluator.displacement(nodes)]).T.tolist()
        ]
        if not any(error <= 1.0 for error in errors):
            return state, [Step(error, work=2.0) for error in errors]
        rates, margins = evaluator.present_rates_and_margins(nodes)
        outcomes = zip(errors, evaluator.outcomes(margins), strict=True)
        steps = [Step(error, work=4.0 if error <= 1.0 else 2.0, **outcome) for error, outcome in outcomes]
        return replace(state, a=nodes.a, w=nodes.w, rates=rates, margins=margins), steps


class AdaptiveRotation(SecondOrder):
    """Adaptive rotation steps of second order; homogeneous activations."""

    only_homogeneous = TURNING

    def _first_order(self, activation: Activation, nodes: Nodes, rates: Tensor, dt: Sequence[float]) -> Nodes:
        return hyperbolic_rotation(nodes, rates, dt)

    def _second_order(
        self, activation: Activation, nodes: Nodes, rates: Tensor, end: Nodes, at_end: Tensor, dt: Sequence[float]
    ) -> Nodes:
        return hyperbolic_rotation(nodes, (rates + at_end).mul_(0.5), dt)


class Heun(SecondOrder):
    """Heun's method with adaptive steps, second order, for any activation."""

    def _first_order(self, activation: Activation, nodes: Nodes, rates: Tensor, dt: Sequence[float]) -> Nodes:
        return linear_motion(nodes, velocity(activation, nodes, rates), dt)

    def _second_order(
        self, activation: Activation, nodes: Nodes, rates: Tensor, end: Nodes, at_end: Tensor, dt: Sequence[float]
    ) -> Nodes:
        both = zip(velocity(activation, nodes, rates), velocity(activation, end, at_end), strict=True)
        return linear_motion(nodes, Nodes(*((here + there).mul_(0.5) for here, there in both)), dt)
