"""Force averaging: large steps through dynamics whose forces jump.

**The problem.** The force of a hinge jumps at the margin. Examples that have reached it are pushed back below by
others, pick up a force, and slide along it; a method with instantaneous forces then makes each step as short as their
chatter. This is a sliding mode of a differential equation with a discontinuous right-hand side (A. F. Filippov, 1988),
and the mean force that keeps an example on the margin is its equivalent control (V. I. Utkin, 1992).

**The method.** Over a step Δt the nodes see the forces almost only through their time averages φ̄_n: by Magnus'
expansion the nodes' motion under φ(t) and under φ̄ differ by a commutator, of third order in Δt. So a step

1. lets the margins alone evolve, in n_s cheap sub-steps, by ``dm/dt = K̂φ(m)/N + r`` with a low-rank surrogate K̂ of
   the tangent kernel (`mfnet.flow.forecast`; no sub-step depends on M). φ̄_n is the mean force of the sub-steps.
   Of more than 512 examples only those near enough to the margin to reach it take part, which is looked at anew every
   16 sub-steps; what the others do to them is constant;
2. takes the true drive B(θ, φ̄) at its beginning, and half of the change that the last step has seen, and moves the
   nodes by an exact rotation (`mfnet.flow.motion`; straight lines where the activation is not homogeneous): the method
   of Adams and Bashforth, of second order. The change is scaled by the square of the mean force, with which it falls;
3. computes, in one pass over the examples, the margins of the new nodes and their drive under the same φ̄. Its
   difference from the drive at the beginning is the change that the next step starts from.

The drive is linear in the forces. What the next step needs is that of step 3 corrected by the examples whose averaged
force has changed, often a tenth of them; so a step costs two products of all nodes with all examples while no
force changes, and one to two later.

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

**Measured** to the end of a run (float64, N = 2000, M = 400, d = 100, hinge; against 40 000 fixed rotations): error of
the parameters, relative to their displacement, at four times in units of `MeanField.time_scale`, and the largest
errors of the loss and the test error at these times; in the last rows how far 20 000 rotations are from the reference.
At α ≤ 1 all examples are satisfied at the end.

======  =====  =====  =====  =====  =====  =====  ======  ==========
α       rtol   steps  .5     1.4    5      20     loss    test error
======  =====  =====  =====  =====  =====  =====  ======  ==========
10³     0.03   8      .025   .017   .080   .069   1.5e-2  .0114
..      0.01   12     .023   .013   .019   .026   6.2e-4  .0045
..      0.003  34     .006   .004   .005   .010   1.4e-4  .0029
..      0.001  145    .000   .001   .001   .005   6.6e-5  .0003
..      fixed  20000  .000   .000   .000   .000   2.7e-5  .0002
1       0.03   12     .041   .072   .090   .091   1.2e-2  .0012
..      0.01   24     .011   .017   .040   .041   6.9e-4  .0006
..      0.003  100    .002   .005   .014   .015   6.3e-4  .0008
..      0.001  550    .001   .001   .004   .004   2.3e-4  .0002
..      fixed  20000  .000   .000   .000   .000   8.1e-5  .0000
10⁻²    0.03   17     .062   .102   .193   .193   6.8e-3  .0035
..      0.01   46     .018   .043   .108   .108   2.0e-3  .0003
..      0.003  277    .003   .014   .051   .051   5.0e-4  .0004
..      0.001  1886   .001   .007   .033   .033   6.3e-5  .0003
..      fixed  20000  .000   .003   .016   .016   1.3e-4  .0001
10⁻³    0.03   21     .111   .128   .251   .251   7.1e-4  .0020
..      0.01   54     .021   .056   .140   .140   2.0e-3  .0018
..      0.003  329    .004   .021   .069   .069   4.5e-4  .0003
..      0.001  2473   .001   .009   .037   .037   3.0e-5  .0004
..      fixed  20000  .000   .006   .025   .025   1.0e-4  .0008
======  =====  =====  =====  =====  =====  =====  ======  ==========

So rtol is the tolerance of a step, and not the error of a run. What its steps add up to at the end is 2.6 times the
default rtol at α = 10³, 4 times at α = 1 and 11 to 14 times at α ≤ 10⁻². It falls in proportion to rtol for α ≥ 1, and
as rtol to the power 0.5 to 0.6 below: there nodes grow on what they are, gates make the errors of steps a random walk
(limit 1). Fixed rotations converge as slowly: with four times the steps the difference halves. For rtol to be the
error of a rich run it would have to be taken 14 times smaller, at forty times as many steps. What is learned is not
touched: test errors agree to 0.002 at the default, and to 0.005 when lazy.

Steps at the default tolerance (M = 400, d = 100, hinge, two looks on the way; to t = 75000 at α = 10³ and 0.75 at
α = 10⁻³, where the paper's Fig. 2 ends, and at α = 1 to t = 5000, where Fig. 1 ends, or to full fit at N = 10⁴ and
3·10⁴):

======  ===  ======  =====
N, α =  10³  1       10⁻³
======  ===  ======  =====
10⁴     34   26      45
3·10⁴   20   43      30
10⁵     15   57      29
======  ===  ======  =====

With smooth losses averaging helps where the kernel is stiff: square loss, α = 10³, t = 3000, N = 2000, rtol = 0.01
takes about 60 evaluations, and adaptive rotations with instantaneous forces eight times as many; at α ≤ 1 it takes
about as many as they. Where N is a few hundred and the network small, a step costs more than the drives it saves:
`scripts/benchmark` compares both there.

**Limits.** (1) Gates: the drive of a finite ReLU network jumps by 1/N wherever an example crosses a node's gate, so
that it is a random walk in time; for centred data the error is then of first order, with a constant of 1/√N, and
second order shows only where the population's drive varies. (2) K̂ holds the constant and linear part of the kernel;
what is left is of relative order 1/d. In few dimensions with many contradictory labels (d = 5, N = 400, 20 % reversed,
M = 40) forecasts miss so much that steps shrink to Δt = 0.1, 13 000 of them between t =
1000 and 3000. Fixed steps (flow=rotation) are then cheaper. In the rich regime nodes align with ±ŵ*, and what an
example does to another depends on whether they are on the same side, of which K̂ knows the constant of F alone. (3)
While nodes grow fast (α ≪ 1, before the first examples are satisfied) the growth itself bounds the step, and averaging
gains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.flow.adaptive import AdaptiveFlow, Tolerance
from mfnet.flow.evaluator import Evaluator
from mfnet.flow.flow import Step
from mfnet.flow.forecast import forecast
from mfnet.flow.motion import moved, velocity
from mfnet.flow.objective import Objective
from mfnet.flow.rows import per_replica
from mfnet.flow.state import OF_NODES, OF_ROWS, State
from mfnet.flow.surrogate import Surrogate
from mfnet.network import Nodes
from mfnet.network.losses import MarginLoss
from mfnet.record.series import MEAN_FORCE, SLIDING

#: Share of the loss at the beginning of a step by which its forecast may miss, so that the last examples are
#: satisfied when they are, and not some steps later.
MISSED = 0.25


@dataclass(frozen=True)
class AveragedState(State):
    """What a step leaves to the next; its rates are those under the forces of the last step.

    Attributes:
        force: Averaged forces φ̄ of the last step.
        residual: Velocity r of the margins that the surrogate has lately missed.
        change: Change of the rates over the last step, under its forces; 0 before the first.
    """

    force: Float[Tensor, "R N"] = field(metadata=OF_ROWS)
    residual: Float[Tensor, "R N"] = field(metadata=OF_ROWS)
    change: Float[Tensor, "R M k"] = field(metadata=OF_NODES)


class Averaged(AdaptiveFlow[AveragedState]):
    """Adaptive steps under forces that are averaged over each step.

    Nodes turn, or move straight where the activation is not homogeneous.

    Args:
        objective: What to follow, on a fixed training set.
        resolution: Change of a margin in a sub-step if all forces that may change changed at once, in units of rtol·h.
        memory: Share of the mismatch between forecast and network that is carried into the next forecast.
        tolerance: The fields of `Tolerance`.

    Raises:
        ValueError: If the examples change from step to step, or the loss is not what its forecasts are measured by.
    """

    state_type = AveragedState

    def __init__(self, objective: Objective, *, resolution: float = 2.0, memory: float = 0.5, **tolerance: Any):
        super().__init__(objective, **tolerance)
        _require_positive(objective.margin_loss)
        self.resolution, self.memory = resolution, memory

    @classmethod
    def steps_at_least(cls, times: Float[np.ndarray, " K"], **settings: Any) -> float:
        forecast_ = 0.1 / settings.get("rtol", Tolerance.rtol)  # which may miss a loss by (10 rtol)²
        return max(super().steps_at_least(times, **settings), forecast_)

    @property
    def observed(self) -> dict[str, Float[np.ndarray, " R"]]:
        """⟨φ̄⟩ over the examples, and the share of them whose force changed during a step, averages over the time.

        Before the first step ⟨φ̄⟩ is the force of equal margins 0.
        """
        progress = self.progress
        at_zero = self.objective.margin_loss.force(torch.zeros(len(progress), 1, dtype=torch.float64)).squeeze(1)
        means = [
            (p.impulse / p.since, p.slid / p.since) if p.since > 0.0 else (force, 0.0)
            for p, force in zip(progress, at_zero.tolist(), strict=True)
        ]
        return dict(zip((MEAN_FORCE, SLIDING), np.array(means).T, strict=True))

    @property
    def n_sub(self) -> int:
        """Sub-steps of all replicas together."""
        return sum(p.n_sub for p in self.progress)

    def _begin(self, evaluator: Evaluator, nodes: Nodes) -> AveragedState:
        force = evaluator.loss.force(evaluator.margins(nodes))
        n_forced = force.count_nonzero(dim=1).tolist()
        rates, margins = evaluator.rates_and_margins(nodes, force, n_forced)
        state = AveragedState((), *nodes, rates, margins, force, torch.zeros_like(force), torch.zeros_like(rates))
        return self._first(evaluator, state, 3.0)

    def _prepare(self, evaluator: Evaluator, state: AveragedState) -> Surrogate:
        return Surrogate.of(evaluator, state.nodes)

    def _propose(
        self, evaluator: Evaluator, state: AveragedState, prepared: Surrogate, dt: Sequence[float]
    ) -> tuple[AveragedState, list[Step]]:
        activation, tolerance = evaluator.activation, self.tolerance
        loss = forecast_loss(evaluator.loss, tolerance.rtol)
        ahead = forecast(prepared, loss, state.margins, state.residual, dt, self.resolution * tolerance.rtol)
        force = ahead.force

        under = self._rates_under(evaluator, state, force, dt)
        expected = state.change * per_replica(under.expected, state.change)
        nodes = moved(activation, state.nodes, torch.add(under.rates, expected, alpha=0.5), dt)
        rates, margins = evaluator.rates_and_margins(nodes, force, under.n_forced)
        change = rates - under.rates

        def measured() -> Iterator[Nodes]:  # one after the other, because each is as large as all nodes
            yield velocity(activation, nodes, change)
            yield velocity(activation, nodes, change - expected)
            yield evaluator.displacement(nodes)

        squares = evaluator.mean_squares(measured())
        changing = force != loss.force(state.margins)
        certain = ~changing & (force == loss.force(margins))
        missed = (loss(ahead.margins) - loss(margins)).abs_().masked_fill_(certain, 0.0)
        at_zero = loss(torch.zeros_like(margins[:, :1])).double().T
        sums = evaluator.sums(missed, loss(state.margins), force, changing, *evaluator.seen(margins))
        steps = []
        for r, seen in enumerate(torch.cat([squares, at_zero, sums]).T.tolist()):
            *errors, moved_, loss_at_zero, missed_, left, force_, changing_, lost, above = seen
            node_error = 0.5 * dt[r] * math.sqrt(max(errors)) / tolerance.allowed(math.sqrt(moved_))
            allowed = min(under.forced[r] * evaluator.N * loss_at_zero * (10.0 * tolerance.rtol) ** 2, MISSED * left)
            error = max(node_error, missed_ / allowed) if allowed > 0.0 else math.inf
            finite = all(map(math.isfinite, (*errors, moved_, missed_)))
            step = Step(
                error=error if finite else math.inf,
                work=under.work[r] + 1.0 + under.forced[r],
                lost=lost,
                satisfied=above / evaluator.N,
                n_sub=ahead.n_sub[r],
                mean_force=force_ / evaluator.N,
                sliding=changing_ / evaluator.N,
            )
            steps.append(step)
        missed_speed = (margins - ahead.margins) * per_replica([self.memory / length for length in dt], margins)
        moved_on: dict[str, Any] = {"rates": rates, "margins": margins, "force": force, "change": change}
        return replace(state, a=nodes.a, w=nodes.w, residual=state.residual + missed_speed, **moved_on), steps

    def _rates_under(
        self, evaluator: Evaluator, state: AveragedState, force: Float[Tensor, "R N"], dt: Sequence[float]
    ) -> _Under:
        """Rates of the present nodes; they are linear in the forces, so that rows with a new force are enough."""
        change = force - state.force
        own = torch.stack([change.count_nonzero(dim=1), force.count_nonzero(dim=1)])
        sums = evaluator.sums(change != 0.0, force != 0.0, force.abs(), state.force.abs())
        n_new, n_forced, new, forced, now, before = torch.cat([own.double(), sums]).tolist()
        anew = [x > y for x, y in zip(new, forced, strict=True)]
        rates, work = state.rates, [0.0] * len(dt)
        if max(new) > 0:
            rows = [int(y if all_ else x) for x, y, all_ in zip(n_new, n_forced, anew, strict=True)]
            if any(anew):
                of_all = torch.tensor(anew, device=force.device)[:, None]
                change = force.where(of_all, change)
                rates = rates.masked_fill(of_all[..., None], 0.0)
            rates = rates + evaluator.rates(state.nodes, change, rows)
            work = [2.0 * (y if all_ else x) / evaluator.N for x, y, all_ in zip(new, forced, anew, strict=True)]
        expected = [
            expected_share(length, p.last_dt, x, y)
            for length, p, x, y in zip(dt, state.progress, now, before, strict=True)
        ]
        return _Under(rates, expected, [int(n) for n in n_forced], [n / evaluator.N for n in forced], work)


class _Under(NamedTuple):
    """What nodes do under new forces.

    Attributes:
        rates: Their rates.
        expected: Share of the last step's change of the rates that is to be expected over the next, no further than
            the last step has seen; it is of second order in the forces, by which nodes turn, and examples then push
            them through other gates.
        n_forced: Number of this process's examples with a force.
        forced: Share of all examples with one.
        work: What the rates have cost.
    """

    rates: Float[Tensor, "R M k"]
    expected: list[float]
    n_forced: list[int]
    forced: list[float]
    work: list[float]


def expected_share(dt: float, last_dt: float, force: float, last_force: float) -> float:
    """Share of the last step's change of the rates that is to be expected over one of ``dt``; 0 before the first.

    Args:
        dt, last_dt: Lengths of this step and the last.
        force, last_force: Σ|φ̄| over them.
    """
    if last_dt <= 0.0 or last_force <= 0.0:
        return 0.0
    return min(dt / last_dt, 1.0) * min(force / last_force, 1.0) ** 2


def _require_positive(loss: MarginLoss) -> None:
    """Refuses a loss relative to which an error means nothing.

    Raises:
        ValueError: If ℓ(0) is not above 0, or ℓ is found to be negative between 0 and 100.
    """
    (values,) = loss.of([0])(torch.linspace(0.0, 100.0, 101, dtype=torch.float64)[None])
    if not float(values[0]) > 0.0 or bool((values < 0.0).any()):
        raise ValueError(
            f"force averaging measures errors relative to the loss that is left, so that ℓ ≥ 0 and ℓ(0) > 0; the loss "
            f"{loss.name} has ℓ(0) = {float(values[0]):g} and falls to {float(values.min()):g}: add a constant, or use "
            "Heun, which does not see the value of the loss"
        )


def forecast_loss(loss: MarginLoss, rtol: float) -> MarginLoss:
    """The loss of the forecasts; where its force jumps, its margin is larger by half of rtol.

    Examples then slide a little above the margin, where they are satisfied as they are when they slide along it
    exactly, and forecasts that miss by less do not keep a run from its end.
    """
    return replace(loss, h=loss.h * (1.0 + 0.5 * rtol)) if loss.jumps else loss
