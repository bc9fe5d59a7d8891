"""The closed form of the equations of motion (`mfnet.drive`), for all replicas by batched matrix products.

Rates are one tensor: the drive B (R, M, d) of a homogeneous activation, else the velocity (ȧ, ẇ) as (R, M, 1 + d).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.activations import Activation
from mfnet.ensemble.rows import PaddedRows
from mfnet.flow.motion import rotate

#: Elements of the largest temporary of a pass over the examples, replicas × nodes × rows of a tile, by kind of device.
#: On a CPU it stays in the cache with what a pass reads and writes (measured: four times more costs 15 %).
TILE_ELEMENTS = {"cpu": 2**18, "cuda": 2**26}


class Nodes(NamedTuple):
    """Parameters of every replica's nodes."""

    a: Float[Tensor, "R M"]
    w: Float[Tensor, "R M d"]


def outputs(activation: Activation, nodes: Nodes, x: Float[Tensor, "R N d"]) -> Float[Tensor, "R N"]:
    """f(x) of every replica on its own examples."""
    f = x.new_empty(x.shape[:2])
    for replicas, rows in _tiles(nodes, x):
        s = _activations(activation, _preactivations(nodes, x, replicas, rows))
        f[replicas, rows] = _averages(nodes, s, replicas)
    return f


def rates(
    activation: Activation,
    nodes: Nodes,
    x: Float[Tensor, "R N d"],
    force: Float[Tensor, "R N"],
    scale: Float[Tensor, " R"],
) -> tuple[Float[Tensor, "R M k"], Tensor]:
    """Rates under signed forces φy, and the number of forces of each replica, on the host.

    Only examples that have a force are looked at.

    Args:
        activation: The activation.
        nodes: Present nodes.
        x: Inputs.
        force: Signed forces.
        scale: α of each replica.
    """
    forced = PaddedRows(force != 0.0)
    if forced.n < force.shape[1]:
        sums = _sums(activation, nodes, forced.take(x), forced.take(force))
    else:
        sums = _sums(activation, nodes, x, force)
    return _scaled(activation, nodes, sums, scale, force.shape[1]), forced.counts


def rates_and_outputs(
    activation: Activation,
    nodes: Nodes,
    x: Float[Tensor, "R N d"],
    force: Float[Tensor, "R N"],
    scale: Float[Tensor, " R"],
) -> tuple[Float[Tensor, "R M k"], Float[Tensor, "R N"], Tensor]:
    """Rates under signed forces and outputs f(x), and the number of forces; in one pass where most examples have one.

    The arguments of `rates`.
    """
    counts = (force != 0.0).sum(dim=1).cpu()
    if 2 * int(counts.max()) < force.shape[1]:
        return rates(activation, nodes, x, force, scale)[0], outputs(activation, nodes, x), counts
    f = torch.empty_like(force)
    sums = _sums(activation, nodes, x, force, f)
    return _scaled(activation, nodes, sums, scale, force.shape[1]), f, counts


def velocity(activation: Activation, nodes: Nodes, rates_: Float[Tensor, "R M k"]) -> Nodes:
    """(ȧ, ẇ) of nodes with these rates."""
    if activation.homogeneous:
        return Nodes((nodes.w * rates_).sum(dim=-1), nodes.a[..., None] * rates_)
    return Nodes(rates_[..., 0], rates_[..., 1:])


def moved(activation: Activation, nodes: Nodes, rates_: Float[Tensor, "R M k"], dt: Float[Tensor, " R"]) -> Nodes:
    """Where nodes are after times ``dt`` under rates that do not change: hyperbolas or straight lines."""
    a, w = nodes.a.clone(), nodes.w.clone()
    if activation.homogeneous:
        rotate(a, w, rates_, dt.to(a.dtype)[:, None])
        return Nodes(a, w)
    step = rates_ * dt.to(a.dtype)[:, None, None]
    return Nodes(a.add_(step[..., 0]), w.add_(step[..., 1:]))


def _sums(
    activation: Activation, nodes: Nodes, x: Tensor, force: Tensor, f: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Σ φyσ(z) (zero for homogeneous activations, which need it not) and Σ φyσ′(z)x; fills ``f`` with the outputs."""
    a, w = torch.zeros_like(nodes.a), torch.zeros_like(nodes.w)
    for replicas, rows in _tiles(nodes, x):
        z = _preactivations(nodes, x, replicas, rows)
        s, pushed = _activations(activation, z), force[replicas, rows, None]
        if f is not None:
            f[replicas, rows] = _averages(nodes, s, replicas)
        if activation.derivative_:
            gate = activation.derivative_(s)
        else:
            a[replicas] += torch.bmm(s, pushed).squeeze(2)
            gate = activation.derivative(z)
        w[replicas].baddbmm_(gate, x[replicas, rows] * pushed)
    return a, w


def _scaled(activation: Activation, nodes: Nodes, sums: tuple[Tensor, Tensor], scale: Tensor, N: int) -> Tensor:
    """Rates from sums over the examples."""
    scale = (scale * N).to(nodes.a.dtype)[:, None]
    a, b = sums[0] / scale, sums[1] / (scale[..., None] * math.sqrt(nodes.w.shape[-1]))
    return b if activation.homogeneous else torch.cat([a[..., None], nodes.a[..., None] * b], dim=-1)


def _tiles(nodes: Nodes, x: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of replicas and rows whose product with all nodes stays below `TILE_ELEMENTS`."""
    (R, M), N = nodes.a.shape, x.shape[1]
    n_rows = max(1, TILE_ELEMENTS[x.device.type] // M)
    n_replicas = max(1, n_rows // max(N, 1))
    for replica in range(0, R, n_replicas):
        for row in range(0, N, n_rows):
            yield slice(replica, replica + n_replicas), slice(row, row + n_rows)


def _preactivations(nodes: Nodes, x: Tensor, replicas: slice, rows: slice) -> Tensor:
    w = nodes.w[replicas]
    return torch.bmm(w / math.sqrt(w.shape[-1]), x[replicas, rows].mT)


def _activations(activation: Activation, z: Tensor) -> Tensor:
    return activation.value_(z) if activation.value_ else activation.value(z)


def _averages(nodes: Nodes, s: Tensor, replicas: slice) -> Tensor:
    a = nodes.a[replicas]
    return torch.bmm(a[:, None] / a.shape[1], s).squeeze(1)
