"""One network's evaluator for large problems: tiles of nodes and examples, shared out among threads and processes.

No array of N × M elements exists at any time. On a CPU each thread takes its own share of the examples
(`mfnet.compute.threads`). Forces that are given are known before the margins, so that rates and margins come from one
pass however many nodes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.compute.products import product
from mfnet.compute.threads import side_by_side
from mfnet.flow.evaluator import Evaluator
from mfnet.network import Nodes, NodeTile
from mfnet.network.networks import TILE_NODES


class _Sums(NamedTuple):
    """Σ φyσ(z_i) (zero for homogeneous activations, which need it not) and Σ φyσ′(z_i)x over some rows."""

    a: Float[Tensor, " m"]
    w: Float[Tensor, "m d"]


#: Adds what a tile of rows does to some nodes.
Visitor = Callable[[NodeTile, slice, _Sums], None]


class Streamed(Evaluator):
    """The evaluator of one network; its tensors have a first dimension of 1."""

    name = "streamed"

    def outputs(self, nodes: Nodes) -> Float[Tensor, "1 N"]:
        return self.networks.streamed(nodes.a[0], nodes.w[0], self.x[0])[None]

    def rates(self, nodes: Nodes, force: Float[Tensor, "1 N"], n_forced: Sequence[int]) -> Float[Tensor, "1 M k"]:
        x, signed = self.x[0], force[0] * self.y[0]
        group = grouped(signed != 0.0, n_forced[0])

        def visit(tile: NodeTile, some: slice, sums: _Sums) -> None:
            rows = some if group is None else group[some]
            self._add(tile, x[rows], signed[rows], sums)

        return self._over_tiles(nodes, n_forced[0], visit)

    def rates_and_margins(
        self, nodes: Nodes, force: Float[Tensor, "1 N"], n_forced: Sequence[int]
    ) -> tuple[Float[Tensor, "1 M k"], Float[Tensor, "1 N"]]:
        x, signed = self.x[0], force[0] * self.y[0]
        output, n_idle = torch.zeros_like(signed), len(signed) - n_forced[0]
        group, idle = grouped(signed != 0.0, n_forced[0]), grouped(signed == 0.0, n_idle)

        def visit(tile: NodeTile, some: slice, sums: _Sums) -> None:
            rows = some if group is None else group[some]
            z = self.networks.preactivations(tile, x[rows])
            s = self.networks.activations(z)
            output[rows] += tile.a @ s
            self._add(tile, x[rows], signed[rows], sums, z, s)

        def visit_idle(tile: NodeTile, some: slice, sums: _Sums) -> None:
            rows = some if idle is None else idle[some]
            output[rows] += tile.a @ self.networks.activations(self.networks.preactivations(tile, x[rows]))

        rates = self._over_tiles(nodes, n_forced[0], visit)
        if n_idle > 0:
            self._visit_tiles(nodes, n_idle, visit_idle)
        return rates, self._margins(self.processes.sum_nodes(output).div_(self.networks.M)[None])

    def present_rates_and_margins(self, nodes: Nodes) -> tuple[Float[Tensor, "1 M k"], Float[Tensor, "1 N"]]:
        """In one pass where a tile holds all nodes, so that z is computed once."""
        if nodes.a.shape[1] > TILE_NODES[nodes.a.device.type] or self.processes.divide == "nodes":
            margins = self.margins(nodes)
            force = self.loss.force(margins)
            return self.rates(nodes, force, force.count_nonzero(dim=1).tolist()), margins
        x, y, f0, alpha = self.x[0], self.y[0], self.f0[0], self.alpha[0]
        margins = torch.empty_like(y)

        def visit(tile: NodeTile, rows: slice, sums: _Sums) -> None:
            z = self.networks.preactivations(tile, x[rows])
            s = self.networks.activations(z)
            margins[rows] = alpha * y[rows] * (tile.a @ s / self.networks.M - f0[rows])
            force = self.loss.force(margins[rows]) * y[rows]
            if force.is_cpu and 2 * len(forced := force.nonzero().squeeze(1)) < len(force):
                self._add(tile, x[rows][forced], force[forced], sums)  # cheaper than the rest of the tile
            else:
                self._add(tile, x[rows], force, sums, z, s)

        return self._over_tiles(nodes, len(y), visit), margins[None]

    def _over_tiles(self, nodes: Nodes, n_rows: int, visit: Visitor) -> Float[Tensor, "1 M k"]:
        """The rates from all tiles of nodes and rows."""
        sums = self._visit_tiles(nodes, n_rows, visit)
        return self._rates(nodes, sums.a[None], sums.w[None])

    def _visit_tiles(self, nodes: Nodes, n_rows: int, visit: Visitor) -> _Sums:
        a, w = nodes.a[0], nodes.w[0]
        total = _Sums(torch.zeros_like(a), torch.zeros_like(w))
        for tile in self.networks.node_tiles(a, w):
            work = partial(self._over_rows, visit, tile)
            for sums in side_by_side(work, n_rows, self.networks.tile_rows, a.device):
                total.a[tile.which] += sums.a
                total.w[tile.which] += sums.w
        return total

    def _over_rows(self, visit: Visitor, tile: NodeTile, share: slice) -> _Sums:
        """The sums over the tiles of some nodes and a share of the rows."""
        sums = _Sums(torch.zeros_like(tile.a), torch.zeros_like(tile.w))
        for rows in self.networks.row_tiles(share):
            visit(tile, rows, sums)
        return sums

    def _add(
        self, tile: NodeTile, x: Tensor, signed: Tensor, sums: _Sums, z: Tensor | None = None, s: Tensor | None = None
    ) -> None:
        """Adds one tile to ``sums``; z and s = σ(z) are overwritten if they are given."""
        if z is None or s is None:
            z = self.networks.preactivations(tile, x)
            s = self.networks.activations(z)
        if self.activation.derivative_:
            gate = self.activation.derivative_(s)
        else:
            sums.a.add_(s @ signed)
            gate = self.activation.derivative(z)
        sums.w.add_(product(gate, (x * signed[:, None]).T, self.networks.precision))


def grouped(mask: Tensor, n: int) -> Tensor | None:
    """The ``n`` rows that are marked; None for all, which a slice takes without a copy of their inputs."""
    return None if n == len(mask) else torch.nonzero_static(mask, size=n).squeeze(1)
