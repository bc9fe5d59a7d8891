"""How nodes move while their rates are frozen: along hyperbolas, or straight lines.

The rates of R replicas are one tensor: the drive B (R, M, d) where the activation is positively homogeneous, else the
velocity (ȧ, ẇ) as (R, M, 1 + d).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.flow.rows import per_replica
from mfnet.network import Nodes
from mfnet.network.activations import Activation


def velocity(activation: Activation, nodes: Nodes, rates: Float[Tensor, "R M k"]) -> Nodes:
    """(ȧ, ẇ) of nodes with these rates; of a homogeneous activation (w·B, aB)."""
    if activation.homogeneous:
        return Nodes((nodes.w * rates).sum(dim=-1), nodes.a[..., None] * rates)
    return Nodes(rates[..., 0], rates[..., 1:])


def linear_motion(nodes: Nodes, speed: Nodes, dt: Sequence[float]) -> Nodes:
    """θ + Δt θ̇ of each replica."""
    return Nodes(*(values + rate * per_replica(dt, values) for values, rate in zip(nodes, speed, strict=True)))


def hyperbolic_rotation(nodes: Nodes, drive: Float[Tensor, "R M d"], dt: Sequence[float]) -> Nodes:
    """Nodes turned under a frozen drive for the times ``dt`` of each replica: exact, and a² − |w|² is conserved.

    With e = B/|B| and p = w·e (eqs. 6, 7 are linear in (a, w) while B is constant)::

        a ← a cosh(|B|Δt) + p sinh(|B|Δt)
        w ← w + e (p (cosh(|B|Δt) − 1) + a sinh(|B|Δt))
    """
    a, w = nodes
    norm = drive.norm(dim=-1)
    direction = drive / norm.clamp_min(torch.finfo(drive.dtype).tiny)[..., None]
    angle = norm * per_replica(dt, norm)
    sinh, cosh_minus_one = torch.sinh(angle), 2.0 * torch.sinh(angle / 2.0).square()
    p = (w * direction).sum(dim=-1)
    turned = torch.addcmul(w, direction, (p * cosh_minus_one + a * sinh)[..., None])
    return Nodes(a + (a * cosh_minus_one + p * sinh), turned)


def moved(activation: Activation, nodes: Nodes, rates: Float[Tensor, "R M k"], dt: Sequence[float]) -> Nodes:
    """Where nodes are after times ``dt`` under rates that do not change, by the more exact of the two."""
    if activation.homogeneous:
        return hyperbolic_rotation(nodes, rates, dt)
    return linear_motion(nodes, velocity(activation, nodes, rates), dt)
