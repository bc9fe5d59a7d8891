"""The closed form of the equations of motion (6, 7), in one streaming pass over the examples.

``ȧ_i = (1/α)⟨φ y σ(z_i)⟩`` and ``ẇ_i = (a_i/(α√d))⟨φ y σ′(z_i) x⟩``. A positively homogeneous activation needs
only the drive ``B_i = (1/(α√d))⟨φ y σ′(z_i) x⟩``: then ``ȧ_i = w_i·B_i`` and ``ẇ_i = a_i B_i``.
No array of N × M elements exists at any time, and examples without a force cost nothing but their output.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.losses import MarginLoss
from mfnet.network import MeanFieldNetwork, row_chunks


class Batch(NamedTuple):
    """Examples as the flow sees them: inputs, labels ±1 and the initial output f₀ on them."""

    x: Float[Tensor, "N d"]
    y: Float[Tensor, " N"]
    f0: Float[Tensor, " N"]


class Drive(NamedTuple):
    """The drive of a homogeneous network, and the margins m = αyF it was computed from."""

    b: Float[Tensor, "M d"]
    margins: Float[Tensor, " N"]


class Velocity(NamedTuple):
    """(ȧ, ẇ), and the margins m = αyF they were computed from."""

    a: Float[Tensor, " M"]
    w: Float[Tensor, "M d"]
    margins: Float[Tensor, " N"]


@torch.no_grad()
def drive(network: MeanFieldNetwork, batch: Batch, loss: MarginLoss, alpha: float) -> Drive:
    """The drive of every node.

    Raises:
        ValueError: If the activation is not positively homogeneous.
    """
    activation = network.activation
    if not activation.homogeneous:
        raise ValueError(f"{activation.name} is not positively homogeneous: its nodes have a velocity, but no drive")
    margins = torch.empty_like(batch.y)
    b = torch.zeros_like(network.w)
    for z, force, x in _forced_rows(network, batch, loss, alpha, margins):
        b.addmm_(activation.derivative(z).T, x * force[:, None])
    return Drive(b.mul_(1.0 / (alpha * math.sqrt(network.d) * len(batch.y))), margins)


@torch.no_grad()
def velocity(network: MeanFieldNetwork, batch: Batch, loss: MarginLoss, alpha: float) -> Velocity:
    """The velocity of every node, for any activation."""
    activation = network.activation
    if activation.homogeneous:
        b, margins = drive(network, batch, loss, alpha)
        return Velocity((network.w * b).sum(dim=1), network.a[:, None] * b, margins)
    margins = torch.empty_like(batch.y)
    a, w = torch.zeros_like(network.a), torch.zeros_like(network.w)
    for z, force, x in _forced_rows(network, batch, loss, alpha, margins):
        a.addmv_(activation.value(z).T, force)
        w.addmm_(activation.derivative(z).T, x * force[:, None])
    scale = 1.0 / (alpha * len(batch.y))
    return Velocity(a.mul_(scale), w.mul_(network.a[:, None] * (scale / math.sqrt(network.d))), margins)


def _forced_rows(
    network: MeanFieldNetwork, batch: Batch, loss: MarginLoss, alpha: float, margins: Float[Tensor, " N"]
) -> Iterator[tuple[Float[Tensor, "r M"], Float[Tensor, " r"], Float[Tensor, "r d"]]]:
    """Preactivations z, signed force φy and inputs of the rows that have a force; fills ``margins`` on the way."""
    scaled_w = (network.w / math.sqrt(network.d)).T
    for rows in row_chunks(len(batch.y), network.M):
        x, y = batch.x[rows], batch.y[rows]
        z = x @ scaled_w
        output = network.activation.value(z) @ network.a / network.M
        margins[rows] = alpha * y * (output - batch.f0[rows])
        force = loss.force(margins[rows]) * y
        forced = force.nonzero().squeeze(1)
        if len(forced) == len(force):
            yield z, force, x
        elif len(forced) > 0:
            yield z[forced], force[forced], x[forced]
