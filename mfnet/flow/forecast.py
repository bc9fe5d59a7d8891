"""Margins let alone for a step: the averaged forces of `mfnet.flow.averaged`, from the surrogate kernel.

Every replica takes its own number of sub-steps, side by side with the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mfnet.flow.rows import PaddedRows, per_replica
from mfnet.flow.surrogate import Forces, Rows, Surrogate
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
    loss, processes = loss.like(m), surrogate.processes
    now = surrogate.of_all(loss.force(m))
    speed = surrogate.speed(now) + residual
    open_ = _may_change(loss, m, now.force, speed, dt, processes)
    if surrogate.all_rows is not None:
        rows, part, everyone = None, surrogate.all_rows, open_.to(m.dtype)
    else:
        rows = PaddedRows(open_)
        part, everyone = surrogate.rows(rows), rows.marks(m)
    n_open, jumps = _jumps(part, everyone, loss, processes)
    if max(n_open) == 0.0:
        return Forecast(now.force.to(margins.dtype), margins + speed * per_replica(dt, margins), [0] * len(dt))
    jumps = [length * jump / resolution for length, jump in zip(dt, jumps, strict=True)]
    lost = [not math.isfinite(jump) for jump in jumps]  # the kernel of nodes that have overflowed: the step is too long
    n_sub = [
        SUB_STEPS[0] if math.isnan(jump) else max(SUB_STEPS[0], math.ceil(min(jump, SUB_STEPS[1]))) for jump in jumps
    ]
    if rows is None:
        lengths = [length / n for length, n in zip(dt, n_sub, strict=True)]
        summed = _all_rows(part, loss, m, residual, lengths, n_sub, processes)
        mean = surrogate.of_all(summed / per_replica(n_sub, m))
    else:
        blocks = [math.ceil(n / BLOCK) for n in n_sub]
        per_block = [math.ceil(n / n_blocks) for n, n_blocks in zip(n_sub, blocks, strict=True)]
        n_sub = [n_blocks * n for n_blocks, n in zip(blocks, per_block, strict=True)]
        mean = _in_blocks(surrogate, loss, m, residual, now, (rows, part), dt, blocks, per_block)
    end = margins + (surrogate.speed(mean) + residual) * per_replica(dt, margins)
    if any(lost):
        end[lost] = math.nan
    taken = [n if some > 0.0 else 0 for n, some in zip(n_sub, n_open, strict=True)]
    return Forecast(mean.force.to(margins.dtype), end, taken)


def _may_change(
    loss: MarginLoss, m: Tensor, force: Tensor, speed: Tensor, dt: Sequence[float], processes: Processes
) -> Bool[Tensor, "R N"]:
    """Which examples are so near to the margin h that their force may change within ``dt``."""
    change = speed.abs().mul_(per_replica(dt, speed))
    pushed = force != 0
    sums = processes.sum_rows(torch.stack([(change * pushed).sum(dim=1), pushed.sum(dim=1)]))
    reach = change.add_((sums[0] / sums[1].clamp_min_(1.0))[:, None]).mul_(2.0)
    return ~loss.force_is_constant(m, reach)


def _jumps(part: Rows, everyone: Tensor, loss: MarginLoss, processes: Processes) -> tuple[list[float], list[float]]:
    """How many forces may change, and by how many h a margin in unit time if all did, as root mean square over them.

    Args:
        part: Rows among which they are.
        everyone: 1 for a row whose force may change, else 0.
        loss: The loss.
        processes: How the examples are divided.
    """
    alone = part.speed(everyone, processes.sum_rows(part.sums(everyone))).mul_(everyone).div_(loss.h)
    sums = torch.stack([everyone.sum(dim=1), alone.square_().sum(dim=1)]).double()
    n_open, squares = processes.sum_rows(sums).tolist()
    return n_open, [math.sqrt(square / n) if n else 0.0 for n, square in zip(n_open, squares, strict=True)]


def _all_rows(
    part: Rows,
    loss: MarginLoss,
    m: Tensor,
    residual: Tensor,
    dt: Sequence[float],
    n_sub: Sequence[int],
    processes: Processes,
) -> Float[Tensor, "R N"]:
    """Sums over sub-steps of all forces; replicas that have had theirs leave the batch after some."""
    whole, live = torch.zeros_like(m), list(range(len(dt)))
    for first in range(0, max(n_sub), BLOCK):
        staying = [i for i, r in enumerate(live) if n_sub[r] > first]
        if len(staying) < len(live):
            live = [live[i] for i in staying]
            part, loss, m, residual = part.select(staying), loss.of(staying), m[staying], residual[staying]
        counts = [min(n_sub[r] - first, BLOCK) for r in live]
        nothing = m.new_zeros(len(live), 1, part.features.shape[2])
        summed, m = _sub_steps(part, loss, m, residual, nothing, [dt[r] for r in live], counts, processes)
        whole = (
            whole + summed if len(live) == len(dt) else whole.index_add(0, torch.tensor(live, device=m.device), summed)
        )
    return whole


def _in_blocks(
    surrogate: Surrogate,
    loss: MarginLoss,
    m: Tensor,
    residual: Tensor,
    now: Forces,
    seen: tuple[PaddedRows, Rows],
    dt: Sequence[float],
    blocks: Sequence[int],
    per_block: Sequence[int],
) -> Forces:
    """Means over sub-steps: only those forces are followed that may change, which is looked at anew in every block."""
    total = Forces(torch.zeros_like(now.force), torch.zeros_like(now.features))
    live, rows, part = list(range(len(dt))), *seen
    for number in range(max(blocks)):
        lengths, counts = [dt[r] / (blocks[r] * per_block[r]) for r in live], [per_block[r] for r in live]
        block = _of_open_rows(part, rows, loss, m, residual, now, lengths, counts, surrogate.processes)
        there = torch.tensor(live, device=m.device)
        total = Forces(*(sums.index_add(0, there, some) for sums, some in zip(total, block, strict=True)))
        staying = [i for i, r in enumerate(live) if blocks[r] > number + 1]
        if not staying:
            break
        mean = _divided(block, counts)
        if len(staying) < len(live):
            live = [live[i] for i in staying]
            surrogate, loss = surrogate.select(staying), loss.of(staying)
            m, residual, mean = m[staying], residual[staying], Forces(*(values[staying] for values in mean))
        lengths = [dt[r] / blocks[r] for r in live]
        m = m + ((surrogate.speed(mean) + residual) * per_replica(lengths, residual)).to(m.dtype)
        now = surrogate.changed(mean, loss.force(m))
        speed = surrogate.speed(now) + residual
        rows = PaddedRows(_may_change(loss, m, now.force, speed, lengths, surrogate.processes))
        part = surrogate.rows(rows)
    return _divided(total, [n_blocks * n for n_blocks, n in zip(blocks, per_block, strict=True)])


def _of_open_rows(
    part: Rows,
    rows: PaddedRows,
    loss: MarginLoss,
    margins: Tensor,
    residual: Tensor,
    now: Forces,
    dt: Sequence[float],
    n_sub: Sequence[int],
    processes: Processes,
) -> Forces:
    """Sums over sub-steps; the forces of the rows that are not open are constant."""
    counts, start = per_replica(n_sub, now.force), rows.take(now.force)
    others = now.features - processes.sum_rows(part.sums(start))
    total, _ = _sub_steps(part, loss, rows.take(margins), rows.take(residual), others, dt, n_sub, processes)
    force = now.force * counts
    rows.put(total, force)
    change = processes.sum_rows(part.sums(total - start * counts))
    return Forces(force, now.features * per_replica(n_sub, now.features) + change)


def _sub_steps(
    part: Rows,
    loss: MarginLoss,
    m: Tensor,
    residual: Tensor,
    others: Tensor,
    dt: Sequence[float],
    n_sub: Sequence[int],
    processes: Processes,
) -> tuple[Float[Tensor, "R n"], Float[Tensor, "R n"]]:
    """Sums of the forces of some rows over their sub-steps, and the margins after the last.

    A sub-step is four operations: the residual is the gain of a feature whose sum is always 1.
    """
    length = per_replica(dt, m)
    gain, own = part.gain * per_replica(dt, part.gain), part.kappa * length
    torch.mul(residual, length, out=gain[:, -1])
    others = others.clone()
    others[..., -1] = 1.0
    if processes.divide == "rows" and processes.rank > 0:
        others.zero_()  # the first process adds them to the sums
    forces = []
    with one_thread():
        for _ in range(max(n_sub)):
            phi = loss.force(m)
            sums = processes.sum_rows(torch.baddbmm(others, phi[:, None], part.features))
            m = torch.baddbmm(m[:, None], sums, gain).squeeze(1).addcmul_(own, phi)
            forces.append(phi)
    stacked = torch.stack(forces)
    if min(n_sub) < len(forces):
        going = torch.arange(len(forces))[:, None] < torch.tensor(n_sub)
        stacked.mul_(going.to(stacked)[..., None])
    return stacked.sum(dim=0), m


def _divided(sums: Forces, n_sub: Sequence[int]) -> Forces:
    """Means over the sub-steps."""
    return Forces(sums.force / per_replica(n_sub, sums.force), sums.features / per_replica(n_sub, sums.features))
