"""Force averaging: large steps through dynamics whose forces jump.

**The problem.** The force of a hinge jumps at the margin. Examples that have reached it are pushed back below by
others, pick up a force, and slide along it; a method with instantaneous forces then makes each step as short as their
chatter.

**The method.** Over a step Δt the nodes see the forces almost only through their time averages φ̄_n: by Magnus'
expansion the nodes' motion under φ(t) and under φ̄ differ by a commutator, of third order in Δt. So a step

1. lets the margins alone evolve, in n_s cheap sub-steps, by ``dm/dt = K̂φ(m)/N + r`` with a low-rank surrogate K̂ of
   the tangent kernel (`mfnet.flow.forecast`; no sub-step depends on M). φ̄_n is the mean force of the sub-steps.
   Only examples near enough to the margin to reach it take part, which is looked at anew every 16 sub-steps; what the
   others do to them is constant;
2. takes the true drive B(θ, φ̄) at its beginning, and half of the change that the last step has seen, and moves the
   nodes by an exact rotation (`mfnet.flow.motion`; straight lines where the activation is not homogeneous): the method
   of Adams and Bashforth, of second order. The change is scaled by the square of the mean force, with which it falls;
3. computes, in one pass over the examples, the margins of the new nodes and their drive under the same φ̄. Its
   difference from the drive at the beginning is the change that the next step starts from.

The drive is linear in the forces. What the next step needs is that of step 3 corrected by the examples whose averaged
force has changed, often a tenth of them; so a step costs two products of all nodes with all examples while no
force changes, and one to two later. (Before, the drives at both ends and the margins each took their own: five.)

The velocity r is half of what the forecasts have lately missed, ``r ← r + ½(m − m̂)/Δt``: it makes the surrogate
right for what changes slowly. Carrying all of it makes sliding examples oscillate, none of it rejects more steps.

**Its error** is controlled twice: by half the change of the drive over the step, and half of what was not expected of
it, as displacements of the nodes, relative to their displacement from the initial ones (``(20 rtol)²``); and by the
loss that the forecast misses, over examples whose force was not constant, relative to ℓ(0) and the number of forces
(``(10 rtol)²``), and to a quarter of what loss is left. The sub-steps are so short that all forces which may change
would move a margin by ``2 rtol h``. Sliding examples are held half of rtol above the margin, so that they count as
satisfied, as they do on it. The surrogate is only a predictor: with a poor one steps are rejected, and the answer is
the same.

**Guarantees.** a² − |w|² is conserved to rounding. Steps land on observation times. Continuing from a checkpoint is
bit-equal to not stopping. A step that overflows is tried again shorter, and the run ends as `step_too_small` if that
leads nowhere.

**Measured** (2 cores; float64, N = 2000, M = 400, d = 100, hinge; against 20 000 fixed rotations; parameters relative
to their displacement, the others absolute, largest over the observations):

======  =====  =====  ===========  ==========  ========  ===========
α, t    rtol   steps  evaluations  parameters  loss      test error
======  =====  =====  ===========  ==========  ========  ===========
1, 300  0.03   13     13           1.2e-1      6.7e-2    0.0095
..      0.01   25     24           3.9e-2      1.2e-3    0.0012
..      0.003  104    91           1.2e-2      7.3e-4    0.0003
..      0.001  557    418          8.0e-3      2.9e-4    0.0003
10⁻³,   0.03   11     14           1.4e-1      3.2e-2    0.0100
0.2     0.01   26     27           5.8e-2      2.0e-3    0.0030
..      0.003  115    114          2.4e-2      7.1e-4    0.0005
..      0.001  560    508          1.2e-2      1.9e-4    0.0006
10³,    0.03   7      9            4.2e-2      2.6e-3    0.0055
3000    0.01   9      10           1.9e-2      1.4e-3    0.0070
..      0.003  19     20           5.3e-3      1.1e-4    0.0020
..      0.001  58     55           1.9e-3      9.0e-5    0.0005
======  =====  =====  ===========  ==========  ========  ===========

Ten times less tolerance gives ten times less error of the parameters when lazy and, from 0.03 to 0.003, at α = 1.
Below, and at α = 10⁻³ (six and five times less), gates make it of first order (limit 1), and the reference is itself
only of first order. The test error column is the larger of the differences of training and test error. At N = 10⁴ it
is 0.0003 to 0.0015 (README).

With smooth losses averaging helps where the kernel is stiff: square loss, α = 10³, t = 3000, N = 2000, rtol = 0.01
then took 62 evaluations, and adaptive rotations with instantaneous forces 493; at α ≤ 1 it takes about as many as
they.

**Limits.** (1) Gates: the drive of a finite ReLU network jumps by 1/N wherever an example crosses a node's gate, so
that it is a random walk in time; for centred data the error is then of first order, with a constant of 1/√N, and
second order shows only where the population's drive varies (tests/test_adaptive.py). (2) K̂ holds the constant and
linear part of the kernel; what is left is of relative order 1/d. In few dimensions with many contradictory labels (d =
5, N = 400, 20 % reversed, M = 40) forecasts miss so much that steps shrink to Δt = 0.1, 21 000 of them between t =
1000 and 3000. Fixed steps (flow=rotation) are then cheaper. In the rich regime nodes align with ±ŵ*, and what an
example does to another depends on whether they are on the same side, which K̂ does not know: features that do took 30
evaluations instead of 38 at α = 1, N = 10⁴ (a sketch, not in use). At N = 10⁵ forecasts and their corrections sway
with a period of about five steps from t = 2000 on, and hold Δt near 10, with or without it. (3) While nodes grow fast
(α ≪ 1, before the first examples are satisfied) the growth itself bounds the step, and averaging gains nothing.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.flow.adaptive import AdaptiveFlow
from mfnet.flow.forecast import forecast
from mfnet.flow.motion import Rates, Straight, Turning
from mfnet.flow.objective import Objective
from mfnet.flow.surrogate import Inputs, Surrogate
from mfnet.losses import MarginLoss

#: Share of the loss at the beginning of a step by which its forecast may miss, so that the last examples are
#: satisfied when they are, and not some steps later.
MISSED = 0.25


class Kept(NamedTuple):
    """What a step leaves to the next, and a checkpoint holds.

    Attributes:
        force: The averaged forces φ̄ of the last step.
        residual: Velocity r of the margins that the surrogate has lately missed.
        dt: Length of the last step; 0 before the first.
        change: Change of the rates over the last step, under its forces; None before the first.
    """

    force: Float[Tensor, " N"]
    residual: Float[Tensor, " N"]
    dt: float = 0.0
    change: Rates | None = None


class Present(NamedTuple):
    """Rates of the present nodes under the forces of the last step, and their margins."""

    rates: Rates
    margins: Float[Tensor, " N"]


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

    _present: Present | None = None
    _kept: Kept | None = None
    _inputs: Inputs | None = None
    _surrogate: Surrogate | None = None

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
        if self._present is None:
            if self._kept is None:
                margins = self.objective.margins()
                self._kept = Kept(self.objective.margin_loss.force(margins), torch.zeros_like(margins))
            rates, margins = self.motion.present(self.objective, self._kept.force)
            self._present = Present(rates, margins)
        return self._present.margins

    def _present_rates(self) -> Rates:
        assert self._present is not None
        return self._present.rates

    @property
    def _loss(self) -> MarginLoss:
        return forecast_loss(self.objective.margin_loss, self.tolerance.rtol)

    def _kernel(self) -> Surrogate:
        """The surrogate kernel of the nodes at the beginning of the step, however often the step is tried."""
        if self._inputs is None:
            x, y, _ = self.objective.source(0)
            # a force that jumps is an exact multiple of 1/n_sub, whatever the type that its margin was followed in
            rounded = (x.float(), y.float()) if self._loss.jumps else (x, y)
            self._inputs = Inputs.of(*rounded, self.objective.network.processes)
        if self._surrogate is None:
            self._surrogate = Surrogate(self.objective.network, self._inputs)
        return self._surrogate

    def _rates_under(self, force: Float[Tensor, " N"]) -> Rates:
        """Rates of the present nodes; they are linear in the forces, so that rows with a new force are enough."""
        assert self._present is not None
        assert self._kept is not None
        change = force - self._kept.force
        new, forced = self.objective.network.processes.sum_rows(
            torch.stack([change.count_nonzero(), force.count_nonzero()])
        ).tolist()
        if new == 0:
            return self._present.rates
        if new > forced:
            return self.motion.forced(self.objective, force)
        return _sum(self.motion.forced(self.objective, change), self._present.rates)

    def _try(self, dt: float) -> float:
        assert self._present is not None
        assert self._kept is not None
        network, loss, margins = self.objective.network, self._loss, self._present.margins
        resolution = self.resolution * self.tolerance.rtol
        self._forecast = forecast(self._kernel(), loss, margins, self._kept.residual, dt, resolution)
        force = self._forecast.force

        start, expected = self._rates_under(force), self._expected_change(dt)
        mean = start if expected is None else _sum(start, expected, 0.5)
        self.motion.move(network.a, network.w, mean, dt)
        self._end = self.motion.present(self.objective, force)
        self._change = _sum(self._end[0], start, -1.0)
        errors = [self._change] if expected is None else [self._change, _sum(self._change, expected, -1.0)]
        moved = max(self._norm(*self.motion.velocity(network.a, network.w, part)) for part in errors)
        node_error = 0.5 * dt * moved / self.tolerance.allowed(self.displacement())

        end_margins = self._end[1]
        certain = (force == loss.force(margins)) & (force == loss.force(end_margins))
        mismatch = (loss(self._forecast.margins) - loss(end_margins)).abs().masked_fill_(certain, 0.0)
        sums = torch.stack([mismatch.sum(), force.count_nonzero(), loss(margins).sum()])
        missed, forced, left = network.processes.sum_rows(sums).tolist()
        allowed = min(forced * float(loss(torch.zeros(()))) * (10.0 * self.tolerance.rtol) ** 2, MISSED * left)
        if not (math.isfinite(node_error) and math.isfinite(missed) and allowed > 0.0):
            return math.inf
        return max(node_error, missed / allowed)

    def _expected_change(self, dt: float) -> Rates | None:
        """How the rates will change over a step, by the last one; None before there was one.

        No further than the last step has seen; and the change is of second order in the forces, by which nodes turn,
        and examples then push them through other gates.
        """
        assert self._kept is not None
        if self._kept.change is None:
            return None
        sums = torch.stack([self._forecast.force.abs().sum(), self._kept.force.abs().sum()])
        now, before = self.objective.network.processes.sum_rows(sums).tolist()
        share = min(dt / self._kept.dt, 1.0) * (min(now / before, 1.0) ** 2 if before > 0.0 else 0.0)
        return tuple(part * share for part in self._kept.change)

    def _take(self, dt: float) -> None:
        assert self._present is not None
        assert self._kept is not None
        force, processes = self._forecast.force, self.objective.network.processes
        changing = force != self._loss.force(self._present.margins)
        means = processes.sum_rows(torch.stack([force.sum(), changing.sum()])) / processes.count_rows(len(force))
        self._impulse, self._slid = self._impulse + dt * float(means[0]), self._slid + dt * float(means[1])
        self._since += dt
        self.n_sub += self._forecast.n_sub
        rates, margins = self._end
        residual = self._kept.residual + (margins - self._forecast.margins) * (self.memory / dt)
        self._kept = Kept(force, residual, dt, self._change)
        self._present = Present(rates, margins)
        self._surrogate = None

    def state_dict(self) -> dict[str, Any]:
        processes, kept = self.objective.network.processes, None
        if self._kept is not None:
            force, residual, dt, change = self._kept
            nodes = change and [processes.gather_nodes(part) for part in change]
            kept = [processes.gather_rows(force), processes.gather_rows(residual), dt, nodes]
        return {**super().state_dict(), "forecast": {"kept": kept, "n_sub": self.n_sub}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        saved = state.pop("forecast")
        super().load_state_dict(state)
        self.n_sub, self._present, self._kept, self._surrogate = saved["n_sub"], None, None, None
        if saved["kept"] is not None:
            processes, device = self.objective.network.processes, self.objective.network.a.device
            force, residual, dt, change = saved["kept"]
            force, residual = (processes.take_rows(part).to(device) for part in (force, residual))
            nodes = change and tuple(processes.take_nodes(part).to(device) for part in change)
            self._kept = Kept(force, residual, dt, nodes)


def forecast_loss(loss: MarginLoss, rtol: float) -> MarginLoss:
    """The loss of the forecasts; where its force jumps, its margin is larger by half of rtol.

    Examples then slide a little above the margin, where they are satisfied as they are when they slide along it
    exactly, and forecasts that miss by less do not keep a run from its end.
    """
    return replace(loss, h=loss.h * (1.0 + 0.5 * rtol)) if loss.jumps else loss


def _sum(rates: Rates, others: Rates, factor: float = 1.0) -> Rates:
    """rates + factor · others."""
    return tuple(torch.add(rate, other, alpha=factor) for rate, other in zip(rates, others, strict=True))
