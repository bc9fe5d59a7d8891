"""The loop that every method shares: R replicas, each with its own time, steps and end.

A turn of the loop proposes a step of every replica that is on its way, and accepts those whose error allows it.
Replicas that have arrived or ended leave the batch. A step starts from a `State` and gives a `State`; nothing else is
remembered, and a checkpoint is the state.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mfnet.compute.products import exact_products
from mfnet.flow.evaluator import Evaluator
from mfnet.flow.objective import Objective
from mfnet.flow.state import Progress, S, stacked
from mfnet.flow.stopping import StoppingRules, joint_reason
from mfnet.network import Nodes
from mfnet.record.stop_reason import StopReason


@dataclass(frozen=True)
class Step:
    """What the host knows of a step that a replica has tried.

    Attributes:
        error: In units of what is allowed: above 1 the step is rejected.
        work: What it has cost, as `Progress` counts it.
        lost, satisfied: Of the margins at its end, as `Progress` has them.
        n_sub: Sub-steps.
        mean_force, sliding: Mean of the averaged forces, and share of examples whose force changed.
    """

    error: float
    work: float
    lost: float = 0.0
    satisfied: float = 0.0
    n_sub: int = 0
    mean_force: float = 0.0
    sliding: float = 0.0


class Flow(torch.optim.Optimizer, Generic[S]):
    """Integrates θ̇ = −M ∂L/∂θ in mean-field time.

    A flow is an optimizer so that Lightning counts its steps and checkpoints its state. One call of `step` goes from
    the current time to the next observation, in as many steps of its own as it needs. For one of your own with steps of
    a fixed length, see `mfnet.flow.FixedStepFlow`.

    Args:
        objective: What to follow.

    Attributes:
        rules: When to stop.

    Raises:
        ValueError: If the class says that it cannot follow these networks.
    """

    #: What a checkpoint's state is made into.
    state_type: type[S]

    #: Why the activation must be positively homogeneous; None where any will do.
    only_homogeneous: ClassVar[str | None] = None
    #: Why there can be only one network; None where replicas can follow it side by side.
    only_one_network: ClassVar[str | None] = None
    #: Why there can be only one process; None where a run can be divided among several.
    only_one_process: ClassVar[str | None] = None
    #: Why every step must see the same training set; None where it may see new examples.
    only_fixed: ClassVar[str | None] = None

    def __init__(self, objective: Objective):
        networks = objective.networks
        if self.only_homogeneous and not networks.activation.homogeneous:
            raise ValueError(f"{self.only_homogeneous}, and {networks.activation.name} is not")
        if self.only_one_network and len(objective.alpha) > 1:
            raise ValueError(self.only_one_network)
        if self.only_one_process and networks.processes.size > 1:
            raise ValueError(self.only_one_process)
        if self.only_fixed and not objective.fixed:
            raise ValueError(self.only_fixed)
        super().__init__(networks.parameters(), {})
        self.objective, self.rules = objective, StoppingRules()
        self._states: list[S] | None = None

    @classmethod
    def steps_at_least(cls, times: Float[np.ndarray, " K"], **settings: Any) -> float:
        """About how many steps a run between these times takes at the least, with these arguments of the class.

        A run that would need too many is refused before it starts; 0 where nothing is known.
        """
        return 0.0

    @abstractmethod
    def _begin(self, evaluator: Evaluator, nodes: Nodes) -> S:
        """The state of replicas at the beginning; it may keep the tensors of ``nodes``."""

    def _prepare(self, evaluator: Evaluator, state: S) -> Any:
        """What every step that is tried from this state needs."""
        return None

    @abstractmethod
    def _propose(self, evaluator: Evaluator, state: S, prepared: Any, dt: Sequence[float]) -> tuple[S, list[Step]]:
        """The states after steps of ``dt``, but for their progress, and what is known of the steps."""

    @abstractmethod
    def _longest(self, progress: Progress) -> float:
        """How long the next step of a replica may be."""

    @abstractmethod
    def _steps_to(self, progress: Progress, until: float) -> float:
        """About how many more steps a replica takes to ``until``; inf where nothing is known."""

    def _shortest(self, until: float) -> float:
        """How long a step on the way to ``until`` must be."""
        return 0.0

    def _next_dt(self, progress: Progress, dt: float, error: float) -> float:
        """Length of the next step after one of ``dt``, accepted or not."""
        return progress.dt

    @torch.no_grad()
    def step(  # type: ignore[override]  # a flow needs its end
        self, closure: Any = None, *, until: float | Sequence[float]
    ) -> None:
        """Advances every replica to mean-field time ``until``; or to where it ends, and sets why.

        Args:
            closure: Ignored; the flow evaluates its own objective.
            until: The time to reach, of all replicas or of each; one that is there already stays.
        """
        if self.stop_reason is not None:
            return
        begun, states, first = self._begun(), [], 0
        ends = [float(until)] * len(self.progress) if isinstance(until, int | float) else list(map(float, until))
        with exact_products():
            for evaluator, state in zip(self.objective.evaluators, begun, strict=True):
                states.append(self._advance(evaluator, state, ends[first : first + len(state.progress)]))
                first += len(state.progress)
        self._states = states
        for own, new in zip(self.objective.networks.nodes, stacked(states).nodes, strict=True):
            own.copy_(new)

    def _begun(self) -> list[S]:
        """The states, which begin with what the networks are when they are first asked for."""
        if self._states is None:
            self._states = []
            for evaluator, nodes in self.objective.parts():
                with torch.no_grad(), exact_products(), evaluator.threads():
                    self._states.append(self._begin(evaluator, Nodes(nodes.a.clone(), nodes.w.clone())))
        return self._states

    def _advance(self, evaluator: Evaluator, whole: S, until: Sequence[float]) -> S:
        """Brings each replica to its ``until``, or to its end."""
        running = [r for r, p in enumerate(whole.progress) if p.stop_reason is None]
        if not running:
            return whole
        if len(running) < len(whole.progress):
            evaluator, state = evaluator.select(running), whole.select(running)
        else:
            state = whole
        observed = (replace(p, since=0.0, impulse=0.0, slid=0.0) for p in state.progress)
        state, prepared = replace(state, progress=tuple(observed)), None
        with evaluator.threads():
            while True:
                late = StopReason.WALL_TIME if self.rules.out_of_time(evaluator.processes) else None
                ends = [until[r] for r in running]
                plan = [self._plan(p, end, late) for p, end in zip(state.progress, ends, strict=True)]
                state = replace(state, progress=tuple(p for p, _ in plan))
                going = [i for i, (_, n_steps) in enumerate(plan) if n_steps > 0]
                if len(going) < len(plan):
                    whole = whole.put(running, state)
                    if not going:
                        return whole
                    running, plan, prepared = [running[i] for i in going], [plan[i] for i in going], None
                    ends = [until[r] for r in running]
                    evaluator, state = evaluator.select(going), state.select(going)
                prepared = self._prepare(evaluator, state) if prepared is None else prepared
                state, moved = self._turn(evaluator, state, prepared, [n_steps for _, n_steps in plan], ends)
                prepared = None if moved else prepared

    def _turn(
        self, evaluator: Evaluator, state: S, prepared: Any, n_steps: Sequence[int], until: Sequence[float]
    ) -> tuple[S, bool]:
        """The states after a step of every replica was tried, and whether any was accepted.

        Args:
            evaluator: Of these replicas.
            state: Where they are.
            prepared: What `_prepare` gave.
            n_steps: Into how many steps the way of each to its ``until`` is divided.
            until: The times to reach.
        """
        dt = [(end - p.t) / n for p, n, end in zip(state.progress, n_steps, until, strict=True)]
        proposed, steps = self._propose(evaluator, state, prepared, dt)
        accepted = [step.error <= 1.0 for step in steps]
        each = zip(state.progress, n_steps, until, dt, steps, strict=True)
        progress = (self._after(p, end if n == 1 else p.t + length, length, step) for p, n, end, length, step in each)
        return replace(proposed.where(accepted, state), progress=tuple(progress)), any(accepted)

    def _plan(self, p: Progress, until: float, late: StopReason | None) -> tuple[Progress, int]:
        """Progress before the next step, and into how many steps what is left is divided; 0 if there is none."""
        left = until - p.t
        reason = self.rules.of_margins(p.lost, p.satisfied if self.objective.fixed else 0.0) or late
        if reason is not None or left <= 0.0:
            return replace(p, stop_reason=reason), 0
        longest = self._longest(p)
        n_steps = max(math.ceil(left / longest - 1e-9), 1) if longest > 0.0 else math.inf
        if left / n_steps < self._shortest(until) or n_steps == math.inf:
            return replace(p, stop_reason=StopReason.STEP_TOO_SMALL), 0
        return (replace(p, dt=min(p.dt, left)) if p.n_steps + p.n_rejected == 0 else p), int(n_steps)

    def _after(self, p: Progress, t: float, dt: float, step: Step) -> Progress:
        """Progress after a step that was tried, and would lead to ``t``."""
        p = replace(p, work=p.work + step.work, dt=self._next_dt(p, dt, step.error))
        if not step.error <= 1.0:
            return replace(p, n_rejected=p.n_rejected + 1)
        return replace(
            p,
            t=t,
            last_dt=dt,
            n_steps=p.n_steps + 1,
            n_sub=p.n_sub + step.n_sub,
            lost=step.lost,
            satisfied=step.satisfied,
            since=p.since + dt,
            impulse=p.impulse + dt * step.mean_force,
            slid=p.slid + dt * step.sliding,
        )

    @property
    def progress(self) -> list[Progress]:
        """How far each replica is."""
        return [p for state in self._begun() for p in state.progress]

    def end(self, reasons: Sequence[StopReason | None]) -> None:
        """Ends those replicas for which there is a reason."""
        left = list(reasons)
        states = []
        for state in self._begun():
            own, left = left[: len(state.progress)], left[len(state.progress) :]
            progress = (replace(p, stop_reason=r or p.stop_reason) for p, r in zip(state.progress, own, strict=True))
            states.append(replace(state, progress=tuple(progress)))
        self._states = states

    @property
    def observed(self) -> dict[str, Float[np.ndarray, " R"]]:
        """Series of each replica that this flow adds to those of every run, since the last call of `step`."""
        return {}

    @property
    def running(self) -> Bool[np.ndarray, " R"]:
        """Which replicas have not ended."""
        return np.array([p.stop_reason is None for p in self.progress])

    @property
    def t(self) -> float:
        """Time that the furthest replica has reached."""
        return max(p.t for p in self.progress)

    @property
    def n_steps(self) -> int:
        """Steps of all replicas together."""
        return sum(p.n_steps for p in self.progress)

    @property
    def n_rejected(self) -> int:
        """Steps of all replicas that were tried and not taken."""
        return sum(p.n_rejected for p in self.progress)

    @property
    def n_evaluations(self) -> float:
        """Drive evaluations of all replicas; one is two matrix products of all nodes with all examples."""
        return sum(p.work for p in self.progress) / 2.0

    @property
    def stop_reason(self) -> StopReason | None:
        """Why no replica goes on, or None."""
        return joint_reason([p.stop_reason for p in self.progress])

    def steps_to(self, until: float) -> float:
        """About how many more steps of all replicas it takes to reach ``until``; inf where nothing is known."""
        return sum(self._steps_to(p, until) for p in self.progress if p.stop_reason is None)

    def margins(self) -> Float[Tensor, "R N"]:
        """m = αyF of this process's training examples, at the present nodes."""
        return torch.cat([state.margins for state in self._begun()])

    def state_dict(self) -> dict[str, Any]:
        """Torch's state, and that of the replicas, of which one goes on that the wall time has ended.

        So does one that a rule has ended, if all have.
        """
        ended = self.stop_reason not in (None, StopReason.WALL_TIME)
        saved = stacked(self._begun()).gathered(self.objective.networks.processes)
        for progress in saved["progress"]:
            reason = progress["stop_reason"] and StopReason(progress["stop_reason"])
            if reason is StopReason.WALL_TIME or (ended and reason and reason.by_rule):
                progress["stop_reason"] = None
        return {**super().state_dict(), "flow": saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what `state_dict` gave, of the nodes that the networks have now."""
        torchs = dict(state_dict)
        saved = torchs.pop("flow")
        super().load_state_dict(torchs)
        networks = self.objective.networks
        nodes = Nodes(*(values.clone() for values in networks.nodes))
        whole = self.state_type.restored(saved, nodes, networks.processes)
        self._states, first = [], 0
        for evaluator in self.objective.evaluators:
            self._states.append(whole.select(range(first, first + len(evaluator.y))))
            first += len(evaluator.y)


def state_of(saved: Mapping[str, Any], r: int) -> dict[str, Any]:
    """What `Flow.state_dict` says of replica ``r``, as if it had been alone."""
    flow = saved["flow"]
    progress = dict(flow["progress"][r])
    reason = progress["stop_reason"] and StopReason(progress["stop_reason"])
    if reason and reason.by_rule:
        progress["stop_reason"] = None
    tensors = {name: values[r : r + 1].clone() for name, values in flow.items() if name != "progress"}
    return {**saved, "flow": {"progress": [progress], **tensors}}
