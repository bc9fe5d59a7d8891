"""Matrix products, the whole cost of a large network: the fastest that torch has here, in the precision asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

#: Explicit bits of the significand that a reduced precision keeps of each factor.
_KEPT_BITS = {"tf32": 10, "bf16": 7}

#: Widest vectors that torch uses on this CPU.
_CAPABILITY = torch.backends.cpu.get_cpu_capability()


def product(a: Float[Tensor, "p k"], b: Float[Tensor, "q k"], precision: str = "full") -> Float[Tensor, "p q"]:
    """a bᵀ.

    On a CPU it is MKL's, computed as (b aᵀ)ᵀ (measured: a fifth faster than a bᵀ, if a is the weights or the gate),
    or in float32 oneDNN's where vectors are wider than AVX2's: MKL does not use these on processors that are not
    Intel's (measured: half the speed).

    Args:
        a: Left factor.
        b: Right factor, transposed.
        precision: 'full', or, for float32 only, 'tf32' or 'bf16': factors rounded to 10 or 7 bits, sums in float32. A
            GPU computes that faster (`mfnet.flow.fused` is more exact than its 'tf32'); on a CPU only the rounding is
            done, so that its effect can be seen.
    """
    if a.shape[1] == 0:  # oneDNN makes no empty sums
        return a.new_zeros(len(a), len(b))
    if precision != "full":
        if not a.is_cuda:
            a, b = _rounded(a, _KEPT_BITS[precision]), _rounded(b, _KEPT_BITS[precision])
        elif precision == "bf16":
            return torch.mm(a.bfloat16(), b.bfloat16().T, out_dtype=torch.float32)
        else:
            with _float32_products("tf32"):
                return torch.mm(a, b.T)
    if a.device.type != "cpu":
        return torch.mm(a, b.T)
    if a.dtype is torch.float32 and torch.backends.mkldnn.is_available() and _CAPABILITY != "AVX2":
        return torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return torch.mm(b, a.T).T


def _rounded(values: Float[Tensor, "p k"], bits: int) -> Float[Tensor, "p k"]:
    """``values`` rounded to the nearest with so many explicit bits of the significand, ties to even."""
    dropped = 23 - bits
    raw = values.contiguous().view(torch.int32)
    last_kept = (raw >> dropped) & 1
    return ((raw + ((1 << (dropped - 1)) - 1) + last_kept) & ~((1 << dropped) - 1)).view(torch.float32)


@contextmanager
def exact_products() -> Iterator[None]:
    """Inside, a GPU's float32 products are those of float32, whatever the caller has allowed torch to do."""
    with _float32_products("ieee"):
        yield


@contextmanager
def _float32_products(kind: Literal["ieee", "tf32"]) -> Iterator[None]:
    before = torch.backends.cuda.matmul.fp32_precision  # the older allow_tf32 cannot be read where this was set
    torch.backends.cuda.matmul.fp32_precision = kind
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


class DifferentiableProduct(torch.autograd.Function):
    """`product` for autograd; the products of its derivative are computed as it is."""

    @staticmethod
    def forward(ctx: Any, a: Float[Tensor, "p k"], b: Float[Tensor, "q k"], precision: str) -> Float[Tensor, "p q"]:
        ctx.save_for_backward(a, b)
        ctx.precision = precision
        return product(a, b, precision)

    @staticmethod
    def backward(ctx: Any, *slopes: Float[Tensor, "p q"]) -> tuple[Tensor, Tensor, None]:
        (slope,), (a, b) = slopes, ctx.saved_tensors
        return product(slope, b.T, ctx.precision), product(slope.T, a.T, ctx.precision), None
