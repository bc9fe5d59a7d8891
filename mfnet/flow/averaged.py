"""Force averaging."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.drive import Batch
from mfnet.flow.adaptive import AdaptiveFlow
from mfnet.flow.motion import Rates, Straight, Turning
from mfnet.flow.objective import Objective
from mfnet.flow.surrogate import Surrogate
from mfnet.losses import MarginLoss

#: Fewest and most sub-steps of a step in which a force changes.
SUB_STEPS = (8, 256)


#: Share of the loss at the beginning of a step by which its forecast may miss, so that the last examples are
#: satisfied when they are, and not some steps later.
MISSED = 0.25


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


class Averaged(AdaptiveFlow):
    """Adaptive steps under forces that are averaged over each step.

    Nodes turn, or move straight where the activation is not homogeneous.

    Args:
        objective: What to follow, on a fixed training set.
        resolution: Change of a margin in a sub-step if all forces that may change changed at once, in units of rtol·h.
        memory: Share of the mismatch between forecast and network that is carried into the next forecast.
        tolerance: The fields of `Tolerance`.

    Attributes:
        n_sub: Sub-steps so far.
    """

    _margins: Tensor | None = None
    _residual: Tensor | None = None
    _inputs: Batch | None = None

    def __init__(self, objective: Objective, *, resolution: float = 2.0, memory: float = 0.5, **tolerance: Any):
        homogeneous = objective.network.activation.homogeneous
        super().__init__(objective, Turning(objective) if homogeneous else Straight(), **tolerance)
        self.resolution, self.memory = resolution, memory
        self.n_sub = 0
        self._impulse = self._slid = self._since = 0.0

    @property
    def mean_force(self) -> float:
        """⟨φ̄⟩ over examples and the time since the last call of `step`; before the first, of equal margins 0."""
        force = self.objective.margin_loss.force(torch.zeros(()))
        return self._impulse / self._since if self._since else float(force)

    @property
    def sliding(self) -> float:
        """Share of examples whose force changed during a step, over the same time."""
        return self._slid / self._since if self._since else 0.0

    def _advance_to(self, until: float) -> None:
        self._impulse = self._slid = self._since = 0.0
        super()._advance_to(until)

    def _begin(self) -> Float[Tensor, " N"]:
        if self._margins is None or self._residual is None or self._inputs is None:
            self._margins = self.objective.margins()
            residual = torch.zeros_like(self._margins) if self._residual is None else self._residual
            self._residual = residual.to(self._margins.device)
            batch = self.objective.source(0)
            # a force that jumps is an exact multiple of 1/n_sub, whatever the type that its margin was followed in
            self._inputs = Batch(*(values.float() for values in batch)) if self._loss.jumps else batch
        self._surrogate = Surrogate(self.objective.network, self._inputs)
        return self._margins

    def _present_rates(self) -> Rates:
        assert self._margins is not None
        return self.motion.forced(self.objective, self.objective.margin_loss.force(self._margins))

    @property
    def _loss(self) -> MarginLoss:
        """The loss of the forecasts; where its force jumps, its margin is larger by half of rtol.

        Examples then slide a little above the margin, where they are satisfied as they are when they slide along it
        exactly, and forecasts that miss by less do not keep a run from its end.
        """
        loss = self.objective.margin_loss
        return replace(loss, h=loss.h * (1.0 + 0.5 * self.tolerance.rtol)) if loss.jumps else loss

    def _try(self, dt: float) -> float:
        assert self._margins is not None
        assert self._residual is not None
        loss, processes = self._loss, self.objective.network.processes
        resolution = self.resolution * self.tolerance.rtol
        self._forecast = forecast(self._surrogate, loss, self._margins, self._residual, dt, resolution)
        force = self._forecast.force

        def rates() -> Rates:
            return self.motion.forced(self.objective, force)

        node_error = self._move_second_order(dt, rates(), rates)
        self._end = self.objective.margins()
        certain = (force == loss.force(self._margins)) & (force == loss.force(self._end))
        mismatch = (loss(self._forecast.margins) - loss(self._end)).abs().masked_fill_(certain, 0.0)
        sums = torch.stack([mismatch.sum(), force.count_nonzero(), loss(self._margins).sum()])
        missed, forced, left = processes.sum_rows(sums).tolist()
        allowed = min(forced * float(loss(torch.zeros(()))) * (10.0 * self.tolerance.rtol) ** 2, MISSED * left)
        return max(node_error, missed / allowed if missed > 0.0 else 0.0) if allowed > 0.0 else math.inf

    def _take(self, dt: float) -> None:
        assert self._margins is not None
        assert self._residual is not None
        force, processes = self._forecast.force, self.objective.network.processes
        changing = force != self._loss.force(self._margins)
        means = processes.sum_rows(torch.stack([force.sum(), changing.sum()])) / processes.count_rows(len(force))
        self._impulse, self._slid = self._impulse + dt * float(means[0]), self._slid + dt * float(means[1])
        self._since += dt
        self.n_sub += self._forecast.n_sub
        self._residual = self._residual + (self._end - self._forecast.margins) * (self.memory / dt)
        self._margins = self._end

    def state_dict(self) -> dict[str, Any]:
        residual = None if self._residual is None else self.objective.network.processes.gather_rows(self._residual)
        return {**super().state_dict(), "forecast": {"residual": residual, "n_sub": self.n_sub}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        saved = state.pop("forecast")
        super().load_state_dict(state)
        self.n_sub, self._margins = saved["n_sub"], None
        residual = saved["residual"]
        self._residual = None if residual is None else self.objective.network.processes.take_rows(residual)


def forecast(
    surrogate: Surrogate,
    loss: MarginLoss,
    margins: Float[Tensor, " N"],
    residual: Float[Tensor, " N"],
    dt: float,
    resolution: float,
) -> Forecast:
    """Lets the margins move alone for a time ``dt``: dm/dt = K̂φ/N + r.

    Examples so far from the margin h that their force cannot change are left out of the sub-steps; what they do
    to the others is constant.

    Args:
        surrogate: The kernel K̂.
        loss: The loss.
        margins: Margins at the beginning.
        residual: Velocity r that the surrogate has lately missed.
        dt: Length of the step.
        resolution: Longest sub-step: change of a margin, in units of h, if all forces that may change changed by 1.
    """
    processes = surrogate.processes
    start = loss.force(margins)
    change = (surrogate(start) + residual).abs() * dt
    pushed = start != 0
    sums = processes.sum_rows(torch.stack([change[pushed].sum(), pushed.sum()]))
    reach = 2.0 * (change + sums[0] / sums[1].clamp_min(1.0))
    open_rows = (~loss.force_is_constant(margins, reach)).nonzero().squeeze(1)
    if processes.count_rows(len(open_rows)) == 0:
        return Forecast(start, margins + dt * (surrogate(start) + residual), 0)

    part = surrogate.rows(open_rows)
    ones = torch.ones_like(part.kappa)
    squares = processes.sum_rows(part.speed(ones, processes.sum_rows(part.features(ones))).square().sum())
    jump = dt * math.sqrt(float(squares) / processes.count_rows(len(open_rows)))
    n_sub = min(max(math.ceil(jump / (resolution * loss.h)), SUB_STEPS[0]), SUB_STEPS[1])
    constant = start.clone()
    constant[open_rows] = 0.0
    features = processes.sum_rows(surrogate.features(constant))
    m, r = margins[open_rows].to(ones.dtype), residual[open_rows].to(ones.dtype)
    total = torch.zeros_like(m)
    with _one_thread():
        for _ in range(n_sub):
            phi = loss.force(m)
            total += phi
            m += (part.speed(phi, features + processes.sum_rows(part.features(phi))) + r).mul_(dt / n_sub)
    force = start
    force[open_rows] = (total / n_sub).to(force.dtype)
    return Forecast(force, margins + dt * (surrogate(force) + residual), n_sub)


@contextmanager
def _one_thread() -> Iterator[None]:
    """For operations too small to share: on a busy machine each would wait for the slower thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
