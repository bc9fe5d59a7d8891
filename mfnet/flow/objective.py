"""What a flow follows: the rescaled loss of a network on examples."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from mfnet.drive import Batch, Drive, Velocity, drive, velocity
from mfnet.losses import MarginLoss
from mfnet.network import MeanFieldNetwork

#: The examples at each step, counted from 0.
Source = Callable[[int], Batch]


class Objective:
    """L(θ) = ⟨ℓ(αyF)⟩/α² (eq. 8) on the examples that ``source`` gives for each step.

    Args:
        fixed: Whether every step sees the same, whole training set; only then can it be all satisfied.
    """

    def __init__(self, network: MeanFieldNetwork, loss: MarginLoss, alpha: float, source: Source, *, fixed: bool):
        self.network, self.margin_loss, self.alpha = network, loss, alpha
        self.source, self.fixed = source, fixed

    def drive(self, step: int) -> Drive:
        """The drive of every node (homogeneous activations)."""
        return drive(self.network, self.source(step), self.margin_loss, self.alpha)

    def velocity(self, step: int) -> Velocity:
        """The velocity of every node."""
        return velocity(self.network, self.source(step), self.margin_loss, self.alpha)

    def loss(self, batch: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, " N"]]:
        """L on ``batch``, differentiable, and the margins it was computed from."""
        margins = self.alpha * batch.y * (self.network(batch.x) - batch.f0)
        return self.margin_loss(margins).mean() / self.alpha**2, margins.detach()
