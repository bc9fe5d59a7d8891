"""Flows of R replicas side by side: each has its own time, steps and end; the host controls, the device computes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mfnet.activations import Activation
from mfnet.ensemble import drive
from mfnet.ensemble.drive import Nodes
from mfnet.ensemble.replicas import Batches, Replicas
from mfnet.flow import StoppingRules, StopReason
from mfnet.losses import MarginLoss
from mfnet.processes import ALONE


@dataclass(frozen=True)
class Problem:
    """What some replicas follow: the rescaled loss of each on its own examples (`mfnet.flow.Objective`).

    Attributes:
        activation: The activation.
        margin_loss: The loss ℓ.
        alpha: Scale α of each replica.
        batches: The examples.
        initial: The initial nodes.
    """

    activation: Activation
    margin_loss: MarginLoss
    alpha: Float[Tensor, " R"]
    batches: Batches
    initial: Nodes

    def select(self, there: Int[Tensor, " r"]) -> Problem:
        """The problem of some replicas."""
        batches, initial = Batches(*(v[there] for v in self.batches)), Nodes(*(v[there] for v in self.initial))
        return Problem(self.activation, self.margin_loss, self.alpha[there], batches, initial)

    def margins(self, f: Float[Tensor, "R N"]) -> Float[Tensor, "R N"]:
        """m = αyF from outputs."""
        return (f - self.batches.f0).mul_(self.batches.y).mul_(self.alpha.to(f.dtype)[:, None])

    def present_margins(self, nodes: Nodes) -> Float[Tensor, "R N"]:
        """Margins of the nodes."""
        return self.margins(drive.outputs(self.activation, nodes, self.batches.x))

    def rates(self, nodes: Nodes, force: Float[Tensor, "R N"]) -> tuple[Tensor, Tensor]:
        """Rates under the forces φ, and their number in each replica, on the host."""
        return drive.rates(self.activation, nodes, self.batches.x, force * self.batches.y, self.alpha)

    def rates_and_margins(self, nodes: Nodes, force: Float[Tensor, "R N"]) -> tuple[Tensor, Tensor, Tensor]:
        """Rates under the forces φ, margins, and the number of forces."""
        x, y, _ = self.batches
        rates, f, counts = drive.rates_and_outputs(self.activation, nodes, x, force * y, self.alpha)
        return rates, self.margins(f), counts

    def displacement(self, nodes: Nodes) -> Float[Tensor, " R"]:
        """|θ − θ₀| of each replica, as a root mean square over its nodes."""
        return root_mean_square(Nodes(nodes.a - self.initial.a, nodes.w - self.initial.w))


def root_mean_square(nodes: Nodes) -> Float[Tensor, " R"]:
    """Root mean square over the nodes of |(a, w)|, in float64."""
    squares = nodes.a.square().sum(dim=1) + nodes.w.square().sum(dim=(1, 2))
    return (squares.double() / nodes.a.shape[1]).sqrt()


class EnsembleFlow(torch.optim.Optimizer):
    """Integrates θ̇ = −M ∂L/∂θ of every replica, each until it has reached the observation or has ended.

    Args:
        replicas: The networks.
        margin_loss: The loss ℓ.
        alpha: Scale α of each replica.
        source: Gives the examples, fixed for the run.

    Attributes:
        times: Mean-field time of each replica.
        steps: Steps of each replica.
        work: Matrix products of each replica with its training inputs so far, in units of all N × M × d.
        stop_reasons: Why each replica does not go on, or None.
        rules: When to stop.
    """

    def __init__(
        self,
        replicas: Replicas,
        margin_loss: MarginLoss,
        alpha: Float[Tensor, " R"],
        source: Callable[[], Batches],
    ):
        super().__init__(replicas.parameters(), {})
        self.replicas, self.margin_loss, self.alpha, self.source = replicas, margin_loss, alpha, source
        self.rules = StoppingRules()
        R = len(replicas)
        self.times, self.work = torch.zeros(R, dtype=torch.float64), torch.zeros(R, dtype=torch.float64)
        self.steps = torch.zeros(R, dtype=torch.long)
        self.stop_reasons: list[StopReason | None] = [None] * R

    @abstractmethod
    def _advance_to(self, until: float, running: Int[Tensor, " r"]) -> None:
        """Brings the replicas ``running`` (numbers on the host) to ``until``, or sets their stop reasons."""

    @torch.no_grad()
    def step(self, closure: Any = None, *, until: float) -> None:  # type: ignore[override]  # a flow needs its end
        """Advances every replica that has not ended to mean-field time ``until``, or to its end.

        Args:
            closure: Ignored; the flow evaluates its own objective.
            until: The time to reach.
        """
        running = torch.tensor([r for r, reason in enumerate(self.stop_reasons) if reason is None], dtype=torch.long)
        if len(running) > 0:
            self._advance_to(until, running)

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
        """Why the ensemble does not go on: the reason that its replicas share, if they all have one."""
        if None in self.stop_reasons:
            return None
        reasons = set(self.stop_reasons)
        if StopReason.WALL_TIME in reasons:
            return StopReason.WALL_TIME
        return reasons.pop() if len(reasons) == 1 else StopReason.REPLICAS_ENDED

    def problem(self) -> Problem:
        """What all replicas follow."""
        initial = Nodes(self.replicas.a0, self.replicas.w0)
        alpha = self.alpha.to(self.replicas.a.device)
        return Problem(self.replicas.activation, self.margin_loss, alpha, self.source(), initial)

    @torch.no_grad()
    def margins(self) -> Float[Tensor, "R N"]:
        """m = αyF of the training examples at the present nodes."""
        return self.problem().present_margins(Nodes(self.replicas.a, self.replicas.w))

    @torch.no_grad()
    def displacements(self) -> Float[Tensor, " R"]:
        """|θ − θ₀| of each replica."""
        return self.problem().displacement(Nodes(self.replicas.a, self.replicas.w))

    def _ended(self, margins: Float[Tensor, "r N"]) -> list[StopReason | None]:
        """Why replicas with these margins must stop, if they must."""
        h, rules = self.margin_loss.h, self.rules
        counts = torch.stack([(~margins.isfinite()).sum(dim=1), (margins >= h).sum(dim=1)])
        late = StopReason.WALL_TIME if rules.out_of_time(ALONE) else None
        reasons: list[StopReason | None] = []
        for lost, above in counts.T.tolist():
            satisfied = above / margins.shape[1]
            if lost:
                reasons.append(StopReason.DIVERGED)
            elif satisfied >= rules.satisfied:
                reasons.append(StopReason.ALL_SATISFIED if satisfied == 1.0 else StopReason.ENOUGH_SATISFIED)
            else:
                reasons.append(late)
        return reasons

    def state_dict(self) -> dict[str, Any]:
        """Torch's state, and every replica's clock, counters and end; what only the wall time has ended goes on."""
        reasons = [None if reason is StopReason.WALL_TIME else reason for reason in self.stop_reasons]
        clock = {
            "times": self.times,
            "steps": self.steps,
            "work": self.work,
            "stop_reasons": [reason and str(reason) for reason in reasons],
        }
        return {**super().state_dict(), "clock": clock}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        state = dict(state_dict)
        clock = state.pop("clock")
        super().load_state_dict(state)
        self.times, self.steps, self.work = (clock[name].cpu() for name in ("times", "steps", "work"))
        self.stop_reasons = [reason and StopReason(reason) for reason in clock["stop_reasons"]]
