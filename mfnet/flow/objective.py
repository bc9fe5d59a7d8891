"""What a flow follows: the rescaled loss of a network on examples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.drive import Batch, Drive, Velocity, drive, forced_drive, forced_velocity, margins_of, velocity
from mfnet.losses import MarginLoss
from mfnet.network import MeanFieldNetwork

#: The examples at each step, counted from 0.
Source = Callable[[int], Batch]


class Objective:
    """L(θ) = ⟨ℓ(αyF)⟩/α² (eq. 8) on the examples that ``source`` gives for each step.

    Args:
        network: The network.
        margin_loss: The loss ℓ.
        alpha: Scale α.
        source: The examples at each step.
        fixed: Whether every step sees the same, whole training set; only then can it be all satisfied.

    Attributes:
        work: Matrix products with the training inputs so far, in units of all N × M × d.
    """

    def __init__(
        self, network: MeanFieldNetwork, margin_loss: MarginLoss, alpha: float, source: Source, *, fixed: bool
    ):
        self.network, self.margin_loss, self.alpha = network, margin_loss, alpha
        self.source, self.fixed = source, fixed
        self.work = 0.0

    def drive(self, step: int, force: Float[Tensor, " N"] | None = None) -> Drive:
        """The drive of every node (homogeneous activations) under the forces of the present margins, or those given."""
        self.work += 1.0 + self._forced_share(force)
        return drive(self.network, self.source(step), self.margin_loss, self.alpha, force)

    def velocity(self, step: int, force: Float[Tensor, " N"] | None = None) -> Velocity:
        """The velocity of every node under the forces of the present margins, or those given."""
        self.work += 1.0 + self._forced_share(force)
        return velocity(self.network, self.source(step), self.margin_loss, self.alpha, force)

    @staticmethod
    def _forced_share(force: Float[Tensor, " N"] | None) -> float:
        return 1.0 if force is None else float(force.count_nonzero()) / max(len(force), 1)

    def margins(self) -> Float[Tensor, " N"]:
        """The present margins m = αyF of a fixed training set."""
        self.work += 1.0
        return margins_of(self.network, self.source(0), self.alpha)

    def forced_drive(self, force: Float[Tensor, " N"]) -> Float[Tensor, "M d"]:
        """The drive of every node under the forces φ given for each example of a fixed training set."""
        self.work += 2.0 * self._forced_share(force)
        batch = self.source(0)
        return forced_drive(self.network, batch.x, force * batch.y, self.alpha)

    def forced_velocity(self, force: Float[Tensor, " N"]) -> tuple[Float[Tensor, " M"], Float[Tensor, "M d"]]:
        """The velocity of every node under the forces φ given for each example of a fixed training set."""
        self.work += 2.0 * self._forced_share(force)
        batch = self.source(0)
        return forced_velocity(self.network, batch.x, force * batch.y, self.alpha)

    def loss(self, batch: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, " N"]]:
        """L on ``batch``, differentiable, and the margins it was computed from."""
        margins = self.alpha * batch.y * (self.network(batch.x) - batch.f0)
        return self.margin_loss(margins).mean() / self.alpha**2, margins.detach()

    def satisfied(self, margins: Float[Tensor, " N"]) -> tuple[bool, float]:
        """Whether every margin is finite, and the fraction of examples with a margin of at least h."""
        processes = self.network.processes
        counts = torch.stack([(~margins.isfinite()).sum(), (margins >= self.margin_loss.h).sum()])
        lost, above = processes.sum_rows(counts).tolist()
        return lost == 0, above / processes.count_rows(len(margins))
