"""Margins let alone for a step: the averaged forces of `mfnet.flow.averaged`, from the surrogate kernel.

Every replica takes its own number of sub-steps, side by side with the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mfnet.compute.graphs import Recorded
from mfnet.compute.processes import Processes
from mfnet.compute.threads import one_thread
from mfnet.flow.rows import PaddedRows, per_replica
from mfnet.flow.surrogate import Forces, Rows, Surrogate
from mfnet.network.losses import LOSSES, MarginLoss

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
    rows = PaddedRows(open_) if surrogate.all_rows is None else None
    part, everyone = surrogate.rows(rows), open_.to(m.dtype) if rows is None else rows.marks(m)
    n_open, jumps = _jumps(part, everyone, loss, processes)
    if max(n_open) == 0.0:
        return Forecast(now.force.to(margins.dtype), margins + speed * per_replica(dt, margins), [0] * len(dt))
    evenly = rows is not None
    plan = [_sub_steps_and_block(length * jump / resolution, evenly) for length, jump in zip(dt, jumps, strict=True)]
    mean = _in_blocks(surrogate, loss, m, residual, now, (rows, part), dt, plan)
    end = margins + (surrogate.speed(mean) + residual) * per_replica(dt, margins)
    lost = [not math.isfinite(jump) for jump in jumps]  # the kernel of nodes that have overflowed: the step is too long
    if any(lost):
        end[lost] = math.nan
    taken = [n_sub if n > 0.0 else 0 for (n_sub, _), n in zip(plan, n_open, strict=True)]
    force = _unchanged(mean.force, now.force) if loss.jumps and not loss.switches else mean.force
    return Forecast(force.to(margins.dtype), end, taken)


def _unchanged(mean: Tensor, start: Tensor) -> Tensor:
    """Means of forces, which are those of the start where they differ by rounding: these have not changed."""
    rounding = SUB_STEPS[1] * torch.finfo(mean.dtype).eps
    return start.where((mean - start).abs() <= rounding * start.abs(), mean)


def _sub_steps_and_block(jump: float, evenly: bool) -> tuple[int, int]:
    """Sub-steps that resolve a change of the margins by so many times what is allowed, and how many are a block.

    Blocks of even lengths are for looks between them; else only the last is shorter, so that one block is as another.
    """
    fewest, most = SUB_STEPS
    n_sub = fewest if math.isnan(jump) else max(fewest, math.ceil(min(jump, most)))
    if not evenly:
        return n_sub, BLOCK
    blocks = math.ceil(n_sub / BLOCK)
    return blocks * math.ceil(n_sub / blocks), math.ceil(n_sub / blocks)


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


def _in_blocks(
    surrogate: Surrogate,
    loss: MarginLoss,
    m: Tensor,
    residual: Tensor,
    now: Forces,
    seen: tuple[PaddedRows | None, Rows],
    dt: Sequence[float],
    plan: Sequence[tuple[int, int]],
) -> Forces:
    """Means over the sub-steps; replicas that have had theirs leave the batch after a block.

    Unless K̂ is written out, only those forces are followed that may change, which is looked at anew in every block.
    """
    total = Forces(torch.zeros_like(now.force), torch.zeros_like(now.features))
    live, (rows, part) = list(range(len(dt))), seen
    left = [n_sub for n_sub, _ in plan]
    while True:
        counts = [min(plan[r][1], left[r]) for r in live]
        steps = [dt[r] / plan[r][0] for r in live]
        block, m_end = _block(part, rows, loss, m, residual, now, steps, counts, surrogate.processes)
        if len(live) == len(dt):
            total = Forces(total.force + block.force, total.features + block.features)
        else:
            there = torch.tensor(live, device=m.device)
            total = Forces(*(sums.index_add(0, there, some) for sums, some in zip(total, block, strict=True)))
        for r, count in zip(live, counts, strict=True):
            left[r] -= count
        staying = [i for i, r in enumerate(live) if left[r] > 0]
        if not staying:
            return _divided(total, [n_sub for n_sub, _ in plan])
        mean = _divided(block, counts)
        if len(staying) < len(live):
            live = [live[i] for i in staying]
            surrogate, loss = surrogate.select(staying), loss.of(staying)
            now, mean = (Forces(*(values[staying] for values in forces)) for forces in (now, mean))
            m, m_end, residual = (values[staying] for values in (m, m_end, residual))
        if rows is not None:
            lengths = [dt[r] * plan[r][1] / plan[r][0] for r in live]
            m = m + ((surrogate.speed(mean) + residual) * per_replica(lengths, residual)).to(m.dtype)
            now = surrogate.changed(mean, loss.force(m))
            speed = surrogate.speed(now) + residual
            rows = PaddedRows(_may_change(loss, m, now.force, speed, lengths, surrogate.processes))
        else:
            m = m_end
        part = surrogate.rows(rows)


def _block(
    part: Rows,
    rows: PaddedRows | None,
    loss: MarginLoss,
    margins: Tensor,
    residual: Tensor,
    now: Forces,
    dt: Sequence[float],
    n_sub: Sequence[int],
    processes: Processes,
) -> tuple[Forces, Float[Tensor, "R n"]]:
    """Sums over sub-steps, in which the forces of rows that are left out are constant, and the margins at the end."""
    if rows is None:
        total, m = _followed(part, loss, margins, residual, None, dt, n_sub, processes)
        return Forces(total, processes.sum_rows(part.sums(total))), m
    start = rows.take(now.force)
    others = now.features - processes.sum_rows(part.sums(start))
    taken = rows.take(margins), rows.take(residual)
    total, m = _followed(part, loss, *taken, others, dt, n_sub, processes)
    force = now.force * per_replica(n_sub, now.force)
    rows.put(total, force)
    change = processes.sum_rows(part.sums(total - start * per_replica(n_sub, start)))
    return Forces(force, now.features * per_replica(n_sub, now.features) + change), m


def _followed(
    part: Rows,
    loss: MarginLoss,
    m: Tensor,
    residual: Tensor,
    others: Tensor | None,
    dt: Sequence[float],
    n_sub: Sequence[int],
    processes: Processes,
) -> tuple[Float[Tensor, "R n"], Float[Tensor, "R n"]]:
    """Sums of the forces of some rows over sub-steps, and the margins at the end.

    ``others`` are the features of the rows that are not followed. Where the gain is written out, a sub-step is four
    operations: the residual is the gain of a feature whose sum is 1.
    """
    own, drift = part.kappa * per_replica(dt, part.kappa), (residual * per_replica(dt, residual)).to(m.dtype)
    features, kernel = part.features, None
    base = features.new_zeros(len(dt), features.shape[2]) if others is None else others[:, 0].clone()
    if part.gain is not None:
        gain = part.gain * per_replica(dt, part.gain)
        base[:, -1], gain[:, -1] = 1.0, drift
    else:
        gain, kernel = features.mT, part.kernel * per_replica(dt, part.kernel)
    if processes.divide == "rows" and processes.rank > 0:
        base = torch.zeros_like(base)  # the first process adds it to the sums
    alone = len(dt) == 1 and not isinstance(loss.h, Tensor)
    if alone:  # products of vectors with matrices are faster than batches of one
        m, base, features, gain, own, drift = (values[0] for values in (m, base, features, gain, own, drift))
        kernel = None if kernel is None else kernel[0]
    given, steps = (m, base, features, gain, own, drift), partial(_sub_steps, loss, processes)
    if alone and kernel is None and part.recorded is not None and _recordable(loss, m, processes):
        block = Recorded(lambda *given: tuple(torch.stack(each) for each in steps(BLOCK, None, *given)))
        total, margins = part.recorded.setdefault(loss, block)(*given)  # what follows the last sub-step is not used
        return total[: n_sub[0]].sum(dim=0, keepdim=True), margins[n_sub[0] - 1][None].clone()
    with one_thread():
        forces, ends = steps(max(n_sub), kernel, *given)
    total = torch.stack(forces)
    if alone:
        return total.sum(dim=0, keepdim=True), ends[-1][None]
    if min(n_sub) < len(total):
        going = torch.arange(len(total))[:, None] < torch.tensor(n_sub)
        total.mul_(going.to(total)[..., None])
    return total.sum(dim=0), ends[-1]


def _recordable(loss: MarginLoss, m: Tensor, processes: Processes) -> bool:
    """Whether sub-steps can be recorded: they may not wait, neither for another process nor for what a user wrote."""
    return Recorded.possible(m) and processes.divide != "rows" and type(loss) in LOSSES.values()


def _sub_steps(
    loss: MarginLoss,
    processes: Processes,
    n: int,
    kernel: Tensor | None,
    m: Tensor,
    base: Tensor,
    features: Tensor,
    gain: Tensor,
    own: Tensor,
    drift: Tensor,
) -> tuple[list[Tensor], list[Tensor]]:
    """The forces of ``n`` sub-steps, and the margins after each."""
    forces, ends = [], []
    for _ in range(n):
        phi = loss.force(m)
        sums = processes.sum_rows(_product(phi, features, base))
        if kernel is None:
            m = _product(sums, gain, m).addcmul_(own, phi)
        else:
            m = _product(_product(sums, kernel), gain, m).addcmul_(own, phi).add_(drift)
        forces.append(phi)
        ends.append(m)
    return forces, ends


def _product(vector: Tensor, matrix: Tensor, base: Tensor | None = None) -> Tensor:
    """vector · matrix, and base if there is one, of one replica without its dimension, or of each."""
    if matrix.ndim == 2:
        return vector @ matrix if base is None else torch.addmv(base, matrix.T, vector)
    vectors = vector[:, None]
    return (torch.bmm(vectors, matrix) if base is None else torch.baddbmm(base[:, None], vectors, matrix)).squeeze(1)


def _divided(sums: Forces, n_sub: Sequence[int]) -> Forces:
    """Means over the sub-steps."""
    return Forces(sums.force / per_replica(n_sub, sums.force), sums.features / per_replica(n_sub, sums.features))
