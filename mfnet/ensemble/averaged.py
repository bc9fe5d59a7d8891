"""Force averaging (`mfnet.flow.averaged`) for all replicas at once.

A pass of the loop tries one step of every replica that is on its way: its own Δt, its own error, taken or tried again
shorter on its own. Replicas that have arrived or ended leave the batch. The host holds what controls the steps and
waits for the device a few times a pass, however many replicas there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mfnet.ensemble import drive
from mfnet.ensemble.drive import Nodes
from mfnet.ensemble.flow import EnsembleFlow, Problem, root_mean_square
from mfnet.ensemble.forecast import forecast
from mfnet.ensemble.replicas import Batches, Replicas
from mfnet.ensemble.surrogate import Inputs, surrogates
from mfnet.flow import StopReason, Tolerance
from mfnet.flow.averaged import MISSED, forecast_loss
from mfnet.losses import MarginLoss


class State(NamedTuple):
    """What a step of a replica starts from.

    Attributes:
        a, w: Nodes.
        margins: Their margins.
        force: Averaged forces φ̄ of the last step.
        residual: Velocity r of the margins that the surrogate has lately missed.
        rates: Rates of the nodes under ``force``.
        change: Change of the rates over the last step, under its forces; 0 before the first.
        impulse: Mean of φ̄ over the examples, times the time since the last observation.
        slid: Share of examples whose force changed during a step, likewise.
    """

    a: Float[Tensor, "R M"]
    w: Float[Tensor, "R M d"]
    margins: Float[Tensor, "R N"]
    force: Float[Tensor, "R N"]
    residual: Float[Tensor, "R N"]
    rates: Float[Tensor, "R M k"]
    change: Float[Tensor, "R M k"]
    impulse: Float[Tensor, " R"]
    slid: Float[Tensor, " R"]

    @property
    def nodes(self) -> Nodes:
        """The nodes."""
        return Nodes(self.a, self.w)

    def select(self, there: Tensor) -> State:
        """The state of some replicas."""
        return State(*(values[there] for values in self))


class Control(NamedTuple):
    """Step control of each replica, on the host.

    Attributes:
        dt: Length that the error of the last step allows; not a number before the first.
        kept_dt: Length of the last step; 0 before the first.
        since: Time since the last observation.
        n_rejected: Steps that were tried and not taken.
        n_sub: Sub-steps.
    """

    dt: Float[Tensor, " R"]
    kept_dt: Float[Tensor, " R"]
    since: Float[Tensor, " R"]
    n_rejected: Int[Tensor, " R"]
    n_sub: Int[Tensor, " R"]


class EnsembleAveraged(EnsembleFlow):
    """`mfnet.flow.Averaged` of every replica, its arguments, and its steps but for rounding."""

    def __init__(
        self,
        replicas: Replicas,
        margin_loss: MarginLoss,
        alpha: Float[Tensor, " R"],
        source: Callable[[], Batches],
        *,
        resolution: float = 2.0,
        memory: float = 0.5,
        **tolerance: Any,
    ):
        super().__init__(replicas, margin_loss, alpha, source)
        self.resolution, self.memory, self.tolerance = resolution, memory, Tolerance(**tolerance)
        self.forecast_loss = forecast_loss(margin_loss, self.tolerance.rtol)
        reals, counts = torch.zeros(3, len(replicas), dtype=torch.float64), torch.zeros(2, len(replicas)).long()
        self.control = Control(*reals, *counts)
        self.control.dt.fill_(math.nan if self.tolerance.dt_first is None else self.tolerance.dt_first)
        self._state: State | None = None

    @property
    def mean_force(self) -> Float[Tensor, " R"]:
        """⟨φ̄⟩ over examples and the time since the last call of `step`; before the first, of equal margins 0."""
        return self._per_time("impulse", float(self.margin_loss.force(torch.zeros(()))))

    @property
    def sliding(self) -> Float[Tensor, " R"]:
        """Share of examples whose force changed during a step, over the same time."""
        return self._per_time("slid", 0.0)

    def _per_time(self, name: str, otherwise: float) -> Float[Tensor, " R"]:
        since = self.control.since
        if self._state is None:
            return torch.full_like(since, otherwise)
        return (getattr(self._state, name).cpu() / since).where(since > 0.0, otherwise)

    def _begin(self) -> State:
        """The state of the initial nodes."""
        problem, nodes = self.problem(), Nodes(self.replicas.a.clone(), self.replicas.w.clone())
        margins = problem.present_margins(nodes)
        force = self.margin_loss.force(margins)
        rates, margins, counts = problem.rates_and_margins(nodes, force)
        self.work += 2.0 + counts / force.shape[1]
        nothing = torch.zeros(len(force), dtype=torch.float64, device=force.device)
        state = (*nodes, margins, force, torch.zeros_like(margins), rates, torch.zeros_like(rates))
        return State(*state, nothing, nothing.clone())

    def _advance_to(self, until: float, running: Int[Tensor, " r"]) -> None:
        if self._state is None:
            self._state = self._begin()
        whole, device = self._state, self.replicas.a.device
        for values in (whole.impulse, whole.slid):
            values[running.to(device)] = 0.0
        self.control.since[running] = 0.0

        there = running.to(device)
        state, problem = whole.select(there), self.problem().select(there)
        inputs = self._inputs(problem.batches)
        while True:
            going, dt, last = self._next_steps(until, running, state, problem)
            if not bool(going.all()):
                for values, new in zip(whole, state, strict=True):
                    values[there] = new
                if not bool(going.any()):
                    break
                running, dt, last, remaining = running[going], dt[going], last[going], going.to(device)
                there, state, problem = there[remaining], state.select(remaining), problem.select(remaining)
                inputs = Inputs(*(values[remaining] for values in inputs))
            tried, error, n_sub = self._try(running, state, problem, inputs, dt)
            taken = error <= 1.0
            state = _where(taken.to(device), tried, state)
            self._control_steps(running, dt, error, taken, n_sub)
            self.times[running] = self.times[running].where(~taken, (self.times[running] + dt).where(~last, until))
        self.replicas.a.copy_(whole.a)
        self.replicas.w.copy_(whole.w)

    def _inputs(self, batches: Batches) -> Inputs:
        x, y, _ = batches
        if self.margin_loss.jumps:  # a force that jumps is an exact multiple of 1/n_sub, whatever the type
            x, y = x.float(), y.float()
        return Inputs(x, y, x.square().sum(dim=2).div_(x.shape[2]))

    def _next_steps(
        self, until: float, running: Tensor, state: State, problem: Problem
    ) -> tuple[Bool[Tensor, " r"], Float[Tensor, " r"], Bool[Tensor, " r"]]:
        """Which replicas go on, the lengths of their next steps, and whether these end at ``until``."""
        left, dt_max = until - self.times[running], self.tolerance.dt_max or math.inf
        ended = self._ended(state.margins)
        going = torch.tensor([reason is None for reason in ended]) & (left > 0.0)
        if bool((going & self.control.dt[running].isnan()).any()):
            first = self._first_steps(left, state, problem)
            self.control.dt[running] = self.control.dt[running].where(~self.control.dt[running].isnan(), first)
        n_steps = (left / self.control.dt[running].clamp_max(dt_max) - 1e-9).ceil()
        dt = left / n_steps
        for i, r in enumerate(running.tolist()):
            if going[i] and dt[i] < (self.tolerance.dt_min or 1e-10 * until):
                going[i], ended[i] = False, StopReason.STEP_TOO_SMALL
            self.stop_reasons[r] = ended[i]
        return going, dt, n_steps == 1.0

    def _first_steps(self, longest: Tensor, state: State, problem: Problem) -> Float[Tensor, " r"]:
        """A hundredth of the time in which nodes would move by their own size."""
        speed = root_mean_square(drive.velocity(problem.activation, state.nodes, state.rates)).cpu()
        size = root_mean_square(state.nodes).cpu()
        return torch.minimum(longest, 0.01 * size / speed).where(speed > 0.0, longest)

    def _rates_under(
        self, running: Tensor, state: State, problem: Problem, force: Float[Tensor, "r N"]
    ) -> Float[Tensor, "r M k"]:
        """Rates of the present nodes; they are linear in the forces, so that rows with a new force are enough."""
        change = force - state.force
        new, forced = torch.stack([change.count_nonzero(dim=1), force.count_nonzero(dim=1)]).cpu()
        if int(new.max()) == 0:
            return state.rates
        anew = (new > forced).to(force.device)[:, None]
        rates, counts = problem.rates(state.nodes, force.where(anew, change))
        self.work[running] += 2.0 * counts / force.shape[1]
        return rates + state.rates.masked_fill(anew[..., None], 0.0)

    def _try(
        self, running: Tensor, state: State, problem: Problem, inputs: Inputs, dt: Float[Tensor, " r"]
    ) -> tuple[State, Float[Tensor, " r"], Int[Tensor, " r"]]:
        """The states after steps of ``dt``, their errors in units of what is allowed, and their numbers of sub-steps."""
        activation, loss, device = problem.activation, self.forecast_loss, state.a.device
        resolution = self.resolution * self.tolerance.rtol
        surrogate = surrogates(activation, state.nodes, inputs)
        force, forecasted, n_sub = forecast(surrogate, loss, state.margins, state.residual, dt, resolution)
        length = dt.to(device)

        start, expected = self._rates_under(running, state, problem, force), self._expected_change(running, state, force, dt)
        nodes = drive.moved(activation, state.nodes, torch.add(start, expected, alpha=0.5), length)
        rates, margins, counts = problem.rates_and_margins(nodes, force)
        self.work[running] += 1.0 + counts / force.shape[1]
        change = rates - start
        moved = torch.maximum(
            *(root_mean_square(drive.velocity(activation, nodes, part)) for part in (change, change - expected))
        )
        node_error = 0.5 * length * moved / self.tolerance.allowed(problem.displacement(nodes))

        certain = (force == loss.force(state.margins)) & (force == loss.force(margins))
        mismatch = (loss(forecasted) - loss(margins)).abs_().masked_fill_(certain, 0.0)
        missed, left = mismatch.sum(dim=1), loss(state.margins).sum(dim=1)
        of_forces = float(loss(torch.zeros(()))) * (10.0 * self.tolerance.rtol) ** 2 * counts.to(device)
        allowed = torch.minimum(of_forces, MISSED * left.double())
        error = torch.maximum(node_error, missed / allowed)
        error = error.where(node_error.isfinite() & missed.isfinite() & (allowed > 0.0), math.inf).cpu()

        column = dt.to(device, force.dtype)[:, None]
        residual = state.residual + (margins - forecasted) * (self.memory / column)
        changing = force != loss.force(state.margins)
        impulse, slid = (values.double().mean(dim=1).mul_(length) for values in (force, changing))
        return (
            State(*nodes, margins, force, residual, rates, change, state.impulse + impulse, state.slid + slid),
            error,
            n_sub,
        )

    def _expected_change(self, running: Tensor, state: State, force: Tensor, dt: Tensor) -> Float[Tensor, "r M k"]:
        """How the rates will change over a step, by the last one (`mfnet.flow.Averaged`)."""
        before = self.control.kept_dt[running]
        share = (dt / before).clamp_max(1.0).where(before > 0.0, 0.0).to(force.device)
        now, then = (values.abs().sum(dim=1).double() for values in (force, state.force))
        share = share * (now / then).clamp_max(1.0).square().where(then > 0.0, 0.0)
        return state.change * share.to(force.dtype)[:, None, None]

    def _control_steps(self, running: Tensor, dt: Tensor, error: Tensor, taken: Bool[Tensor, " r"], n_sub: Tensor) -> None:
        """What follows from the errors for the next steps, and the counters."""
        control, factor = self.control, self._factor(error)
        allowed = dt * factor
        held_back = dt <= 0.5 * control.dt[running]  # by an observation
        longer = torch.maximum(allowed, control.dt[running]).where(held_back, allowed)
        control.dt[running] = longer.where(taken, dt * factor.clamp_max(0.8))
        control.kept_dt[running] = dt.where(taken, control.kept_dt[running])
        control.since[running] += dt.where(taken, 0.0)
        control.n_rejected[running] += (~taken).long()
        control.n_sub[running] += n_sub.where(taken, 0)
        self.steps[running] += taken.long()

    def _factor(self, error: Float[Tensor, " r"]) -> Float[Tensor, " r"]:
        """`Tolerance.factor` of each."""
        tolerance = self.tolerance
        factor = (tolerance.safety / error.clamp_min(1e-12).sqrt()).clamp(tolerance.shrink, tolerance.grow)
        return factor.where(error.isfinite(), tolerance.shrink)

    def state_dict(self) -> dict[str, Any]:
        state = None if self._state is None else self._state._asdict()
        return {**super().state_dict(), "averaged": {"state": state, "control": self.control._asdict()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        saved = dict(state_dict)
        own = saved.pop("averaged")
        super().load_state_dict(saved)
        self.control = Control(**{name: values.cpu() for name, values in own["control"].items()})
        device, state = self.replicas.a.device, own["state"]
        self._state = None if state is None else State(**{name: v.to(device) for name, v in state.items()})


def _where(taken: Bool[Tensor, " r"], tried: State, state: State) -> State:
    """``tried`` of the replicas whose step is taken, ``state`` of the others."""
    pairs = zip(tried, state, strict=True)
    return State(*(torch.where(taken.view(-1, *[1] * (new.ndim - 1)), new, old) for new, old in pairs))
