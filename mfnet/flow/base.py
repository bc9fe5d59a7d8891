"""The interface of every flow: advance the network to a given mean-field time, or say why not."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.drive import margins_of
from mfnet.flow.objective import Objective
from mfnet.flow.stopping import StoppingRules, StopReason


class Flow(torch.optim.Optimizer):
    """Integrates θ̇ = −M ∂L/∂θ in mean-field time.

    A flow is an optimizer so that Lightning counts its steps and checkpoints its state. One call of `step` goes from
    the current time to the next observation, in as many steps of its own as it needs.

    Attributes:
        t: Mean-field time reached.
        n_steps: Steps taken.
        rules: When to stop.
        stop_reason: Why the flow does not go on, or None.
    """

    def __init__(self, objective: Objective):
        super().__init__(objective.network.parameters(), {})
        self.objective = objective
        self.t = 0.0
        self.n_steps = 0
        self.rules = StoppingRules()
        self.stop_reason: StopReason | None = None

    @abstractmethod
    def _advance_to(self, until: float) -> None:
        """Takes steps until ``self.t`` is ``until``, or sets ``self.stop_reason``."""

    def step(self, closure: Any = None, *, until: float) -> None:  # type: ignore[override]  # a flow needs its end
        """Advances to mean-field time ``until``; earlier, with ``stop_reason`` set, if nothing moves or all is lost.

        Args:
            closure: Ignored; the flow evaluates its own objective.
            until: The time to reach, at least the present one.
        """
        self._advance_to(until)

    @abstractmethod
    def steps_to(self, until: float) -> float:
        """About how many more steps it takes to reach ``until``, by the last one's length; inf before the first."""

    def margins(self) -> Float[Tensor, " N"]:
        """m = αyF of this process's training examples, at the present nodes."""
        return margins_of(self.objective.network, self.objective.source(0), self.objective.alpha)

    @torch.no_grad()
    def displacement(self) -> float:
        """|θ − θ₀|, as a root mean square over the nodes."""
        network = self.objective.network
        squares = (network.a - network.a0).square().sum() + (network.w - network.w0).square().sum()
        return math.sqrt(float(network.processes.sum_nodes(squares)) / network.M)

    @property
    def n_evaluations(self) -> float:
        """Drive evaluations so far: one is two matrix products of all nodes with all examples."""
        return self.objective.work / 2.0

    def _must_stop(self, margins: Float[Tensor, " N"], *, complete: bool = True) -> bool:
        """Sets ``stop_reason`` if a margin is not finite, or the ``complete`` set's margins or the hour say so."""
        finite, satisfied = self.objective.satisfied(margins)
        if not finite:
            self.stop_reason = StopReason.DIVERGED
        elif complete and self.objective.fixed and satisfied >= self.rules.satisfied:
            self.stop_reason = StopReason.ALL_SATISFIED if satisfied == 1.0 else StopReason.ENOUGH_SATISFIED
        elif self.rules.out_of_time(self.objective.network.processes):
            self.stop_reason = StopReason.WALL_TIME
        return self.stop_reason is not None

    def state_dict(self) -> dict[str, Any]:
        """Torch's state and the flow's clock and counters."""
        clock = {"t": self.t, "n_steps": self.n_steps, "work": self.objective.work}
        return {**super().state_dict(), "clock": clock}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        state = dict(state_dict)
        clock = state.pop("clock")
        super().load_state_dict(state)
        self.t, self.n_steps, self.objective.work = clock["t"], clock["n_steps"], clock["work"]


class FixedStepFlow(Flow):
    """A flow in steps of ``dt``: every interval is divided into equal steps no longer than that.

    Args:
        objective: What to follow.
        dt: Longest step Δt in mean-field time, above 0. A `torch.optim.SGD` step of learning rate M·Δt is as long.
    """

    def __init__(self, objective: Objective, dt: float):
        super().__init__(objective)
        self.dt = dt

    @abstractmethod
    def _take_step(self, dt: float) -> None:
        """Moves the network by one step of ``dt``, or sets ``stop_reason`` and leaves it where it is."""

    def steps_to(self, until: float) -> float:
        return math.ceil(max(until - self.t, 0.0) / self.dt - 1e-9)

    def _advance_to(self, until: float) -> None:
        start = self.t
        n_steps = math.ceil((until - start) / self.dt - 1e-9)
        for i in range(n_steps):
            self._take_step((until - start) / n_steps)
            if self.stop_reason is not None:
                return
            self.n_steps += 1
            self.t = until if i == n_steps - 1 else start + (until - start) * (i + 1) / n_steps
