"""The network: M nodes with mean-field normalisation, f(x) = (1/M) Σ_i a_i σ(w_i·x/√d) (eq. 1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfnet.compute.processes import ALONE, Processes
from mfnet.compute.products import DifferentiableProduct, product
from mfnet.compute.threads import side_by_side
from mfnet.network.activations import Activation, Function, activation_of
from mfnet.network.initial_values import initial_values

#: Elements of each thread's largest temporary of a pass over the examples, nodes × rows of a tile, by kind of device.
#: On a CPU it stays in the cache (measured: twice as many cost up to a fifth more); on a GPU it keeps every unit busy
#: (measured on an H200: four times fewer cost a tenth to two thirds more, four times more gain 4 % at most).
TILE_ELEMENTS = {"cpu": 2**19, "cuda": 2**26}

#: Nodes of a tile, at most; a tile's part of the drive, nodes × d, then stays in the cache too (measured on an H200:
#: eight times more nodes cost an eighth to a half more, eight times fewer up to a twentieth).
TILE_NODES = {"cpu": 1024, "cuda": 2**14}


def precision_for(alpha: float) -> str:
    """'float64' from α = 100 on, where F is a small difference of outputs, else 'float32'."""
    return "float64" if alpha >= 100.0 else "float32"


class Nodes(NamedTuple):
    """Parameters of the nodes of R networks."""

    a: Float[Tensor, "R M"]
    w: Float[Tensor, "R M d"]


class NodeTile(NamedTuple):
    """Some nodes, as a pass over the examples needs them."""

    which: slice
    a: Float[Tensor, " m"]
    w: Float[Tensor, "m d"]  # over √d


class Networks(nn.Module):
    """Nodes of one network or of several alike, a frozen copy of their initial values, and how outputs are streamed.

    Args:
        M: Number of nodes of a network, of all processes.
        activation: The activation.
        precision: Of the matrix products (`mfnet.compute.products.product`), for float32 only.
        processes: How the run is divided; divided by nodes, every network holds its share of the M nodes.
        a, w: Initial values of this process's nodes, of one network or stacked.

    Attributes:
        a, w: Present nodes.
        a0, w0: Initial nodes.
    """

    a0: Tensor
    w0: Tensor

    def __init__(self, M: int, activation: Activation, precision: str, processes: Processes, a: Tensor, w: Tensor):
        super().__init__()
        self.M, self.activation, self.precision, self.processes = M, activation, precision, processes
        self.a, self.w = nn.Parameter(a.clone()), nn.Parameter(w.clone())
        self.register_buffer("a0", a.clone())
        self.register_buffer("w0", w.clone())

    @property
    def d(self) -> int:
        """Input dimension."""
        return self.w.shape[-1]

    @property
    def nodes(self) -> Nodes:
        """Views of the present nodes, one network being a stack of one."""
        return _stacked(self.a.detach(), self.w.detach())

    @property
    def initial_nodes(self) -> Nodes:
        """Views of the initial nodes."""
        return _stacked(self.a0, self.w0)

    @torch.no_grad()
    def streamed(self, a: Float[Tensor, " M"], w: Float[Tensor, "M d"], x: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """f(x) of some nodes, in bounded memory, without a gradient."""
        output = x.new_zeros(len(x))

        def add(nodes: NodeTile, share: slice) -> None:
            for rows in self.row_tiles(share):
                output[rows] += nodes.a @ self.activations(self.preactivations(nodes, x[rows]))

        for nodes in self.node_tiles(a, w):
            side_by_side(partial(add, nodes), len(x), self.tile_rows, x.device)
        return self.processes.sum_nodes(output).div_(self.M)

    def preactivations(self, nodes: NodeTile, x: Float[Tensor, "r d"]) -> Float[Tensor, "m r"]:
        """z of some nodes on some inputs; a new array, which the caller may overwrite."""
        return product(nodes.w, x, self.precision)

    def activations(self, z: Float[Tensor, "*m"]) -> Float[Tensor, "*m"]:
        """σ(z), in the place of z where that is possible."""
        return self.activation.value_(z) if self.activation.value_ else self.activation.value(z)

    def node_tiles(self, a: Float[Tensor, " M"], w: Float[Tensor, "M d"]) -> Iterator[NodeTile]:
        """All nodes given, by tiles."""
        for which in _slices(slice(0, len(a)), TILE_NODES[w.device.type]):
            yield NodeTile(which, a[which], w[which] / math.sqrt(self.d))

    def row_tiles(self, rows: slice) -> Iterator[slice]:
        """Slices that cover ``rows``, of `tile_rows` each."""
        return _slices(rows, self.tile_rows)

    @property
    def tile_rows(self) -> int:
        """Rows of a tile, so that rows times the nodes of a tile stay below `TILE_ELEMENTS`."""
        kind = self.w.device.type
        return max(1, TILE_ELEMENTS[kind] // min(self.a.shape[-1], TILE_NODES[kind]))


class MeanFieldNetwork(Networks):
    """M nodes (a_i, w_i) with normal initial values of mean zero, and a frozen copy of these.

    Args:
        M: Number of nodes, of all processes.
        d: Input dimension.
        activation: A name, an `Activation`, or an elementwise function such as `torch.tanh` (`activation_of`).
        generator: Source of the initial values; they do not depend on ``dtype``.
        init: 'independent', or 'balanced': (±a, ±w) with E a² = A², and E w wᵀ = B²I if M ≥ 4d, else its trace; then
            f₀ = E a = E w = E[a w] = E[a w wᵀ] = 0. All to rounding (`mfnet.network.initial_values`).
        a_std: Standard deviation A of the initial a, which scales the same draw of unit variance.
        w_std: Standard deviation B of every component of the initial w, likewise.
        dtype: Floating-point type of the parameters.
        precision: Of the matrix products (`mfnet.compute.products.product`), for float32 only.
        processes: How the run is divided; divided by nodes, this network holds its share of the M nodes.

    Raises:
        ValueError: For what is no activation, and for balanced nodes whose number is no multiple of 4.
    """

    def __init__(
        self,
        M: int,
        d: int,
        activation: str | Activation | Function = "relu",
        *,
        generator: torch.Generator,
        init: str = "independent",
        a_std: float = 1.0,
        w_std: float = 1.0,
        dtype: torch.dtype = torch.float32,
        precision: str = "full",
        processes: Processes = ALONE,
    ):
        a, w = initial_values(init, M, d, generator)
        a, w = a.mul_(a_std).to(dtype), w.mul_(w_std).to(dtype)
        super().__init__(
            M, activation_of(activation), precision, processes, processes.take_nodes(a), processes.take_nodes(w)
        )

    def forward(self, x: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """f(x), differentiable; holds an N × M array (`output` does not)."""
        return self._average(x, self.a, self.w)

    def excess(self, x: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """F(x) = f(x) − f₀(x), differentiable; f₀ is the output of the frozen initial network."""
        return self(x) - self._average(x, self.a0, self.w0)

    def _average(self, x: Tensor, a: Tensor, w: Tensor) -> Tensor:
        if self.precision == "full":
            return self.activation.value(x @ w.T / math.sqrt(self.d)) @ a / self.M
        z = DifferentiableProduct.apply(x, w / math.sqrt(self.d), self.precision)  # rounded as f₀ is, else F(0) ≠ 0
        return self.activation.value(z) @ a / self.M

    def output(self, x: Float[Tensor, "N d"], *, initial: bool = False) -> Float[Tensor, " N"]:
        """f(x), or f₀(x), streamed in bounded memory, without a gradient."""
        return self.streamed(self.a0, self.w0, x) if initial else self.streamed(self.a, self.w, x)


class Replicas(Networks):
    """R networks of one shape, type and activation, their nodes stacked.

    Args:
        networks: The networks; they are copied.
    """

    def __init__(self, networks: Sequence[MeanFieldNetwork]):
        first = networks[0]
        a, w = (torch.stack([getattr(network, name) for network in networks]) for name in ("a0", "w0"))
        super().__init__(first.M, first.activation, first.precision, first.processes, a, w)
        for name in ("a", "w"):
            getattr(self, name).data.copy_(torch.stack([getattr(network, name).detach() for network in networks]))


def _stacked(a: Tensor, w: Tensor) -> Nodes:
    return Nodes(a, w) if a.ndim == 2 else Nodes(a[None], w[None])


def _slices(whole: slice, size: int) -> Iterator[slice]:
    for start in range(whole.start, whole.stop, size):
        yield slice(start, min(start + size, whole.stop))
