"""The closed form of the equations of motion (6, 7), streamed over tiles of nodes and examples.

``ȧ_i = (1/α)⟨φ y σ(z_i)⟩`` and ``ẇ_i = (a_i/(α√d))⟨φ y σ′(z_i) x⟩``. A positively homogeneous activation needs
only the drive ``B_i = (1/(α√d))⟨φ y σ′(z_i) x⟩``: then ``ȧ_i = w_i·B_i`` and ``ẇ_i = a_i B_i``.
No array of N × M elements exists at any time, and examples without a force cost nothing but their output. On a CPU
each thread takes its own share of the examples (`mfnet.threads`).

`drive` and `velocity` take the forces from the present margins, or are given them, as a flow needs that averages forces
over a step; `forced_drive` and `forced_velocity` see nothing but the examples that have one. Each costs two matrix
products of N × M × d; forces that are given are known before the margins, so that both come from one pass however many
nodes there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.losses import MarginLoss
from mfnet.network import TILE_NODES, MeanFieldNetwork, NodeTile
from mfnet.products import product
from mfnet.threads import side_by_side


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
def margins_of(network: MeanFieldNetwork, batch: Batch, alpha: float) -> Float[Tensor, " N"]:
    """m = αyF of every example."""
    return network.output(batch.x).sub_(batch.f0).mul_(batch.y).mul_(alpha)


@torch.no_grad()
def drive(
    network: MeanFieldNetwork, batch: Batch, loss: MarginLoss, alpha: float, force: Float[Tensor, " N"] | None = None
) -> Drive:
    """The drive of every node of a homogeneous network.

    Args:
        network: The network.
        batch: The examples.
        loss: The loss.
        alpha: Scale α.
        force: Force φ of every example; None takes those of the present margins.

    Raises:
        ValueError: If the activation is not positively homogeneous.
    """
    _require_homogeneous(network)
    _, b, margins = _sums_and_margins(network, batch, loss, alpha, force)
    return Drive(b, margins)


@torch.no_grad()
def velocity(
    network: MeanFieldNetwork, batch: Batch, loss: MarginLoss, alpha: float, force: Float[Tensor, " N"] | None = None
) -> Velocity:
    """The velocity of every node, for any activation; the arguments of `drive`."""
    a, w, margins = _sums_and_margins(network, batch, loss, alpha, force)
    return Velocity(*_velocity(network, a, w), margins)


@torch.no_grad()
def forced_drive(
    network: MeanFieldNetwork, x: Float[Tensor, "N d"], force: Float[Tensor, " N"], alpha: float
) -> Float[Tensor, "M d"]:
    """The drive of every node under given forces; examples without one cost nothing.

    Args:
        network: The network, homogeneous.
        x: Inputs of all examples.
        force: Their signed forces φy.
        alpha: Scale α.

    Raises:
        ValueError: If the activation is not positively homogeneous.
    """
    _require_homogeneous(network)
    return _under_forces_alone(network, x, force, alpha)[1]


@torch.no_grad()
def forced_velocity(
    network: MeanFieldNetwork, x: Float[Tensor, "N d"], force: Float[Tensor, " N"], alpha: float
) -> tuple[Float[Tensor, " M"], Float[Tensor, "M d"]]:
    """(ȧ, ẇ) under given forces, for any activation; the arguments of `forced_drive`."""
    return _velocity(network, *_under_forces_alone(network, x, force, alpha))


def _require_homogeneous(network: MeanFieldNetwork) -> None:
    if not network.activation.homogeneous:
        raise ValueError(
            f"{network.activation.name} is not positively homogeneous: its nodes have a velocity, but no drive"
        )


def _sums_and_margins(
    network: MeanFieldNetwork, batch: Batch, loss: MarginLoss, alpha: float, force: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The scaled sums under the given or the present forces, and the margins."""
    if force is None:
        return _under_present_forces(network, batch, loss, alpha)
    return _under_given_forces(network, batch, force * batch.y, alpha)


def _under_given_forces(
    network: MeanFieldNetwork, batch: Batch, force: Tensor, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """In one pass; examples without a force give their output alone."""
    N, output = len(force), torch.zeros_like(force)
    forced = force.nonzero().squeeze(1)
    a, w = _over_tiles(network, len(forced), partial(_visit_pushed, network, batch, force, output, _group(forced, N)))
    if len(forced) < N:
        idle = (force == 0.0).nonzero().squeeze(1)
        _over_tiles(network, len(idle), partial(_visit_idle, network, batch, output, idle))
    margins = network.processes.sum_nodes(output).div_(network.M).sub_(batch.f0).mul_(batch.y).mul_(alpha)
    return *_scaled(network, a, w, alpha, N), margins


def _visit_pushed(
    network: MeanFieldNetwork,
    batch: Batch,
    force: Tensor,
    output: Tensor,
    group: Tensor | None,
    nodes: NodeTile,
    tile: slice,
    sums: _Sums,
) -> None:
    """Adds the output and the effect of a tile of some examples, or of all."""
    rows = tile if group is None else group[tile]
    x = batch.x[rows]
    z = network.preactivations(nodes, x)
    s = network.activations(z)
    output[rows] += nodes.a @ s
    _add(network, nodes, x, force[rows], sums, z, s)


def _visit_idle(
    network: MeanFieldNetwork, batch: Batch, output: Tensor, group: Tensor, nodes: NodeTile, tile: slice, sums: _Sums
) -> None:
    """Adds the output of a tile of some examples."""
    rows = group[tile]
    output[rows] += nodes.a @ network.activations(network.preactivations(nodes, batch.x[rows]))


def _under_present_forces(
    network: MeanFieldNetwork, batch: Batch, loss: MarginLoss, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """In one pass where a tile holds all nodes, so that z is computed once."""
    N = len(batch.y)
    if len(network.a) > TILE_NODES[network.a.device.type] or network.processes.divide == "nodes":
        margins = margins_of(network, batch, alpha)
        return *_under_forces_alone(network, batch.x, loss.force(margins) * batch.y, alpha), margins
    margins = torch.empty_like(batch.y)
    a, w = _over_tiles(network, N, partial(_visit_present, network, batch, loss, alpha, margins))
    return *_scaled(network, a, w, alpha, N), margins


def _visit_present(
    network: MeanFieldNetwork,
    batch: Batch,
    loss: MarginLoss,
    alpha: float,
    margins: Tensor,
    nodes: NodeTile,
    rows: slice,
    sums: _Sums,
) -> None:
    """Sets the margins of a tile, and adds the effect of the forces that follow from them."""
    x, y = batch.x[rows], batch.y[rows]
    z = network.preactivations(nodes, x)
    s = network.activations(z)
    margins[rows] = alpha * y * (nodes.a @ s / network.M - batch.f0[rows])
    force = loss.force(margins[rows]) * y
    if force.device.type == "cpu" and 2 * len(forced := force.nonzero().squeeze(1)) < len(force):
        _add(network, nodes, x[forced], force[forced], sums)  # cheaper than the rest of the tile
    else:
        _add(network, nodes, x, force, sums, z, s)


def _under_forces_alone(network: MeanFieldNetwork, x: Tensor, force: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """The scaled sums, from the examples that have a force."""
    N, forced = len(force), force.nonzero().squeeze(1)
    sums = _over_tiles(network, len(forced), partial(_visit_forced, network, x, force, _group(forced, N)))
    return _scaled(network, *sums, alpha, N)


def _visit_forced(
    network: MeanFieldNetwork,
    x: Tensor,
    force: Tensor,
    group: Tensor | None,
    nodes: NodeTile,
    tile: slice,
    sums: _Sums,
) -> None:
    """Adds the effect of a tile of some examples, or of all."""
    rows = tile if group is None else group[tile]
    _add(network, nodes, x[rows], force[rows], sums)


def _group(rows: Tensor, N: int) -> Tensor | None:
    """Some of N rows; None for all, which a slice takes without a copy of their inputs."""
    return None if len(rows) == N else rows


class _Sums(NamedTuple):
    """Σ φyσ(z_i) (zero for homogeneous activations, which need it not) and Σ φyσ′(z_i)x over some rows."""

    a: Float[Tensor, " m"]
    w: Float[Tensor, "m d"]


#: Adds what a tile of rows does to some nodes.
Visitor = Callable[[NodeTile, slice, _Sums], None]


def _over_tiles(network: MeanFieldNetwork, n_rows: int, visit: Visitor) -> _Sums:
    """The sums over all tiles of nodes and rows."""
    total = _Sums(torch.zeros_like(network.a), torch.zeros_like(network.w))
    for nodes in network.node_tiles():
        work = partial(_over_rows, network, visit, nodes)
        for sums in side_by_side(work, n_rows, network.tile_rows, network.a.device):
            total.a[nodes.which] += sums.a
            total.w[nodes.which] += sums.w
    return total


def _over_rows(network: MeanFieldNetwork, visit: Visitor, nodes: NodeTile, share: slice) -> _Sums:
    """The sums over the tiles of some nodes and a share of the rows."""
    sums = _Sums(torch.zeros_like(nodes.a), torch.zeros_like(nodes.w))
    for rows in network.row_tiles(share):
        visit(nodes, rows, sums)
    return sums


def _add(
    network: MeanFieldNetwork,
    nodes: NodeTile,
    x: Tensor,
    force: Tensor,
    sums: _Sums,
    z: Tensor | None = None,
    s: Tensor | None = None,
) -> None:
    """Adds one tile to ``sums``; z and s = σ(z) are overwritten if they are given."""
    activation = network.activation
    if z is None or s is None:
        z = network.preactivations(nodes, x)
        s = network.activations(z)
    if activation.derivative_:
        gate = activation.derivative_(s)
    else:
        sums.a.add_(s @ force)
        gate = activation.derivative(z)
    sums.w.add_(product(gate, (x * force[:, None]).T, network.precision))


def _scaled(network: MeanFieldNetwork, a: Tensor, w: Tensor, alpha: float, N: int) -> tuple[Tensor, Tensor]:
    """Averages over the examples from sums over those of this process."""
    sums = [network.processes.sum_rows(part) for part in (a, w)]
    N = network.processes.count_rows(N)
    return sums[0].div_(alpha * N), sums[1].div_(alpha * math.sqrt(network.d) * N)


def _velocity(network: MeanFieldNetwork, a: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """(ȧ, ẇ) from the scaled sums."""
    if network.activation.homogeneous:
        return (network.w * w).sum(dim=1), network.a[:, None] * w
    return a, network.a[:, None] * w
