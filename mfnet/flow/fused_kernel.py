"""A pass of some nodes over some examples in one Triton kernel: z = w·x/√d and what follows from it stay on the chip.

A pass by torch writes z to memory and reads it four times; on a GPU that costs as much as its two matrix products. Here
a program keeps some nodes and goes through its share of the examples: product, σ, output, σ′, second product.

Products run on the units for bfloat16 and add up in float32. A factor is the sum of so many bfloat16 parts: three hold
all of a float32's significand, and products of parts that do not matter are left out. Two parts are more exact than
TF32, and faster. The derivative of a ReLU is exact in one part.
"""

# mypy: disable-error-code="no-untyped-def"
# (Triton compiles the kernels; their arguments are pointers, numbers, and constants in capitals)

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from mfnet.network.activations import LEAKY_SLOPE

#: Parts of a factor, by precision.
PARTS = {"full": 3, "tf32": 2, "bf16": 1}

#: Activations that the kernel knows, by the number that it knows them by.
KNOWN = {
    name: number
    for number, name in enumerate(
        ("relu", "leaky_relu", "gelu", "silu", "softplus", "tanh", "sigmoid", "erf", "relu_squared")
    )
}

#: Largest input dimension: a program holds all components of its nodes and of a block of examples.
MOST_INPUTS = 128


_SLOPE = tl.constexpr(LEAKY_SLOPE)


class Blocks(NamedTuple):
    """How a program works: nodes, examples at a time, warps, and blocks of examples that are on their way."""

    nodes: int
    rows: int
    warps: int
    stages: int


#: Of each number of parts, the fastest that were found on an H200.
BLOCKS = {3: Blocks(64, 32, 4, 3), 2: Blocks(128, 32, 8, 3), 1: Blocks(64, 64, 4, 3)}

#: Programs, at least, for each multiprocessor.
PROGRAMS = 4


class Sums(NamedTuple):
    """What a pass adds up; None for what was not asked for.

    Attributes:
        outputs: Σ_i a_i σ(z_i) of each example.
        a: Σ φyσ(z_i) of each node; None for homogeneous activations.
        w: Σ φyσ′(z_i)x of each node.
    """

    outputs: Float[Tensor, " n"] | None
    a: Float[Tensor, " m"] | None
    w: Float[Tensor, "m d"] | None


class Parts(NamedTuple):
    """Vectors as sums of parts, padded with zeros to whole blocks: ``n`` of them are meant."""

    values: Tensor  # (parts, padded n, padded d), in bfloat16
    n: int


@triton.jit
def _split(values, rows, factors, plain, times, n, n_padded, d, scale, D: tl.constexpr, PARTS: tl.constexpr,
           PICKED: tl.constexpr, TIMES: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Parts of scale · values[rows], and of the same times their factors."""
    i, k = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, D)
    row = tl.load(rows + i, mask=i < n, other=0) if PICKED else i.to(tl.int64)
    there = (i < n)[:, None] & (k < d)[None, :]
    value = tl.load(values + row[:, None] * d + k[None, :], mask=there, other=0.0)
    if TIMES:
        rest = value * tl.load(factors + row, mask=i < n, other=0.0)[:, None]
        for part in tl.static_range(PARTS):
            rounded = rest.to(tl.bfloat16)
            tl.store(times + (part * n_padded + i[:, None]) * D + k[None, :], rounded)
            rest -= rounded.to(tl.float32)
    rest = value * scale
    for part in tl.static_range(PARTS):
        rounded = rest.to(tl.bfloat16)
        tl.store(plain + (part * n_padded + i[:, None]) * D + k[None, :], rounded)
        rest -= rounded.to(tl.float32)


@triton.jit
def _value_and_derivative(z, ACTIVATION: tl.constexpr):
    """σ(z) and σ′(z), the latter without the slope of a leaky ReLU; σ of what is no number is none."""
    above = tl.maximum(z, 0.0, propagate_nan=tl.PropagateNan.ALL)
    if ACTIVATION == 0:  # relu
        return above, tl.where(z > 0.0, 1.0, 0.0)
    elif ACTIVATION == 1:  # leaky_relu
        return tl.where(z > 0.0, z, _SLOPE * z), tl.where(z > 0.0, 1.0, 0.0)
    elif ACTIVATION == 2:  # gelu
        below = 0.5 * (1.0 + tl.math.erf(z * 0.7071067811865476))
        return z * below, below + z * tl.exp(-0.5 * z * z) * 0.3989422804014327
    elif ACTIVATION == 3:  # silu
        gate = tl.sigmoid(z)
        return z * gate, gate * (1.0 + z * (1.0 - gate))
    elif ACTIVATION == 4:  # softplus
        return above + tl.log(1.0 + tl.exp(-tl.abs(z))), tl.sigmoid(z)
    elif ACTIVATION == 5:  # tanh
        value = 2.0 * tl.sigmoid(2.0 * z) - 1.0
        return value, 1.0 - value * value
    elif ACTIVATION == 6:  # sigmoid
        gate = tl.sigmoid(z)
        return gate, gate * (1.0 - gate)
    elif ACTIVATION == 7:  # erf
        return tl.math.erf(z), 1.1283791670955126 * tl.exp(-z * z)
    else:  # relu_squared
        return above * above, 2.0 * above


@triton.jit
def _part(value, like):
    """The bfloat16 nearest to each value, in the type of ``like``."""
    return value.to(tl.bfloat16).to(like.dtype)


@triton.jit
def _pass(w, a, x, times, signed, outputs, a_sums, w_sums, m_padded, n_padded, per_program, D: tl.constexpr,
          PARTS: tl.constexpr, ACTIVATION: tl.constexpr, OUTPUTS: tl.constexpr, SUMS: tl.constexpr,
          BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, WARPS: tl.constexpr):  # fmt: skip
    """One program: a block of nodes, and every example of a share; the smallest products are added first."""
    block, share = tl.program_id(0), tl.program_id(1)
    i, k = block * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, D)
    own, w_part, x_part = w + i[:, None] * D + k[None, :], m_padded * D, n_padded * D
    w0 = tl.load(own)
    if PARTS > 1:
        w1 = tl.load(own + w_part)
    if PARTS > 2:
        w2 = tl.load(own + 2 * w_part)
    own_a = tl.load(a + i)
    sums_a = tl.zeros((BLOCK_M,), dtype=tl.float32)
    sums_w = tl.zeros((BLOCK_M, D), dtype=tl.float32)
    first = share * per_program
    for start in range(first, tl.minimum(first + per_program, n_padded), BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        at = n[:, None] * D + k[None, :]
        x0 = tl.load(x + at)
        if PARTS == 1:
            z = tl.dot(w0, tl.trans(x0))
        elif PARTS == 2:
            x1 = tl.load(x + x_part + at)
            z = tl.dot(w1, tl.trans(x0))
            z = tl.dot(w0, tl.trans(x1), z)
            z = tl.dot(w0, tl.trans(x0), z)
        else:
            x1 = tl.load(x + x_part + at)
            x2 = tl.load(x + 2 * x_part + at)
            z = tl.dot(w0, tl.trans(x2))
            z = tl.dot(w2, tl.trans(x0), z)
            z = tl.dot(w1, tl.trans(x1), z)
            z = tl.dot(w0, tl.trans(x1), z)
            z = tl.dot(w1, tl.trans(x0), z)
            z = tl.dot(w0, tl.trans(x0), z)
        value, derivative = _value_and_derivative(z, ACTIVATION)
        if OUTPUTS:  # a sum of each warp, which need not wait for the others
            weighted = tl.reshape(own_a[:, None] * value, (WARPS, BLOCK_M // WARPS, BLOCK_N))
            rows = block * WARPS + tl.arange(0, WARPS)
            tl.store(outputs + rows[:, None].to(tl.int64) * n_padded + n[None, :], tl.sum(weighted, axis=1))
        if SUMS:
            if ACTIVATION > 1:
                sums_a += tl.sum(value * tl.load(signed + n)[None, :], axis=1)
            g0 = _part(derivative, x0)
            if PARTS > 2:
                f2 = tl.load(times + 2 * x_part + at)
                sums_w = tl.dot(g0, f2, sums_w)
            if PARTS > 1:
                f1 = tl.load(times + x_part + at)
                if ACTIVATION > 1:
                    rest = derivative - g0.to(tl.float32)
                    g1 = _part(rest, x0)
                    if PARTS > 2:
                        sums_w = tl.dot(_part(rest - g1.to(tl.float32), x0), tl.load(times + at), sums_w)
                        sums_w = tl.dot(g1, f1, sums_w)
                    sums_w = tl.dot(g1, tl.load(times + at), sums_w)
                sums_w = tl.dot(g0, f1, sums_w)
            sums_w = tl.dot(g0, tl.load(times + at), sums_w)
    if SUMS:
        place = share.to(tl.int64) * m_padded + i
        tl.store(w_sums + place[:, None] * D + k[None, :], sums_w)
        if ACTIVATION > 1:
            tl.store(a_sums + place, sums_a)


def split(
    values: Float[Tensor, "n d"],
    parts: int,
    block: int,
    *,
    rows: Int[Tensor, " r"] | None = None,
    factors: Float[Tensor, " n"] | None = None,
    scale: float = 1.0,
) -> tuple[Parts, Parts]:
    """Parts of scale · values, of some rows of them, and of values times their factors (the same without these).

    Args:
        values: In float32.
        parts: Number of parts.
        block: Rows of a block; what is missing in the last is padded with zeros.
        rows: Which rows; None for all.
        factors: Of all rows.
        scale: A factor of all values.
    """
    values, (_, d) = values.contiguous(), values.shape
    n = len(values) if rows is None else len(rows)
    D, padded = max(16, triton.next_power_of_2(d)), triton.cdiv(n, block) * block
    plain = values.new_empty(parts, padded, D, dtype=torch.bfloat16)
    times = plain if factors is None else torch.empty_like(plain)
    picked, given = values if rows is None else rows, values if factors is None else factors.contiguous()
    flags = {"D": D, "PARTS": parts, "PICKED": rows is not None, "TIMES": factors is not None, "BLOCK": 16}
    if n:
        _split[(triton.cdiv(padded, 16),)](values, picked, given, plain, times, n, padded, d, scale, **flags)
    return Parts(plain, n), Parts(times, n)


def sums_of(
    w: Parts,
    a: Float[Tensor, " m"],
    x: Parts,
    times: Parts,
    signed: Float[Tensor, " n"] | None,
    activation: str,
    d: int,
    *,
    outputs: bool,
    sums: bool,
) -> Sums:
    """A pass of some nodes over some examples. The order of all additions is fixed, so that a pass is reproducible.

    Args:
        w: Parts of w/√d, from `split`.
        a: Second-layer weights.
        x: Parts of the inputs.
        times: Parts of the inputs times φy.
        signed: φy; needed for sums of activations that are not homogeneous.
        activation: Name of the activation, one of `KNOWN`.
        d: Input dimension.
        outputs: Whether outputs are asked for.
        sums: Whether the sums of the nodes are.
    """
    (parts, m_padded, D), n_padded = w.values.shape, x.values.shape[1]
    blocks, number = BLOCKS[parts], KNOWN[activation]
    node_blocks, row_blocks = m_padded // blocks.nodes, n_padded // blocks.rows
    shares = max(1, min(row_blocks, triton.cdiv(PROGRAMS * _processors(a.device), node_blocks)))
    per_program = triton.cdiv(row_blocks, shares) * blocks.rows
    shares = triton.cdiv(n_padded, per_program)
    averages = number > KNOWN["leaky_relu"]
    found = a.new_empty(node_blocks * blocks.warps if outputs else 0, n_padded)
    w_sums = a.new_empty(shares if sums else 0, m_padded, D)
    a_sums = a.new_empty(shares if sums and averages else 0, m_padded)
    flags = {"D": D, "PARTS": parts, "ACTIVATION": number, "OUTPUTS": outputs, "SUMS": sums}
    _pass[(node_blocks, shares)](
        w.values,
        _padded(a, m_padded),
        x.values,
        times.values,
        a if signed is None else _padded(signed, n_padded),
        *(found, a_sums, w_sums, m_padded, n_padded, per_program),
        **flags,
        BLOCK_M=blocks.nodes,
        BLOCK_N=blocks.rows,
        WARPS=blocks.warps,
        num_warps=blocks.warps,
        num_stages=blocks.stages,
    )
    of_nodes = w_sums.sum(dim=0)[: w.n, :d] if sums else None
    if of_nodes is not None and activation == "leaky_relu":
        everyone = times.values.float().sum(dim=(0, 1))[:d]
        of_nodes = of_nodes.mul_(1.0 - LEAKY_SLOPE).add_(everyone, alpha=LEAKY_SLOPE)
    return Sums(
        found.sum(dim=0)[: x.n] if outputs else None, a_sums.sum(dim=0)[: w.n] if sums and averages else None, of_nodes
    )


def _padded(values: Tensor, n: int) -> Tensor:
    return values.contiguous() if len(values) == n else torch.nn.functional.pad(values, (0, n - len(values)))


def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
