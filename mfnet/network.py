"""The network: M nodes with mean-field normalisation, f(x) = (1/M) Σ_i a_i σ(w_i·x/√d) (eq. 1)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfnet.activations import ACTIVATIONS, Activation

#: Elements of the largest temporary that a pass over examples holds, rows × M.
CHUNK_ELEMENTS = 2**20


class MeanFieldNetwork(nn.Module):
    """M nodes (a_i, w_i) with independent standard normal initial values, and a frozen copy of these.

    Args:
        M: Number of nodes.
        d: Input dimension.
        activation: A name in `mfnet.activations.ACTIVATIONS`.
        generator: Source of the initial values; they do not depend on ``dtype``.
        dtype: Floating-point type of the parameters.
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
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.activation: Activation = ACTIVATIONS[activation]
        a = torch.randn(M, generator=generator, dtype=torch.float64).to(dtype)
        w = torch.randn(M, d, generator=generator, dtype=torch.float64).to(dtype)
        self.a, self.w = nn.Parameter(a), nn.Parameter(w)
        self.register_buffer("a0", a.clone())
        self.register_buffer("w0", w.clone())

    @property
    def M(self) -> int:  # noqa: N802  # the paper's symbol
        """Number of nodes."""
        return self.w.shape[0]

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
        """f(x), or f₀(x), streamed over rows in bounded memory, without a gradient."""
        a, w = (self.a0, self.w0) if initial else (self.a, self.w)
        return torch.cat([self._average(x[rows], a, w) for rows in row_chunks(len(x), self.M)])


def row_chunks(n_rows: int, width: int) -> Iterator[slice]:
    """Slices that cover ``n_rows`` rows, each small enough that rows × width stays below `CHUNK_ELEMENTS`."""
    size = max(1, CHUNK_ELEMENTS // width)
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))
