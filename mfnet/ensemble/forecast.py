"""Averaged forces of all replicas (`mfnet.flow.forecast`): each takes its own number of sub-steps, side by side."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mfnet.ensemble.rows import PaddedRows
from mfnet.ensemble.surrogate import Surrogates
from mfnet.flow.forecast import BLOCK, SUB_STEPS
from mfnet.losses import MarginLoss
from mfnet.threads import one_thread


class Forecast(NamedTuple):
    """What the surrogates say of a step.

    Attributes:
        force: Time average φ̄ of each example's force.
        margins: Margins at the end.
        n_sub: Sub-steps of each replica, on the host; 0 where no force could change.
    """

    force: Float[Tensor, "R N"]
    margins: Float[Tensor, "R N"]
    n_sub: Int[Tensor, " R"]


def forecast(
    surrogate: Surrogates,
    loss: MarginLoss,
    margins: Float[Tensor, "R N"],
    residual: Float[Tensor, "R N"],
    dt: Float[Tensor, " R"],
    resolution: float,
) -> Forecast:
    """Lets the margins move alone for the times ``dt`` of each replica: dm/dt = K̂φ/N + r; see the single one.

    Args:
        surrogate: The kernels K̂.
        loss: The loss.
        margins: Margins at the beginning.
        residual: Velocity r that the surrogate has lately missed.
        dt: Lengths of the steps, on the host.
        resolution: Longest sub-step: change of a margin, in units of h, if all forces that may change changed by 1.
    """
    m = margins.to(surrogate.kappa.dtype)
    start, length = loss.force(m), _column(dt, margins)
    seen = _look(surrogate, loss, m, start, residual, length)
    counts = seen.rows.counts
    if seen.rows.n == 0:
        end = margins + length * (surrogate(start) + residual)
        return Forecast(start.to(margins.dtype), end, torch.zeros(len(dt), dtype=torch.long))
    squares = seen.part(torch.ones_like(seen.part.kappa)).square().sum(dim=1).cpu().double()
    jump = dt * (squares / counts.clamp_min(1)).sqrt()
    finite = jump.isfinite()  # not for the kernel of nodes that have overflowed: the step is too long
    n_sub = (jump.where(finite, 0.0) / (resolution * loss.h)).ceil().clamp(*SUB_STEPS).long()

    n_blocks = -(-n_sub // BLOCK)
    per_block = -(-n_sub // n_blocks)
    n_sub = n_blocks * per_block
    if int(n_blocks.max()) == 1:
        force = _summed_force(surrogate, loss, m, residual, dt, per_block, seen)
    else:
        force, m = torch.zeros_like(start), m.clone()
        for number in range(int(n_blocks.max())):
            live = (n_blocks > number).nonzero().squeeze(1)
            there = live.to(m.device)
            few = Surrogates(*(values[there] for values in surrogate))
            now, r, dt_block = m[there], residual[there], dt[live] / n_blocks[live]
            seen = _look(few, loss, now, loss.force(now), r, _column(dt_block, r))
            block = _summed_force(few, loss, now, r, dt_block, per_block[live], seen)
            force[there] += block
            mean = block / _column(per_block[live], block)
            m[there] = now + (few(mean) + r).to(m.dtype).mul_(_column(dt_block, m))
    force = force.div_(_column(n_sub, force)).to(margins.dtype)
    end = margins + length * (surrogate(force) + residual)
    if not bool(finite.all()):
        end[~finite.to(end.device)] = torch.nan
    return Forecast(force, end, n_sub.where(counts > 0, 0))


class _Seen(NamedTuple):
    """The forces of some margins, which of them may change, and the surrogates of those."""

    force: Tensor
    open: Bool[Tensor, "R N"]
    rows: PaddedRows
    part: Surrogates


def _look(
    surrogate: Surrogates, loss: MarginLoss, margins: Tensor, force: Tensor, residual: Tensor, dt: Tensor
) -> _Seen:
    """Finds the examples that are so near to the margin h that their force may change within ``dt``."""
    change = (surrogate(force) + residual).abs_().mul_(dt)
    pushed = force != 0
    sums = change.where(pushed, 0.0).sum(dim=1, keepdim=True) / pushed.sum(dim=1, keepdim=True).clamp_min(1)
    open_ = ~loss.force_is_constant(margins, change.add_(sums).mul_(2.0))
    rows = PaddedRows(open_)
    return _Seen(force, open_, rows, surrogate.rows(rows))


def _summed_force(
    surrogate: Surrogates,
    loss: MarginLoss,
    margins: Tensor,
    residual: Tensor,
    dt: Float[Tensor, " R"],
    n_sub: Int[Tensor, " R"],
    seen: _Seen,
) -> Tensor:
    """Sums over ``n_sub`` sub-steps of the forces that may change; those of the other examples are constant."""
    force, open_, rows, part = seen
    summed = force * _column(n_sub, force)
    if rows.n == 0:
        return summed
    constant = surrogate.sums(force.masked_fill(open_, 0.0))
    m, r = rows.take(margins), rows.take(residual).to(margins.dtype)
    total = torch.zeros_like(m)
    going = torch.arange(int(n_sub.max()))[:, None] < n_sub  # sub-step × replica
    counted, lengths = (values.to(m)[..., None] for values in (going, going * (dt / n_sub)))
    with one_thread():
        for count, length in zip(counted, lengths, strict=True):
            phi = loss.force(m)
            total.addcmul_(phi, count)
            sums = torch.baddbmm(constant, phi[:, None], part.features)
            m.addcmul_(part.speed(phi, sums).add_(r), length)
    rows.put(total, summed)
    return summed


def _column(values: Tensor, like: Tensor) -> Float[Tensor, "R 1"]:
    """A number for each replica, from the host, to go with ``like`` (R, N)."""
    return values.to(like.device, like.dtype)[:, None]
