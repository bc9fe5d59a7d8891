"""Flows of R replicas side by side: each has its own time, steps and end.

A pass of the loop takes one step of every replica that is on its way. Replicas that have arrived or ended leave the
batch. The host holds what controls the steps, and waits for the device a few times a pass, however many there are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, Generic

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mfnet.ensemble.drive import Nodes
from mfnet.ensemble.problem import Problem, S, forecast_inputs
from mfnet.ensemble.replicas import Batches, Replicas
from mfnet.flow import StoppingRules, StopReason
from mfnet.losses import MarginLoss
from mfnet.processes import ALONE
from mfnet.threads import one_thread

#: Multiplications of a pass over all examples of all replicas, at most, that one thread of a CPU does alone: its
#: operations are too small to share (measured on two cores that others use too: two threads take ten times longer).
ONE_THREAD = 2**28


#: Ends after which a replica can go on: when there is time again, or under other rules.
LIFTED = (StopReason.WALL_TIME, StopReason.ENOUGH_SATISFIED, StopReason.TEST_ERROR_ROSE, StopReason.STATIONARY)


class EnsembleFlow(torch.optim.Optimizer, Generic[S]):
    """Integrates θ̇ = −M ∂L/∂θ of every replica, each until it has reached the observation or has ended.

    Args:
        replicas: The networks.
        loss: The loss ℓ.
        alpha: Scale α of each replica.
        source: Gives the examples, fixed for the run; called when the first step begins.

    Attributes:
        times: Mean-field time of each replica.
        steps: Steps of each replica.
        work: Matrix products of each replica with its training inputs so far, in units of all N × M × d.
        stop_reasons: Why each replica does not go on, or None.
        rules: When to stop.
    """

    #: What a checkpoint's state is made into.
    state_type: type[S]
    _state: S | None = None

    def __init__(self, replicas: Replicas, loss: MarginLoss, alpha: Float[Tensor, " R"], source: Callable[[], Batches]):
        super().__init__(replicas.parameters(), {})
        self.replicas, self.loss, self.alpha, self.source = replicas, loss, alpha, source
        self.rules = StoppingRules()
        R = len(replicas)
        self.times, self.work = torch.zeros(R, dtype=torch.float64), torch.zeros(R, dtype=torch.float64)
        self.steps = torch.zeros(R, dtype=torch.long)
        self.stop_reasons: list[StopReason | None] = [None] * R

    @abstractmethod
    def _begin(self) -> S:
        """The state of the initial nodes, in tensors of its own."""

    @abstractmethod
    def _longest(self, running: Tensor, left: Float[Tensor, " r"], state: S, problem: Problem) -> Float[Tensor, " r"]:
        """How long the next steps may be, where so much time is ``left`` to the observation; on the host."""

    @abstractmethod
    def steps_to(self, until: float) -> float:
        """About how many more steps of all replicas it takes to reach ``until``; inf before the first."""

    @abstractmethod
    def _shortest(self, until: float) -> float:
        """How long a step on the way to ``until`` must be."""

    @abstractmethod
    def _step(
        self, running: Tensor, state: S, problem: Problem, dt: Float[Tensor, " r"]
    ) -> tuple[S, Bool[Tensor, " r"]]:
        """The states after steps of ``dt``, and which of them were taken; the others have not moved."""

    @cached_property
    def problem(self) -> Problem:
        """What all replicas follow."""
        replicas, batches = self.replicas, self.source()
        alpha, initial = self.alpha.to(replicas.a.device), Nodes(replicas.a0, replicas.w0)
        return Problem(replicas.activation, self.loss, alpha, batches, forecast_inputs(batches, self.loss), initial)

    @torch.no_grad()
    def step(self, closure: Any = None, *, until: float) -> None:  # type: ignore[override]  # a flow needs its end
        """Advances every replica that has not ended to mean-field time ``until``, or to its end.

        Args:
            closure: Ignored; the flow evaluates its own objective.
            until: The time to reach.
        """
        running = self.running.nonzero().squeeze(1)
        if len(running) == 0:
            return
        with self.threads():
            if self._state is None:
                self._state = self._begin()
            self._advance_to(until, running, self._state)
        self.replicas.a.copy_(self._state.a)
        self.replicas.w.copy_(self._state.w)

    def _advance_to(self, until: float, running: Int[Tensor, " r"], whole: S) -> None:
        """Brings the replicas ``running``, whose numbers are on the host, to ``until``, or sets their stop reasons."""
        device = self.replicas.a.device
        there = running.to(device)
        state, problem = whole.select(there), self.problem
        if len(running) < len(self.replicas):
            problem = problem.select(there)
        while True:
            left = until - self.times[running]
            ended = self._ended(state.margins)
            going = torch.tensor([reason is None for reason in ended]) & (left > 0.0)
            n_steps = (left / self._longest(running, left, state, problem) - 1e-9).ceil()
            dt = left / n_steps
            too_short = going & (dt < self._shortest(until))
            going &= ~too_short
            for r, reason, short in zip(running.tolist(), ended, too_short.tolist(), strict=True):
                self.stop_reasons[r] = StopReason.STEP_TOO_SMALL if short else reason
            if not bool(going.all()):
                whole.put(there, state)
                if not bool(going.any()):
                    return
                running, dt, n_steps, remaining = running[going], dt[going], n_steps[going], going.to(device)
                there, state, problem = there[remaining], state.select(remaining), problem.select(remaining)
            state, taken = self._step(running, state, problem, dt)
            reached = (self.times[running] + dt).where(n_steps > 1.0, until)
            self.times[running] = reached.where(taken, self.times[running])
            self.steps[running] += taken.long()

    def _ended(self, margins: Float[Tensor, "r N"]) -> list[StopReason | None]:
        """Why replicas with these margins must stop, if they must."""
        counts = torch.stack([(~margins.isfinite()).sum(dim=1), (margins >= self.loss.h).sum(dim=1)])
        late = StopReason.WALL_TIME if self.rules.out_of_time(ALONE) else None
        reasons: list[StopReason | None] = []
        for lost, above in counts.T.tolist():
            satisfied = above / margins.shape[1]
            if lost:
                reasons.append(StopReason.DIVERGED)
            elif satisfied >= self.rules.satisfied:
                reasons.append(StopReason.ALL_SATISFIED if satisfied == 1.0 else StopReason.ENOUGH_SATISFIED)
            else:
                reasons.append(late)
        return reasons

    def threads(self) -> AbstractContextManager[None]:
        """Inside, as many threads as the size of the problem is worth."""
        (R, M, d), N = self.replicas.w.shape, self.problem.batches.x.shape[1]
        return one_thread() if self.replicas.w.is_cpu and R * M * N * d <= ONE_THREAD else nullcontext()

    @property
    def running(self) -> Bool[Tensor, " R"]:
        """Which replicas have not ended."""
        return torch.tensor([reason is None for reason in self.stop_reasons])

    @property
    def t(self) -> float:
        """Time that the furthest replica has reached."""
        return float(self.times.max())

    @property
    def n_steps(self) -> int:
        """Steps of all replicas together."""
        return int(self.steps.sum())

    @property
    def n_evaluations(self) -> float:
        """Drive evaluations of all replicas together; one is two matrix products of all nodes with all examples."""
        return float(self.work.sum()) / 2.0

    @property
    def stop_reason(self) -> StopReason | None:
        """Why no replica goes on: a reason that a longer run could lift, or the one that they share, if they do."""
        reasons = set(self.stop_reasons)
        if None in reasons:
            return None
        lifted = next((reason for reason in LIFTED if reason in reasons), None)
        return lifted or (reasons.pop() if len(reasons) == 1 else StopReason.REPLICAS_ENDED)

    @torch.no_grad()
    def margins(self) -> Float[Tensor, "R N"]:
        """m = αyF of the training examples at the present nodes."""
        if self._state is not None:
            return self._state.margins
        return self.problem.margins(Nodes(self.replicas.a, self.replicas.w))

    def state_dict(self) -> dict[str, Any]:
        """Torch's state, and every replica's; one goes on that the wall time has ended, or a rule has, if all ended."""
        lifted = LIFTED[:1] if self.stop_reason in (None, StopReason.WALL_TIME) else LIFTED
        reasons = [None if reason in lifted else reason for reason in self.stop_reasons]
        replicas = {
            "times": self.times,
            "steps": self.steps,
            "work": self.work,
            "stop_reasons": [reason and str(reason) for reason in reasons],
            "state": self._state and vars(self._state),
        }
        return {**super().state_dict(), "replicas": replicas}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        saved = dict(state_dict)
        own = saved.pop("replicas")
        super().load_state_dict(saved)
        self.times, self.steps, self.work = (own[name].cpu() for name in ("times", "steps", "work"))
        self.stop_reasons = [reason and StopReason(reason) for reason in own["stop_reasons"]]
        device, state = self.replicas.a.device, own["state"]
        self._state = state and self.state_type(**{name: values.to(device) for name, values in state.items()})
