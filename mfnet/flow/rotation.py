"""Rotation steps: nodes move exactly under a drive that is frozen for Δt."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.flow.base import FixedStepFlow
from mfnet.flow.objective import Objective


class Rotation(FixedStepFlow):
    """Each node turns by a hyperbolic angle |B_i|Δt about its drive; first order, homogeneous activations only.

    Conserves a_i² − |w_i|² to rounding, as the flow does, and stays accurate in the rich regime, where
    Euler's norms fall behind. With e = B/|B| and p = w·e (theory.md, 1)::

        a ← a cosh(|B|Δt) + p sinh(|B|Δt)
        w ← w + e (p (cosh(|B|Δt) − 1) + a sinh(|B|Δt))

    Raises:
        ValueError: If the activation is not positively homogeneous.
    """

    def __init__(self, objective: Objective, dt: float):
        super().__init__(objective, dt)
        activation = objective.network.activation
        if not activation.homogeneous:
            raise ValueError(f"rotation steps need a homogeneous activation, and {activation.name} is not")

    @torch.no_grad()
    def _take_step(self, dt: float) -> None:
        b, margins = self.objective.drive(self.n_steps)
        self.n_evaluations += 1
        if not self._must_stop(margins):
            rotate(self.objective.network.a, self.objective.network.w, b, dt)


def rotate(a: Float[Tensor, " M"], w: Float[Tensor, "M d"], b: Float[Tensor, "M d"], dt: float) -> None:
    """Turns nodes (a, w) under the drive ``b`` for a time ``dt``, in place."""
    norm = b.norm(dim=1)
    direction = b / norm.clamp_min(torch.finfo(b.dtype).tiny)[:, None]
    angle = norm * dt
    sinh, cosh_minus_one = torch.sinh(angle), 2.0 * torch.sinh(angle / 2.0).square()
    p = (w * direction).sum(dim=1)
    w.addcmul_(direction, (p * cosh_minus_one + a * sinh)[:, None])
    a.add_(a * cosh_minus_one + p * sinh)
