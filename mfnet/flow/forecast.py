"""Margins let alone for a step: the averaged forces of `mfnet.flow.averaged`, from the surrogate kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.flow.surrogate import Surrogate
from mfnet.losses import MarginLoss

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
    start = loss.force(margins)
    open_rows = _open_rows(surrogate, loss, margins, start, residual, dt)
    n_open = surrogate.processes.count_rows(len(open_rows))
    if n_open == 0:
        return Forecast(start, margins + dt * (surrogate(start) + residual), 0)
    part = surrogate.rows(open_rows)
    squares = surrogate.processes.sum_rows(part(torch.ones_like(part.kappa)).square().sum())
    jump = dt * math.sqrt(float(squares) / n_open)
    if not math.isfinite(jump):  # the kernel of nodes that have overflowed: the step is too long
        return Forecast(start, torch.full_like(margins, math.nan), 0)
    n_sub = min(max(math.ceil(jump / (resolution * loss.h)), SUB_STEPS[0]), SUB_STEPS[1])

    n_blocks = math.ceil(n_sub / BLOCK)
    n_sub = n_blocks * math.ceil(n_sub / n_blocks)
    force, m = torch.zeros_like(start), margins.to(surrogate.kappa.dtype)
    for _ in range(n_blocks):
        block = _block(surrogate, loss, m, residual, dt / n_blocks, n_sub // n_blocks)
        force += block
        m = m + (surrogate(block) + residual).to(m.dtype).mul_(dt / n_blocks)
    force /= n_blocks
    return Forecast(force, margins + dt * (surrogate(force) + residual), n_sub)


def _open_rows(
    surrogate: Surrogate, loss: MarginLoss, margins: Tensor, force: Tensor, residual: Tensor, dt: float
) -> Tensor:
    """Examples so near to the margin h that their force may change within ``dt``."""
    change = (surrogate(force) + residual).abs() * dt
    pushed = force != 0
    sums = surrogate.processes.sum_rows(torch.stack([change[pushed].sum(), pushed.sum()]))
    reach = 2.0 * (change + sums[0] / sums[1].clamp_min(1.0))
    return (~loss.force_is_constant(margins, reach)).nonzero().squeeze(1)


def _block(
    surrogate: Surrogate, loss: MarginLoss, margins: Tensor, residual: Tensor, dt: float, n_sub: int
) -> Float[Tensor, " N"]:
    """Mean forces over ``n_sub`` sub-steps of the examples whose force may change; the others' are constant."""
    processes = surrogate.processes
    force = loss.force(margins)
    open_rows = _open_rows(surrogate, loss, margins, force, residual, dt)
    part, constant = surrogate.rows(open_rows), force.clone()
    constant[open_rows] = 0.0
    features = processes.sum_rows(surrogate.features(constant))
    m, r = margins[open_rows], residual[open_rows].to(margins.dtype)
    total, phi, own = torch.zeros_like(m), torch.zeros_like(m), torch.zeros_like(features)
    with one_thread():
        for _ in range(n_sub):
            before, phi = phi, loss.force(m)
            total += phi
            own += part.features_of_change(phi - before)
            m += (part.speed(phi, features + processes.sum_rows(own.clone())) + r).mul_(dt / n_sub)
    force[open_rows] = total / n_sub
    return force.to(residual.dtype)


@contextmanager
def one_thread() -> Iterator[None]:
    """For operations too small to share: on a busy machine each would wait for the slower thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
