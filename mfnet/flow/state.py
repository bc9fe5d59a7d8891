"""Where replicas are on their way: tensors whose first dimension counts the replicas, and numbers on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.compute.processes import Processes
from mfnet.network import Nodes
from mfnet.record.stop_reason import StopReason

S = TypeVar("S", bound="State")


@dataclass(frozen=True)
class Progress:
    """How far one replica is, how long its next step may be, and what it has cost.

    Attributes:
        t: Mean-field time.
        dt: Length that the next step may have; infinite at first, where nothing is known.
        last_dt: Length of the last step; 0 before the first.
        n_steps: Steps taken.
        n_rejected: Steps tried and not taken.
        n_sub: Sub-steps of forecasts.
        work: Matrix products with the training inputs, in units of all N × M × d.
        lost: Margins that are not finite.
        satisfied: Fraction of the margins that are at least h.
        since: Time since the last observation.
        impulse: Mean of the averaged forces over the examples, times ``since``.
        slid: Share of examples whose force changed during a step, likewise.
        stop_reason: Why the replica does not go on, or None.
    """

    t: float = 0.0
    dt: float = float("inf")
    last_dt: float = 0.0
    n_steps: int = 0
    n_rejected: int = 0
    n_sub: int = 0
    work: float = 0.0
    lost: float = 0.0
    satisfied: float = 0.0
    since: float = 0.0
    impulse: float = 0.0
    slid: float = 0.0
    stop_reason: StopReason | None = None


#: Marks of tensors (R, M, …) and (R, N, …), whose second dimension may be divided among processes.
OF_NODES, OF_ROWS = {"among": "nodes"}, {"among": "rows"}


@dataclass(frozen=True)
class State:
    """All that a step of R replicas starts from; methods that remember more add it.

    Attributes:
        progress: Of each replica.
        a, w: Nodes.
        rates: Rates that the next step starts with (`mfnet.flow.motion`).
        margins: Margins of the nodes.
    """

    progress: tuple[Progress, ...]
    a: Float[Tensor, "R M"] = field(metadata=OF_NODES)
    w: Float[Tensor, "R M d"] = field(metadata=OF_NODES)
    rates: Float[Tensor, "R M k"] = field(metadata=OF_NODES)
    margins: Float[Tensor, "R N"] = field(metadata=OF_ROWS)

    @property
    def nodes(self) -> Nodes:
        """The nodes."""
        return Nodes(self.a, self.w)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors, by name."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.metadata}

    def select(self: S, replicas: Sequence[int]) -> S:
        """The state of some replicas."""
        tensors: dict[str, Any] = {name: values[list(replicas)] for name, values in self.tensors.items()}
        return replace(self, progress=tuple(self.progress[r] for r in replicas), **tensors)

    def put(self: S, replicas: Sequence[int], some: S) -> S:
        """This state with that of some replicas in its place."""
        if len(replicas) == len(self.progress):
            return some
        progress = dict(zip(replicas, some.progress, strict=True))
        there = torch.tensor(replicas, device=self.a.device)
        tensors = {name: values.index_copy(0, there, getattr(some, name)) for name, values in self.tensors.items()}
        return replace(self, progress=tuple(progress.get(r, p) for r, p in enumerate(self.progress)), **tensors)

    def where(self: S, mask: Sequence[bool], other: S) -> S:
        """The tensors of this state where the mask says so, of the other elsewhere."""
        if all(mask):
            return self
        if not any(mask):
            return other
        there = torch.tensor(mask, device=self.a.device)
        tensors: dict[str, Any] = {
            name: values.where(there.view(-1, *[1] * (values.ndim - 1)), getattr(other, name))
            for name, values in self.tensors.items()
        }
        return replace(self, **tensors)

    def gathered(self, processes: Processes) -> dict[str, Any]:
        """Everything but the nodes, which the network holds, in plain containers, of all processes."""
        gather = {"nodes": processes.gather_nodes, "rows": processes.gather_rows}
        tensors = {
            each.name: gather[each.metadata["among"]](getattr(self, each.name), dim=1)
            for each in fields(self)
            if each.metadata and each.name not in ("a", "w")
        }
        progress = [{**asdict(p), "stop_reason": p.stop_reason and str(p.stop_reason)} for p in self.progress]
        return {"progress": progress, **tensors}

    @classmethod
    def restored(cls: type[S], saved: dict[str, Any], nodes: Nodes, processes: Processes) -> S:
        """The state of nodes from what `gathered` gave."""
        take = {"nodes": processes.take_nodes, "rows": processes.take_rows}
        tensors = {
            each.name: take[each.metadata["among"]](saved[each.name], dim=1).to(nodes.a.device)
            for each in fields(cls)
            if each.name in saved and each.metadata
        }
        progress = tuple(
            Progress(**{**p, "stop_reason": p["stop_reason"] and StopReason(p["stop_reason"])})
            for p in saved["progress"]
        )
        return cls(progress, *nodes, **tensors)


def stacked(states: Sequence[S]) -> S:
    """Several states as one."""
    if len(states) == 1:
        return states[0]
    tensors = {name: torch.cat([getattr(state, name) for state in states]) for name in states[0].tensors}
    return replace(states[0], progress=sum((state.progress for state in states), ()), **tensors)
