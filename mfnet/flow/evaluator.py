"""What a flow asks of R networks and their training examples, however it is computed.

The equations of motion (6, 7) in closed form, ``ȧ_i = (1/α)⟨φ y σ(z_i)⟩`` and ``ẇ_i = (a_i/(α√d))⟨φ y σ′(z_i) x⟩``. A
positively homogeneous activation needs only the drive ``B_i = (1/(α√d))⟨φ y σ′(z_i) x⟩``: then ``ȧ_i = w_i·B_i`` and
``ẇ_i = a_i B_i``. What nodes have is called their rates (`mfnet.flow.motion`). Three evaluators compute them:

- `mfnet.flow.streamed.Streamed`: one network at a time, in tiles of nodes and examples, on all threads, in any
  precision, divided among processes, from inputs that may lie in a file;
- `mfnet.flow.fused.Fused`: the same on a GPU that has the units for it, in float32, by a kernel of its own;
- `mfnet.flow.batched.Batched`: all replicas by batched products, for networks so small that an operation costs more
  than its arithmetic.

Rates under given forces cost two matrix products of N × M × d, and less where examples have none.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mfnet.compute.graphs import Recorded
from mfnet.network import Networks, Nodes
from mfnet.network.losses import MarginLoss

E = TypeVar("E", bound="Evaluator")


class Batch(NamedTuple):
    """Examples as a flow sees them, on the network's device and in its type: inputs and labels ±1."""

    x: Float[Tensor, "N d"]
    y: Float[Tensor, " N"]


class Inputs(NamedTuple):
    """What forecasts need of the examples, in the type that they are computed in.

    Attributes:
        x: Inputs.
        y: Labels.
        lengths: |x|²/d.
    """

    x: Float[Tensor, "R N d"]
    y: Float[Tensor, "R N"]
    lengths: Float[Tensor, "R N"]


class Evaluator(ABC):
    """The rescaled loss (eq. 8) of R networks, each on its own examples and at its own scale α.

    Args:
        networks: Activation, precision, processes and number of nodes.
        loss: The loss ℓ.
        alpha: Scale α of each replica.
        initial: Initial nodes of each.
        x, y: This process's inputs and labels.
        f0: Initial outputs f₀ on them, where they are known already.

    Attributes:
        N: Number of examples of a replica, of all processes.
        recorded: Sub-steps of forecasts that were recorded for a GPU, by their losses (`mfnet.flow.forecast`).
    """

    #: What the command says of it.
    name: ClassVar[str]

    def __init__(
        self,
        networks: Networks,
        loss: MarginLoss,
        alpha: Float[Tensor, " R"],
        initial: Nodes,
        x: Float[Tensor, "R N d"],
        y: Float[Tensor, "R N"],
        f0: Float[Tensor, "R N"] | None = None,
    ):
        self.networks, self.activation, self.processes = networks, networks.activation, networks.processes
        self.loss, self.alpha, self.initial = loss.like(x), alpha.to(x), initial
        self.x, self.y = x, y
        self.f0 = self.outputs(initial) if f0 is None else f0  # in the same way as f, so that F is 0 at t = 0
        self.N = self.processes.count_rows(y.shape[1])
        self.recorded: dict[MarginLoss, Recorded] = {}

    def select(self: E, replicas: Sequence[int]) -> E:
        """The evaluator of some replicas."""
        there = list(replicas)
        initial = Nodes(*(values[there] for values in self.initial))
        x, y, f0 = (values[there] for values in (self.x, self.y, self.f0))
        some = type(self)(self.networks, self.loss.of(there), self.alpha[there], initial, x, y, f0)
        if "mean_length" in vars(self):
            own = x if self.inputs.x is self.x else self.inputs.x[there]
            some.inputs = Inputs(own, self.inputs.y[there], self.inputs.lengths[there])
            some.mean_length = self.mean_length[there]
        return some

    @abstractmethod
    def outputs(self, nodes: Nodes) -> Float[Tensor, "R N"]:
        """f(x)."""

    def margins(self, nodes: Nodes) -> Float[Tensor, "R N"]:
        """m = αyF."""
        return self._margins(self.outputs(nodes))

    @abstractmethod
    def rates(self, nodes: Nodes, force: Float[Tensor, "R N"], n_forced: Sequence[int]) -> Float[Tensor, "R M k"]:
        """Rates under given forces φ; examples without one cost nothing.

        Args:
            nodes: The nodes.
            force: The forces.
            n_forced: How many of each replica's are not 0, which the host has read with other numbers.
        """

    @abstractmethod
    def rates_and_margins(
        self, nodes: Nodes, force: Float[Tensor, "R N"], n_forced: Sequence[int]
    ) -> tuple[Float[Tensor, "R M k"], Float[Tensor, "R N"]]:
        """Rates under given forces, and the margins; examples without a force cost their output alone."""

    @abstractmethod
    def present_rates_and_margins(self, nodes: Nodes) -> tuple[Float[Tensor, "R M k"], Float[Tensor, "R N"]]:
        """Rates under the forces of the present margins, and these."""

    def second_moments(self, nodes: Nodes) -> tuple[Float[Tensor, "R d d"], Float[Tensor, " R"]]:
        """⟨wwᵀ⟩ and ⟨a²⟩ over the nodes."""
        weights = self.processes.sum_nodes(torch.bmm(nodes.w.mT, nodes.w)).div_(self.networks.M)
        return weights, self.processes.sum_nodes(nodes.a.square().sum(dim=1)).div_(self.networks.M)

    def mean_squares(self, vectors: Iterable[Nodes]) -> Float[Tensor, "k R"]:
        """⟨|(a, w)|²⟩ over the nodes, of several vectors, which are asked for one after the other; in float64."""
        norm = partial(torch.linalg.vector_norm, dtype=torch.float64)
        norms = torch.stack([norm(part.flatten(1), dim=1) for vector in vectors for part in vector])
        squares = norms.square_().unflatten(0, (-1, 2)).sum(dim=1)
        return self.processes.sum_nodes(squares).div_(self.networks.M)

    def displacement(self, nodes: Nodes) -> Nodes:
        """θ − θ₀."""
        return Nodes(nodes.a - self.initial.a, nodes.w - self.initial.w)

    def seen(self, margins: Float[Tensor, "R N"]) -> tuple[Tensor, Tensor]:
        """Which margins are not finite, and which at least h: the sums of both say how a run goes on."""
        return ~margins.isfinite(), margins >= self.loss.h

    def outcomes(self, margins: Float[Tensor, "R N"]) -> list[dict[str, Any]]:
        """How many margins of each replica are not finite, ``lost``, and the fraction that is ``satisfied``."""
        lost, above = self.sums(*self.seen(margins)).tolist()
        return [{"lost": x, "satisfied": y / self.N} for x, y in zip(lost, above, strict=True)]

    def sums(self, *values: Float[Tensor, "R N"] | Bool[Tensor, "R N"]) -> Float[Tensor, "k R"]:
        """Sums over the examples of all processes, in float64."""
        stacked = torch.stack([each.to(self.x.dtype) for each in values])
        return self.processes.sum_rows(stacked.sum(dim=2, dtype=torch.float64))

    @cached_property
    def inputs(self) -> Inputs:
        """The inputs for forecasts: in float32 where forces are 0 or 1, whose means are multiples of 1/n_sub in both.

        The forces of any other loss differ in float32 from those in float64, and all would seem to have changed.
        """
        x, y = (self.x.float(), self.y.float()) if self.loss.switches else (self.x, self.y)
        return Inputs(x, y, torch.linalg.vector_norm(x, dim=2).square_().div_(x.shape[2]))

    @cached_property
    def mean_length(self) -> Float[Tensor, " R"]:
        """⟨|x|²⟩/d over the examples of all processes."""
        return self.processes.sum_rows(self.inputs.lengths.sum(dim=1)).div_(self.N)

    def threads(self) -> AbstractContextManager[None]:
        """Inside, as many threads as the size of the problem is worth."""
        return nullcontext()

    def _margins(self, f: Float[Tensor, "R N"]) -> Float[Tensor, "R N"]:
        """m from the outputs, in their place."""
        return f.sub_(self.f0).mul_(self.y).mul_(self.alpha[:, None])

    def _rates(self, nodes: Nodes, a: Float[Tensor, "R M"], w: Float[Tensor, "R M d"]) -> Float[Tensor, "R M k"]:
        """Rates from this process's Σ φyσ(z), which homogeneous activations need not, and Σ φyσ′(z)x."""
        scale = self.alpha[:, None] * self.N
        b = self.processes.sum_rows(w).div_((scale * math.sqrt(self.networks.d))[..., None])
        if self.activation.homogeneous:
            return b
        a = self.processes.sum_rows(a).div_(scale)
        return torch.cat([a[..., None], b.mul_(nodes.a[..., None])], dim=-1)
