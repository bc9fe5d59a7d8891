"""All replicas' evaluator for small problems: one operation serves every replica.

A small network costs the overhead of its operations, not their arithmetic: with M = 100, N = 1000, d = 20 the matrix
products of a run are a fifth of its time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.compute.threads import one_thread
from mfnet.flow.evaluator import Evaluator
from mfnet.flow.rows import PaddedRows
from mfnet.network import Nodes

#: Elements of the largest temporary of a pass over the examples, replicas × nodes × rows of a tile, by kind of device.
#: On a CPU it stays in the cache with what a pass reads and writes (measured: four times more costs 15 %).
TILE_ELEMENTS = {"cpu": 2**18, "cuda": 2**26}

#: Multiplications of a pass over all examples of all replicas, at most, that one thread of a CPU does alone: its
#: operations are too small to share (measured on two cores that others use too: two threads take ten times longer).
ONE_THREAD = 2**28


class Batched(Evaluator):
    """The evaluator of R networks, in one process and at full precision."""

    name = "batched"

    def outputs(self, nodes: Nodes) -> Float[Tensor, "R N"]:
        f = torch.empty_like(self.y)
        for replicas, rows in self._tiles(nodes, self.x):
            s = self.networks.activations(_preactivations(nodes, self.x, replicas, rows))
            f[replicas, rows] = self._averages(nodes, s, replicas)
        return f

    def rates(self, nodes: Nodes, force: Float[Tensor, "R N"], n_forced: Sequence[int]) -> Float[Tensor, "R M k"]:
        signed = force * self.y
        if max(n_forced) == force.shape[1]:
            return self._sums(nodes, self.x, lambda replicas, rows, _: signed[replicas, rows])
        forced = PaddedRows(signed != 0.0, n_forced)
        some = forced.take(signed)
        return self._sums(nodes, forced.take(self.x), lambda replicas, rows, _: some[replicas, rows])

    def rates_and_margins(
        self, nodes: Nodes, force: Float[Tensor, "R N"], n_forced: Sequence[int]
    ) -> tuple[Float[Tensor, "R M k"], Float[Tensor, "R N"]]:
        """In one pass where most examples have a force."""
        if 2 * max(n_forced) < force.shape[1]:
            return self.rates(nodes, force, n_forced), self.margins(nodes)
        signed, f = force * self.y, torch.empty_like(force)

        def forces(replicas: slice, rows: slice, s: Tensor) -> Tensor:
            f[replicas, rows] = self._averages(nodes, s, replicas)
            return signed[replicas, rows]

        return self._sums(nodes, self.x, forces), self._margins(f)

    def present_rates_and_margins(self, nodes: Nodes) -> tuple[Float[Tensor, "R M k"], Float[Tensor, "R N"]]:
        margins = torch.empty_like(self.y)

        def forces(replicas: slice, rows: slice, s: Tensor) -> Tensor:
            f = self._averages(nodes, s, replicas).sub_(self.f0[replicas, rows])
            y = self.y[replicas, rows]
            margins[replicas, rows] = f.mul_(y).mul_(self.alpha[replicas, None])
            return self.loss.of(range(*replicas.indices(len(margins)))).force(margins[replicas, rows]) * y

        return self._sums(nodes, self.x, forces), margins

    def threads(self) -> AbstractContextManager[None]:
        """Inside, as many threads as the size of the problem is worth."""
        alone = self.x.is_cpu and self.networks.a.shape[-1] * self.x.numel() <= ONE_THREAD
        return one_thread() if alone else nullcontext()

    def _sums(
        self, nodes: Nodes, x: Float[Tensor, "R n d"], forces: Callable[[slice, slice, Tensor], Tensor]
    ) -> Float[Tensor, "R M k"]:
        """Rates from the signed forces that are given for a tile of replicas and rows and its activations."""
        a, w = torch.zeros_like(nodes.a), torch.zeros_like(nodes.w)
        for replicas, rows in self._tiles(nodes, x):
            z = _preactivations(nodes, x, replicas, rows)
            s = self.networks.activations(z)
            signed = forces(replicas, rows, s)[..., None]
            if self.activation.derivative_:
                gate = self.activation.derivative_(s)
            else:
                a[replicas] += torch.bmm(s, signed).squeeze(2)
                gate = self.activation.derivative(z)
            w[replicas].baddbmm_(gate, x[replicas, rows] * signed)
        return self._rates(nodes, a, w)

    def _averages(self, nodes: Nodes, s: Tensor, replicas: slice) -> Tensor:
        return torch.bmm(nodes.a[replicas, None] / self.networks.M, s).squeeze(1)

    def _tiles(self, nodes: Nodes, x: Float[Tensor, "R n d"]) -> Iterator[tuple[slice, slice]]:
        """Slices of replicas and rows whose product with all nodes stays below `TILE_ELEMENTS`."""
        (R, M), n = nodes.a.shape, x.shape[1]
        n_rows = max(1, TILE_ELEMENTS[x.device.type] // M)
        n_replicas = max(1, n_rows // max(n, 1))
        for replica in range(0, R, n_replicas):
            for row in range(0, n, n_rows):
                yield slice(replica, replica + n_replicas), slice(row, row + n_rows)


def _preactivations(nodes: Nodes, x: Tensor, replicas: slice, rows: slice) -> Tensor:
    w = nodes.w[replicas]
    return torch.bmm(w / math.sqrt(w.shape[-1]), x[replicas, rows].mT)
