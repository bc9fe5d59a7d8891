"""Margins let alone for a step: the averaged forces of `mfnet.flow.averaged`, from the surrogate kernel."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.flow.surrogate import SomeRows, Surrogate
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

    force: Float[Tensor, " N"]
    margins: Float[Tensor, " N"]
    n_sub: int


def forecast(
    surrogate: Surrogate,
    loss: MarginLoss,
    margins: Float[Tensor, " N"],
    residual: Float[Tensor, " N"],
    dt: float,
    resolution: float,
) -> Forecast:
    """Lets the margins move alone for a time ``dt``: dm/dt = K̂φ/N + r.

    Args:
        surrogate: The kernel K̂.
        loss: The loss.
        margins: Margins at the beginning.
        residual: Velocity r that the surrogate has lately missed.
        dt: Length of the step.
        resolution: Longest sub-step: change of a margin, in units of h, if all forces that may change changed by 1.
    """
    processes, m = surrogate.processes, margins.to(surrogate.kappa.dtype)
    force = loss.force(m)
    now = _Forces(force, processes.sum_rows(surrogate.features(force)))
    speed = surrogate.speed(*now) + residual
    open_rows = _open_rows(surrogate, loss, m, force, speed, dt)
    n_open = processes.count_rows(len(open_rows))
    if n_open == 0:
        return Forecast(force.to(margins.dtype), margins + dt * speed, 0)
    part = surrogate.rows(open_rows)
    everyone = torch.ones_like(part.kappa)
    alone = part.speed(everyone, processes.sum_rows(part.sums(everyone)), torch.zeros_like(everyone))
    jump = dt * math.sqrt(float(processes.sum_rows(alone.square().sum())) / n_open)
    if not math.isfinite(jump):  # the kernel of nodes that have overflowed: the step is too long
        return Forecast(force.to(margins.dtype), torch.full_like(margins, math.nan), 0)
    n_sub = min(max(math.ceil(jump / (resolution * loss.h)), SUB_STEPS[0]), SUB_STEPS[1])

    n_blocks = math.ceil(n_sub / BLOCK)
    per_block = math.ceil(n_sub / n_blocks)
    n_sub = n_blocks * per_block
    block = total = _Forces(torch.zeros_like(now.force), torch.zeros_like(now.features))
    for number in range(n_blocks):
        if number > 0:
            mean = _Forces(block.force / per_block, block.features / per_block)
            m = m.add((surrogate.speed(*mean) + residual).to(m.dtype), alpha=dt / n_blocks)
            force = loss.force(m)
            now = _Forces(force, mean.features + processes.sum_rows(surrogate.features_of_change(force - mean.force)))
            speed = surrogate.speed(*now) + residual
            open_rows = _open_rows(surrogate, loss, m, force, speed, dt / n_blocks)
            part = surrogate.rows(open_rows)
        block = _sub_steps(part, processes, loss, m, residual, now, open_rows, dt / n_sub, per_block)
        total = _Forces(total.force + block.force, total.features + block.features)
    mean = _Forces(total.force / n_sub, total.features / n_sub)
    return Forecast(mean.force.to(margins.dtype), margins + dt * (surrogate.speed(*mean) + residual), n_sub)


class _Forces(NamedTuple):
    """Forces of this process's examples, or sums of such over sub-steps, and their features of all examples."""

    force: Float[Tensor, " N"]
    features: Float[Tensor, " k"]


def _open_rows(surrogate: Surrogate, loss: MarginLoss, m: Tensor, force: Tensor, speed: Tensor, dt: float) -> Tensor:
    """Examples so near to the margin h that their force may change within ``dt``."""
    change = speed.abs() * dt
    pushed = force != 0
    sums = surrogate.processes.sum_rows(torch.stack([change[pushed].sum(), pushed.sum()]))
    reach = 2.0 * (change + sums[0] / sums[1].clamp_min(1.0))
    return (~loss.force_is_constant(m, reach)).nonzero().squeeze(1)


def _sub_steps(
    part: SomeRows,
    processes: Processes,
    loss: MarginLoss,
    margins: Tensor,
    residual: Tensor,
    now: _Forces,
    open_rows: Tensor,
    dt: float,
    n_sub: int,
) -> _Forces:
    """Sums over ``n_sub`` sub-steps of the forces of the open rows; those of the others are constant."""
    m, force = margins[open_rows], now.force * n_sub
    start, total = now.force[open_rows], torch.zeros_like(m)
    others = now.features - processes.sum_rows(part.sums(start))
    drift = residual[open_rows].to(m.dtype)
    with one_thread():
        for _ in range(n_sub):
            phi = loss.force(m)
            total += phi
            sums = processes.sum_rows(part.sums(phi)).add_(others)
            m += part.speed(phi, sums, drift).mul_(dt)  # margins are rounded once
    change = processes.sum_rows(part.sums(total - start * n_sub))
    force[open_rows] = total
    return _Forces(force, now.features * n_sub + change)
