"""What replicas follow, and where they are: tensors whose first dimension counts the replicas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from mfnet.activations import Activation
from mfnet.ensemble import drive
from mfnet.ensemble.drive import Nodes
from mfnet.ensemble.replicas import Batches
from mfnet.losses import MarginLoss

#: Where replicas are, with what their flow remembers.
S = TypeVar("S", bound="State")


class Inputs(NamedTuple):
    """What the surrogate kernels need of the examples, in the type that forecasts are computed in.

    Attributes:
        xy: Inputs times labels.
        y: Labels.
        lengths: |x|²/d.
    """

    xy: Float[Tensor, "R N d"]
    y: Float[Tensor, "R N"]
    lengths: Float[Tensor, "R N"]


def forecast_inputs(batches: Batches, loss: MarginLoss) -> Inputs:
    """In float32 where forces jump: they are exact multiples of 1/n_sub, whatever the type of the margins."""
    x, y, _ = batches
    if loss.jumps:
        x, y = x.float(), y.float()
    return Inputs(x * y[..., None], y, x.square().sum(dim=2).div_(x.shape[2]))


@dataclass(frozen=True)
class Problem:
    """The rescaled loss of each replica on its own examples (`mfnet.flow.Objective`).

    Attributes:
        activation: The activation.
        loss: The loss ℓ.
        alpha: Scale α of each replica.
        batches: The examples.
        inputs: The same for forecasts.
        initial: The initial nodes.
    """

    activation: Activation
    loss: MarginLoss
    alpha: Float[Tensor, " R"]
    batches: Batches
    inputs: Inputs
    initial: Nodes

    def select(self, there: Tensor) -> Problem:
        """The problem of some replicas, by their numbers or a mask."""
        batches, inputs, initial = (
            type(group)(*(values[there] for values in group)) for group in (self.batches, self.inputs, self.initial)
        )
        return Problem(self.activation, self.loss, self.alpha[there], batches, inputs, initial)  # type: ignore[arg-type]  # in their order

    def margins(self, nodes: Nodes) -> Float[Tensor, "R N"]:
        """m = αyF of the nodes."""
        return self._margins(drive.outputs(self.activation, nodes, self.batches.x))

    def _margins(self, f: Float[Tensor, "R N"]) -> Float[Tensor, "R N"]:
        return (f - self.batches.f0).mul_(self.batches.y).mul_(self.alpha.to(f.dtype)[:, None])

    def rates(self, nodes: Nodes, force: Float[Tensor, "R N"]) -> tuple[Float[Tensor, "R M k"], Int[Tensor, " R"]]:
        """Rates under the forces φ, and their number in each replica, on the host."""
        return drive.rates(self.activation, nodes, self.batches.x, force * self.batches.y, self.alpha)

    def rates_and_margins(
        self, nodes: Nodes, force: Float[Tensor, "R N"]
    ) -> tuple[Float[Tensor, "R M k"], Float[Tensor, "R N"], Int[Tensor, " R"]]:
        """Rates under the forces φ, margins, and the number of forces."""
        x, y, _ = self.batches
        rates, f, counts = drive.rates_and_outputs(self.activation, nodes, x, force * y, self.alpha)
        return rates, self._margins(f), counts

    def displacement(self, nodes: Nodes) -> Float[Tensor, " R"]:
        """|θ − θ₀| of each replica, as a root mean square over its nodes."""
        return root_mean_square(Nodes(nodes.a - self.initial.a, nodes.w - self.initial.w))


def root_mean_square(nodes: Nodes) -> Float[Tensor, " R"]:
    """Root mean square over the nodes of |(a, w)|, in float64."""
    squares = nodes.a.square().sum(dim=1) + nodes.w.square().sum(dim=(1, 2))
    return (squares.double() / nodes.a.shape[1]).sqrt()


@dataclass(frozen=True)
class State:
    """Where replicas are; flows that remember more add it.

    Attributes:
        a, w: Nodes.
        margins: Their margins.
    """

    a: Float[Tensor, "R M"]
    w: Float[Tensor, "R M d"]
    margins: Float[Tensor, "R N"]

    @property
    def nodes(self) -> Nodes:
        """The nodes."""
        return Nodes(self.a, self.w)

    def select(self: S, there: Tensor) -> S:
        """The state of some replicas, by their numbers or a mask."""
        return type(self)(**{name: values[there] for name, values in vars(self).items()})

    def put(self: S, there: Tensor, some: S) -> None:
        """Writes the state of some replicas."""
        for name, values in vars(some).items():
            getattr(self, name)[there] = values

    def where(self: S, mask: Bool[Tensor, " R"], other: S) -> S:
        """This state where the mask says so, the other elsewhere."""
        return type(self)(
            **{
                name: values.where(mask.view(-1, *[1] * (values.ndim - 1)), getattr(other, name))
                for name, values in vars(self).items()
            }
        )
