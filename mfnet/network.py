"""The network: M nodes with mean-field normalisation, f(x) = (1/M) Σ_i a_i σ(w_i·x/√d) (eq. 1)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfnet.activations import ACTIVATIONS, Activation
from mfnet.processes import ALONE, Processes
from mfnet.products import product
from mfnet.threads import side_by_side

#: Elements of each thread's largest temporary of a pass over the examples, nodes × rows of a tile, by kind of device.
#: On a CPU it stays in the cache (measured: twice as many cost up to a fifth more); on a GPU it keeps every unit busy.
TILE_ELEMENTS = {"cpu": 2**19, "cuda": 2**26}

#: Nodes of a tile, at most; a tile's part of the drive, nodes × d, then stays in the cache too.
TILE_NODES = {"cpu": 1024, "cuda": 2**14}


class NodeTile(NamedTuple):
    """Some nodes, as a pass over the examples needs them."""

    which: slice
    a: Float[Tensor, " m"]
    w: Float[Tensor, "m d"]  # over √d


class MeanFieldNetwork(nn.Module):
    """M nodes (a_i, w_i) with independent normal initial values of mean zero, and a frozen copy of these.

    Args:
        M: Number of nodes, of all processes.
        d: Input dimension.
        activation: A name in `mfnet.activations.ACTIVATIONS`.
        generator: Source of the initial values; they do not depend on ``dtype``.
        a_std: Standard deviation A of the initial a, which scales the same standard normal draw.
        w_std: Standard deviation B of every component of the initial w, likewise.
        dtype: Floating-point type of the parameters.
        precision: Of the matrix products (`mfnet.products.product`), for float32 only.
        processes: How the run is divided; divided by nodes, this network holds its share of the M nodes.
    """

    a0: Tensor
    w0: Tensor

    def __init__(
        self,
        M: int,
        d: int,
        activation: str = "relu",
        *,
        generator: torch.Generator,
        a_std: float = 1.0,
        w_std: float = 1.0,
        dtype: torch.dtype = torch.float32,
        precision: str = "full",
        processes: Processes = ALONE,
    ):
        super().__init__()
        self.M, self.precision, self.processes = M, precision, processes
        self.activation: Activation = ACTIVATIONS[activation]
        a = torch.randn(M, generator=generator, dtype=torch.float64).mul_(a_std).to(dtype)
        w = torch.randn(M, d, generator=generator, dtype=torch.float64).mul_(w_std).to(dtype)
        a, w = processes.take_nodes(a), processes.take_nodes(w)
        self.a, self.w = nn.Parameter(a.clone()), nn.Parameter(w.clone())
        self.register_buffer("a0", a.clone())
        self.register_buffer("w0", w.clone())

    @property
    def d(self) -> int:
        """Input dimension."""
        return self.w.shape[1]

    def forward(self, x: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """f(x), differentiable; holds an N × M array (`output` does not)."""
        return self._average(x, self.a, self.w)

    def excess(self, x: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """F(x) = f(x) − f₀(x), differentiable; f₀ is the output of the frozen initial network."""
        return self(x) - self._average(x, self.a0, self.w0)

    def _average(self, x: Tensor, a: Tensor, w: Tensor) -> Tensor:
        return self.activation.value(x @ w.T / math.sqrt(self.d)) @ a / self.M

    @torch.no_grad()
    def output(self, x: Float[Tensor, "N d"], *, initial: bool = False) -> Float[Tensor, " N"]:
        """f(x), or f₀(x), streamed in bounded memory, without a gradient."""
        output = x.new_zeros(len(x))
        for nodes in self.node_tiles(initial=initial):
            side_by_side(partial(self._add_output, nodes, x, output), len(x), self.tile_rows, x.device)
        return self.processes.sum_nodes(output).div_(self.M)

    def _add_output(self, nodes: NodeTile, x: Tensor, output: Tensor, share: slice) -> None:
        for rows in self.row_tiles(share):
            output[rows] += nodes.a @ self.activations(self.preactivations(nodes, x[rows]))

    def preactivations(self, nodes: NodeTile, x: Float[Tensor, "r d"]) -> Float[Tensor, "m r"]:
        """z of some nodes on some inputs; a new array, which the caller may overwrite."""
        return product(nodes.w, x, self.precision)

    def activations(self, z: Float[Tensor, "m r"]) -> Float[Tensor, "m r"]:
        """σ(z), in the place of z where that is possible."""
        return self.activation.value_(z) if self.activation.value_ else self.activation.value(z)

    def node_tiles(self, *, initial: bool = False) -> Iterator[NodeTile]:
        """All present, or initial, nodes of this process, by tiles."""
        a, w = (self.a0, self.w0) if initial else (self.a, self.w)
        for which in _slices(slice(0, len(a)), TILE_NODES[w.device.type]):
            yield NodeTile(which, a[which], w[which] / math.sqrt(self.d))

    def row_tiles(self, rows: slice) -> Iterator[slice]:
        """Slices that cover ``rows``, of `tile_rows` each."""
        return _slices(rows, self.tile_rows)

    @property
    def tile_rows(self) -> int:
        """Rows of a tile, so that rows times the nodes of a tile stay below `TILE_ELEMENTS`."""
        kind = self.w.device.type
        return max(1, TILE_ELEMENTS[kind] // min(len(self.a), TILE_NODES[kind]))


def _slices(whole: slice, size: int) -> Iterator[slice]:
    for start in range(whole.start, whole.stop, size):
        yield slice(start, min(start + size, whole.stop))
