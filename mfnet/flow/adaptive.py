"""Steps as long as the error allows."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.flow.base import Flow
from mfnet.flow.motion import Motion, Rates, Straight, Turning
from mfnet.flow.objective import Objective
from mfnet.flow.stopping import StopReason

#: One run's number, or every replica's.
Number = TypeVar("Number", float, Tensor)


@dataclass(frozen=True)
class Tolerance:
    """How accurate a run is to be, and how the lengths of its steps follow.

    The error of a step is estimated by its difference from a step of first order, and may be ``atol + (20 rtol)²
    |θ − θ₀|``, as root mean squares over the nodes. So Δt ∝ rtol, and what the steps of a run add up to is of the order
    of rtol (`mfnet.flow.averaged` has tables). The displacement |θ − θ₀| is a measure that lets the error go to zero
    with Δt although forces jump at the margin; relative to the change of the drive it would not.

    Attributes:
        rtol: Error of a run, relative to the displacement from the initial nodes.
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

    def allowed(self, displacement: Number) -> Number:
        """Error that a step may have."""
        return self.atol + (20.0 * self.rtol) ** 2 * displacement

    def factor(self, error: float) -> float:
        """Length of the next step in units of the present one, whose error (1 is allowed) is of second order."""
        if not math.isfinite(error):
            return self.shrink
        return min(self.grow, max(self.shrink, self.safety / math.sqrt(max(error, 1e-12))))


class AdaptiveFlow(Flow):
    """A flow that tries a step, looks at its error, and takes it or tries a shorter one.

    Steps divide the way to the next observation evenly, so that they land on it. A step whose error is not
    finite is tried again shorter; one that would have to be shorter than ``dt_min`` ends the run with
    `StopReason.STEP_TOO_SMALL`.

    Args:
        objective: What to follow, on a fixed training set.
        motion: How nodes move while their rates are frozen.
        tolerance: The fields of `Tolerance`.

    Attributes:
        dt: Length that the error of the last step allows; None before the first.
        n_rejected: Steps that were tried and not taken.

    Raises:
        ValueError: If the examples change from step to step.
    """

    #: Names of the keyword arguments that are passed on, for those who check settings.
    KEYWORDS = tuple(field.name for field in fields(Tolerance))

    def __init__(self, objective: Objective, motion: Motion, **tolerance: Any):
        super().__init__(objective)
        if not objective.fixed:
            raise ValueError("adaptive steps need a fixed training set: with new examples each step has no error")
        self.motion, self.tolerance = motion, Tolerance(**tolerance)
        self.dt = self.tolerance.dt_first
        self.n_rejected = 0

    @abstractmethod
    def _begin(self) -> Float[Tensor, " N"]:
        """The margins of the present nodes; called before each step, and at the end."""

    @abstractmethod
    def _present_rates(self) -> Rates:
        """The rates of the present nodes, after `_begin`."""

    @abstractmethod
    def _try(self, dt: float) -> float:
        """Moves the network by a step of ``dt``; its error in units of what is allowed."""

    @abstractmethod
    def _take(self, dt: float) -> None:
        """Keeps the step of ``dt`` that was tried last."""

    @torch.no_grad()
    def _advance_to(self, until: float) -> None:
        network = self.objective.network
        while self.t < until:
            if self._must_stop(self._begin()):
                return
            if self.dt is None:
                self.dt = self._first_step(until - self.t)
            a, w = network.a.clone(), network.w.clone()
            while True:
                n_steps = math.ceil((until - self.t) / min(self.dt, self.tolerance.dt_max or math.inf) - 1e-9)
                dt = (until - self.t) / n_steps
                if dt < (self.tolerance.dt_min or 1e-10 * until):
                    self.stop_reason = StopReason.STEP_TOO_SMALL
                    return
                error = self._try(dt)
                if error <= 1.0:
                    break
                network.a.copy_(a)
                network.w.copy_(w)
                self.n_rejected += 1
                self.dt = dt * min(self.tolerance.factor(error), 0.8)
            self._take(dt)
            self.n_steps += 1
            self.t = until if n_steps == 1 else self.t + dt
            allowed = dt * self.tolerance.factor(error)
            self.dt = allowed if dt > 0.5 * self.dt else max(allowed, self.dt)  # not held back by an observation
        self._must_stop(self._begin())

    def margins(self) -> Float[Tensor, " N"]:
        return self._begin()

    def steps_to(self, until: float) -> float:
        """With steps that grow in proportion to t, as the dynamics slows down."""
        if self.dt is None or self.t == 0.0:
            return math.inf
        return max(self.t / self.dt, 0.0) * math.log(max(until / self.t, 1.0))

    def _first_step(self, longest: float) -> float:
        network = self.objective.network
        size = self._norm(network.a, network.w)
        speed = self._norm(*self.motion.velocity(network.a, network.w, self._present_rates()))
        return min(longest, 0.01 * size / speed) if speed > 0.0 else longest

    def _norm(self, a: Float[Tensor, " M"], w: Float[Tensor, "M d"]) -> float:
        """Root mean square over all nodes of |(a, w)|."""
        network = self.objective.network
        return math.sqrt(float(network.processes.sum_nodes(a.square().sum() + w.square().sum())) / network.M)

    def _move_second_order(self, dt: float, start: Rates, rates_there: Callable[[], Rates]) -> float:
        """Moves the network with the mean of the rates at both ends; returns its error in units of what is allowed.

        Args:
            dt: Length of the step.
            start: Rates at its beginning.
            rates_there: Gives the rates of the network where the first-order step has brought it.
        """
        network = self.objective.network
        a, w = network.a.clone(), network.w.clone()
        self.motion.move(network.a, network.w, start, dt)
        mean = tuple((x + y).mul_(0.5) for x, y in zip(start, rates_there(), strict=True))
        first_a, first_w = network.a.clone(), network.w.clone()
        network.a.copy_(a)
        network.w.copy_(w)
        self.motion.move(network.a, network.w, mean, dt)
        return self._norm(network.a - first_a, network.w - first_w) / self.tolerance.allowed(self.displacement())

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "control": {"dt": self.dt, "n_rejected": self.n_rejected}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        control = state.pop("control")
        self.dt, self.n_rejected = control["dt"], control["n_rejected"]
        super().load_state_dict(state)


class SecondOrder(AdaptiveFlow):
    """Moves with the mean of the rates at both ends of a step, which is of second order where the forces are smooth.

    The rates at the beginning are computed once, however often a step is tried. Those at the end are the rates of
    the nodes that the first-order step has reached; they are not taken for those of the next step's beginning, because
    a force that has jumped between the two makes them differ by as much as the rates themselves.
    """

    _present: tuple[Rates, Float[Tensor, " N"]] | None = None

    def _begin(self) -> Float[Tensor, " N"]:
        if self._present is None:
            self._present = self.motion.present(self.objective)
        return self._present[1]

    def _present_rates(self) -> Rates:
        assert self._present is not None
        return self._present[0]

    def _try(self, dt: float) -> float:
        return self._move_second_order(dt, self._present_rates(), lambda: self.motion.present(self.objective)[0])

    def _take(self, dt: float) -> None:
        self._present = None


class AdaptiveRotation(SecondOrder):
    """Adaptive rotation steps of second order; homogeneous activations.

    Raises:
        ValueError: If the activation is not positively homogeneous.
    """

    def __init__(self, objective: Objective, **tolerance: Any):
        super().__init__(objective, Turning(objective), **tolerance)


class Heun(SecondOrder):
    """Heun's method with adaptive steps, second order, for any activation."""

    def __init__(self, objective: Objective, **tolerance: Any):
        super().__init__(objective, Straight(), **tolerance)
