"""How nodes move while their rates are frozen: along hyperbolas or straight lines."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.flow.objective import Objective

#: What is frozen during a step: the drive (B,) of a rotation, the velocity (ȧ, ẇ) of a straight line.
Rates = tuple[Tensor, ...]


class Motion(ABC):
    """Rates of all nodes, and the motion under rates that do not change."""

    @abstractmethod
    def present(
        self, objective: Objective, force: Float[Tensor, " N"] | None = None
    ) -> tuple[Rates, Float[Tensor, " N"]]:
        """Rates of the present nodes and their margins, under the forces of these margins or those given."""

    @abstractmethod
    def forced(self, objective: Objective, force: Float[Tensor, " N"]) -> Rates:
        """Rates of the present nodes under the forces φ given for every example."""

    @abstractmethod
    def velocity(
        self, a: Float[Tensor, " M"], w: Float[Tensor, "M d"], rates: Rates
    ) -> tuple[Float[Tensor, " M"], Float[Tensor, "M d"]]:
        """(ȧ, ẇ) of nodes with these rates."""

    @abstractmethod
    def move(self, a: Float[Tensor, " M"], w: Float[Tensor, "M d"], rates: Rates, dt: float) -> None:
        """Moves nodes for a time ``dt``, in place."""


class Turning(Motion):
    """Rotation in hyperbolic angle under a frozen drive: exact for it, and a_i² − |w_i|² is conserved.

    Raises:
        ValueError: If the activation is not positively homogeneous.
    """

    def __init__(self, objective: Objective):
        activation = objective.network.activation
        if not activation.homogeneous:
            raise ValueError(f"rotation steps need a homogeneous activation, and {activation.name} is not")

    def present(
        self, objective: Objective, force: Float[Tensor, " N"] | None = None
    ) -> tuple[Rates, Float[Tensor, " N"]]:
        b, margins = objective.drive(0, force)
        return (b,), margins

    def forced(self, objective: Objective, force: Float[Tensor, " N"]) -> Rates:
        return (objective.forced_drive(force),)

    def velocity(
        self, a: Float[Tensor, " M"], w: Float[Tensor, "M d"], rates: Rates
    ) -> tuple[Float[Tensor, " M"], Float[Tensor, "M d"]]:
        return (w * rates[0]).sum(dim=1), a[:, None] * rates[0]

    def move(self, a: Float[Tensor, " M"], w: Float[Tensor, "M d"], rates: Rates, dt: float) -> None:
        rotate(a, w, rates[0], dt)


class Straight(Motion):
    """θ ← θ + Δt θ̇, for any activation."""

    def present(
        self, objective: Objective, force: Float[Tensor, " N"] | None = None
    ) -> tuple[Rates, Float[Tensor, " N"]]:
        a, w, margins = objective.velocity(0, force)
        return (a, w), margins

    def forced(self, objective: Objective, force: Float[Tensor, " N"]) -> Rates:
        return objective.forced_velocity(force)

    def velocity(
        self, a: Float[Tensor, " M"], w: Float[Tensor, "M d"], rates: Rates
    ) -> tuple[Float[Tensor, " M"], Float[Tensor, "M d"]]:
        return rates[0], rates[1]

    def move(self, a: Float[Tensor, " M"], w: Float[Tensor, "M d"], rates: Rates, dt: float) -> None:
        a.add_(rates[0], alpha=dt)
        w.add_(rates[1], alpha=dt)


def rotate(
    a: Float[Tensor, "*R M"], w: Float[Tensor, "*R M d"], b: Float[Tensor, "*R M d"], dt: float | Tensor
) -> None:
    """Turns nodes (a, w) under the drive ``b`` for a time ``dt``, which may be each replica's own (R, 1), in place.

    With e = B/|B| and p = w·e (theory.md, 1)::

        a ← a cosh(|B|Δt) + p sinh(|B|Δt)
        w ← w + e (p (cosh(|B|Δt) − 1) + a sinh(|B|Δt))
    """
    norm = b.norm(dim=-1)
    direction = b / norm.clamp_min(torch.finfo(b.dtype).tiny)[..., None]
    angle = norm * dt
    sinh, cosh_minus_one = torch.sinh(angle), 2.0 * torch.sinh(angle / 2.0).square()
    p = (w * direction).sum(dim=-1)
    w.addcmul_(direction, (p * cosh_minus_one + a * sinh)[..., None])
    a.add_(a * cosh_minus_one + p * sinh)
