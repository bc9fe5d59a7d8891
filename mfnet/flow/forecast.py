"""Margins let alone for a step: the averaged forces of `mfnet.flow.averaged`, from the surrogate kernel.

Every replica takes its own number of sub-steps, side by side with the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.flow.rows import PaddedRows
from mfnet.flow.surrogate import Forces, SomeRows, Surrogate
from mfnet.losses import MarginLoss
from mfnet.processes import Processes
from mfnet.threads import one_thread

#: Fewest and most sub-steps of a step in which a force changes.
SUB_STEPS = (8, 256)

#: Most sub-steps between two looks at which forces may change.
BLOCK = 16


class Forecast(NamedTuple):
    """What the surrogate says of a step.

    Attributes:
        force: Time average φ̄ of each example's force.
        margins: Margins at the end.
        n_sub: Sub-steps that were taken; 0 where no force could change.
    """

    force: Float[Tensor, "R N"]
    margins: Float[Tensor, "R N"]
    n_sub: list[int]


def forecast(
    surrogate: Surrogate,
    loss: MarginLoss,
    margins: Float[Tensor, "R N"],
    residual: Float[Tensor, "R N"],
    dt: Sequence[float],
    resolution: float,
) -> Forecast:
    """Lets the margins move alone for the times ``dt`` of each replica: dm/dt = K̂φ/N + r.

    Args:
        surrogate: The kernels K̂.
        loss: The loss.
        margins: Margins at the beginning.
        residual: Velocity r that the surrogate has lately missed.
        dt: Lengths of the steps.
        resolution: Longest sub-step: change of a margin, in units of h, if all forces that may change changed by 1.
    """
    m = margins.to(surrogate.kappa.dtype)
    loss = loss.like(m)
    now = surrogate.of_all(loss.force(m))
    speed = surrogate.speed(now) + residual
    rows = _open_rows(surrogate, loss, m, now.force, speed, dt)
    n_open = [surrogate.processes.count_rows(n) for n in rows.counts]
    if max(n_open) == 0:
        return Forecast(now.force.to(margins.dtype), margins + speed * _column(dt, margins), [0] * len(dt))
    part = surrogate.rows(rows)
    jumps = [length * jump / resolution for length, jump in zip(dt, _jumps(part, rows, loss, surrogate), strict=True)]
    plan = [_blocks(jump) for jump in jumps]
    n_sub = [n_blocks * per_block for n_blocks, per_block in plan]

    whole, total = surrogate, Forces(torch.zeros_like(now.force), torch.zeros_like(now.features))
    live, later = list(range(len(dt))), residual  # what has sub-steps to come, and its residuals
    for number in range(max(n_blocks for n_blocks, _ in plan)):
        if number > 0:
            mean = _divided(block, [plan[r][1] for r in live])
            staying = [i for i, r in enumerate(live) if plan[r][0] > number]
            if len(staying) < len(live):
                live = [live[i] for i in staying]
                surrogate, loss = surrogate.select(staying), loss.of(staying)
                m, later, mean = m[staying], later[staying], Forces(*(values[staying] for values in mean))
            lengths = [dt[r] / plan[r][0] for r in live]
            m = m + ((surrogate.speed(mean) + later) * _column(lengths, later)).to(m.dtype)
            now = surrogate.changed(mean, loss.force(m))
            speed = surrogate.speed(now) + later
            rows = _open_rows(surrogate, loss, m, now.force, speed, lengths)
            part = surrogate.rows(rows)
        lengths, counts = [dt[r] / n_sub[r] for r in live], [plan[r][1] for r in live]
        block = _sub_steps(part, rows, loss, m, later, now, lengths, counts, surrogate.processes)
        if len(live) == len(dt):
            total = Forces(total.force + block.force, total.features + block.features)
        else:
            there = torch.tensor(live, device=m.device)
            total = Forces(*(sums.index_add(0, there, some) for sums, some in zip(total, block, strict=True)))
    mean = _divided(total, n_sub)
    end = margins + (whole.speed(mean) + residual) * _column(dt, margins)
    lost = [not math.isfinite(jump) for jump in jumps]  # the kernel of nodes that have overflowed: the step is too long
    if any(lost):
        end[lost] = math.nan
    return Forecast(mean.force.to(margins.dtype), end, [n if n_ > 0 else 0 for n, n_ in zip(n_sub, n_open, strict=True)])


def _open_rows(
    surrogate: Surrogate, loss: MarginLoss, m: Tensor, force: Tensor, speed: Tensor, dt: Sequence[float]
) -> PaddedRows:
    """Examples so near to the margin h that their force may change within ``dt``."""
    change = speed.abs() * _column(dt, speed)
    pushed = force != 0
    sums = torch.stack([change.masked_fill(~pushed, 0.0).sum(dim=1), pushed.sum(dim=1)])
    sums = surrogate.processes.sum_rows(sums)
    reach = change.add_((sums[0] / sums[1].clamp_min(1.0))[:, None]).mul_(2.0)
    return PaddedRows(~loss.force_is_constant(m, reach))


def _jumps(part: SomeRows, rows: PaddedRows, loss: MarginLoss, surrogate: Surrogate) -> list[float]:
    """Change of a margin in units of h and t, as root mean squares over the open rows, if all their forces were 1."""
    everyone = rows.marks(part.kappa)
    alone = part.speed(everyone, surrogate.processes.sum_rows(part.sums(everyone))) / loss.h
    sums = torch.stack([alone.square().sum(dim=1), everyone.sum(dim=1)]).double()
    squares, count = surrogate.processes.sum_rows(sums)
    return (squares / count.clamp_min(1.0)).sqrt().tolist()


def _blocks(jump: float) -> tuple[int, int]:
    """How many blocks, and sub-steps of each, resolve a change of the margins by so many times what is allowed."""
    fewest, most = SUB_STEPS
    n_sub = min(max(math.ceil(jump), fewest), most) if math.isfinite(jump) else fewest
    n_blocks = math.ceil(n_sub / BLOCK)
    return n_blocks, math.ceil(n_sub / n_blocks)


def _sub_steps(
    part: SomeRows,
    rows: PaddedRows,
    loss: MarginLoss,
    margins: Tensor,
    residual: Tensor,
    now: Forces,
    dt: Sequence[float],
    n_sub: Sequence[int],
    processes: Processes,
) -> Forces:
    """Sums over ``n_sub`` sub-steps of the forces of the open rows; those of the others are constant.

    A sub-step is four operations: the features of the rows have an entry more, always 0, whose sum is always 1 and
    carries what does not depend on their forces.
    """
    counts = _column(n_sub, now.force)
    force, total_features = now.force * counts, now.features * counts[..., None]
    if rows.n == 0 and processes.divide != "rows":
        return Forces(force, total_features)
    m, start = rows.take(margins), rows.take(now.force)
    length = _column(dt, m)
    others = now.features - processes.sum_rows(part.sums(start))
    R, n, k = part.features.shape
    features, base, gain = m.new_zeros(R, n, k + 1), m.new_ones(R, 1, k + 1), m.new_empty(R, k + 1, n)
    features[..., :k], base[..., :k] = part.features, others
    gain[:, :k] = torch.bmm(part.kernel, part.features.mT)
    gain[:, k] = rows.take(residual)
    gain.mul_(length[..., None])
    own = part.kappa * length
    if processes.divide == "rows" and processes.rank > 0:
        base.zero_()  # it is summed over the processes
    forces = []
    with one_thread():
        for _ in range(max(n_sub)):
            phi = loss.force(m)
            sums = processes.sum_rows(torch.baddbmm(base, phi[:, None], features))
            m = torch.baddbmm(m[:, None], sums, gain).squeeze(1).addcmul_(own, phi)
            forces.append(phi)
    total = _over_steps(forces, n_sub)
    change = processes.sum_rows(part.sums(total - start * counts))
    rows.put(total, force)
    return Forces(force, total_features + change)


def _over_steps(forces: Sequence[Tensor], n_sub: Sequence[int]) -> Float[Tensor, "R n"]:
    """Sums over each replica's own number of sub-steps."""
    stacked = torch.stack(list(forces))
    if min(n_sub) < len(forces):
        going = torch.arange(len(forces))[:, None] < torch.tensor(n_sub)
        stacked.mul_(going.to(stacked)[..., None])
    return stacked.sum(dim=0)


def _divided(sums: Forces, n_sub: Sequence[int]) -> Forces:
    """Means over the sub-steps."""
    counts = _column(n_sub, sums.force)
    return Forces(sums.force / counts, sums.features / counts[..., None])


def _column(values: Sequence[float], like: Tensor) -> Float[Tensor, "R 1"]:
    """A number for each replica, to go with ``like`` (R, N)."""
    return like.new_tensor(values)[:, None]
