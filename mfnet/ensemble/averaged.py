"""Force averaging (`mfnet.flow.averaged`) for all replicas at once: each step has its own Δt and its own error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mfnet.ensemble import drive
from mfnet.ensemble.flow import EnsembleFlow
from mfnet.ensemble.forecast import forecast
from mfnet.ensemble.problem import Problem, State, root_mean_square
from mfnet.ensemble.replicas import Batches, Replicas
from mfnet.ensemble.surrogate import surrogates
from mfnet.flow import Tolerance
from mfnet.flow.averaged import MISSED, forecast_loss
from mfnet.losses import MarginLoss


@dataclass(frozen=True)
class AveragedState(State):
    """What a step starts from.

    Attributes:
        force: Averaged forces φ̄ of the last step.
        residual: Velocity r of the margins that the surrogate has lately missed.
        rates: Rates of the nodes under ``force``.
        change: Change of the rates over the last step, under its forces; 0 before the first.
        impulse: Mean of φ̄ over the examples, times the time since the last observation.
        slid: Share of examples whose force changed during a step, likewise.
    """

    force: Float[Tensor, "R N"]
    residual: Float[Tensor, "R N"]
    rates: Float[Tensor, "R M k"]
    change: Float[Tensor, "R M k"]
    impulse: Float[Tensor, " R"]
    slid: Float[Tensor, " R"]


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


class EnsembleAveraged(EnsembleFlow[AveragedState]):
    """`mfnet.flow.Averaged` of every replica, its arguments, and its steps but for rounding."""

    state_type = AveragedState

    def __init__(
        self,
        replicas: Replicas,
        loss: MarginLoss,
        alpha: Float[Tensor, " R"],
        source: Callable[[], Batches],
        *,
        resolution: float = 2.0,
        memory: float = 0.5,
        **tolerance: Any,
    ):
        super().__init__(replicas, loss, alpha, source)
        self.resolution, self.memory, self.tolerance = resolution, memory, Tolerance(**tolerance)
        self.forecast_loss = forecast_loss(loss, self.tolerance.rtol)
        reals, counts = torch.zeros(3, len(replicas), dtype=torch.float64), torch.zeros(2, len(replicas)).long()
        self.control = Control(*reals, *counts)
        self.control.dt.fill_(math.nan if self.tolerance.dt_first is None else self.tolerance.dt_first)

    @property
    def mean_force(self) -> Float[Tensor, " R"]:
        """⟨φ̄⟩ over examples and the time since the last call of `step`; before the first, of equal margins 0."""
        return self._per_time("impulse", float(self.loss.force(torch.zeros(()))))

    @property
    def sliding(self) -> Float[Tensor, " R"]:
        """Share of examples whose force changed during a step, over the same time."""
        return self._per_time("slid", 0.0)

    def _per_time(self, name: str, otherwise: float) -> Float[Tensor, " R"]:
        since = self.control.since
        if self._state is None:
            return torch.full_like(since, otherwise)
        return (getattr(self._state, name).cpu() / since).where(since > 0.0, otherwise)

    def _begin(self) -> AveragedState:
        problem, replicas = self.problem, self.replicas
        nodes = drive.Nodes(replicas.a.clone(), replicas.w.clone())
        force = self.loss.force(problem.margins(nodes))
        rates, margins, counts = problem.rates_and_margins(nodes, force)
        self.work += 2.0 + counts.double() / force.shape[1]
        nothing = torch.zeros(len(force), dtype=torch.float64, device=force.device)
        past = (torch.zeros_like(margins), rates, torch.zeros_like(rates), nothing, nothing.clone())
        return AveragedState(*nodes, margins, force, *past)

    def _advance_to(self, until: float, running: Int[Tensor, " r"], whole: AveragedState) -> None:
        for values in (self.control.since, whole.impulse, whole.slid):
            values[running.to(values.device)] = 0.0
        super()._advance_to(until, running, whole)

    def _longest(
        self, running: Tensor, left: Float[Tensor, " r"], state: AveragedState, problem: Problem
    ) -> Float[Tensor, " r"]:
        dt = self.control.dt[running]
        if bool(dt.isnan().any()):  # at first, a hundredth of the time in which nodes would move by their own size
            size = root_mean_square(state.nodes).cpu()
            speed = root_mean_square(drive.velocity(problem.activation, state.nodes, state.rates)).cpu()
            first = torch.minimum(left, 0.01 * size / speed).where(speed > 0.0, left)
            dt = self.control.dt[running] = dt.where(~dt.isnan(), first)
        return dt.clamp_max(self.tolerance.dt_max or math.inf)

    def steps_to(self, until: float) -> float:
        t, dt = self.times[self.running], self.control.dt[self.running]
        left = float((t / dt * (until / t).clamp_min(1.0).log()).sum())
        return left if math.isfinite(left) else math.inf

    def _shortest(self, until: float) -> float:
        return self.tolerance.dt_min or 1e-10 * until

    def _rates_under(
        self, running: Tensor, state: AveragedState, problem: Problem, force: Float[Tensor, "r N"]
    ) -> Float[Tensor, "r M k"]:
        """Rates of the present nodes; they are linear in the forces, so that rows with a new force are enough."""
        change = force - state.force
        new, forced = torch.stack([change.count_nonzero(dim=1), force.count_nonzero(dim=1)]).cpu()
        if int(new.max()) == 0:
            return state.rates
        anew = (new > forced).to(force.device)[:, None]
        rates, counts = problem.rates(state.nodes, force.where(anew, change))
        self.work[running] += 2.0 * counts.double() / force.shape[1]
        return rates + state.rates.masked_fill(anew[..., None], 0.0)

    def _step(
        self, running: Tensor, state: AveragedState, problem: Problem, dt: Float[Tensor, " r"]
    ) -> tuple[AveragedState, Bool[Tensor, " r"]]:
        activation, loss, device = problem.activation, self.forecast_loss, state.a.device
        surrogate = surrogates(activation, state.nodes, problem.inputs)
        resolution = self.resolution * self.tolerance.rtol
        force, forecasted, n_sub = forecast(surrogate, loss, state.margins, state.residual, dt, resolution)
        length = dt.to(device)

        start = self._rates_under(running, state, problem, force)
        expected = self._expected_change(running, state, force, dt)
        nodes = drive.moved(activation, state.nodes, torch.add(start, expected, alpha=0.5), length)
        rates, margins, counts = problem.rates_and_margins(nodes, force)
        self.work[running] += 1.0 + counts.double() / force.shape[1]
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

        taken = error <= 1.0
        self._control(running, dt, error, taken, n_sub)

        residual = state.residual + (margins - forecasted) * (self.memory / length).to(margins.dtype)[:, None]
        changing = force != loss.force(state.margins)
        impulse, slid = (values.double().mean(dim=1).mul_(length) for values in (force, changing))
        past = (force, residual, rates, change, state.impulse + impulse, state.slid + slid)
        tried = AveragedState(*nodes, margins, *past)
        return tried if bool(taken.all()) else tried.where(taken.to(device), state), taken

    def _expected_change(
        self, running: Tensor, state: AveragedState, force: Tensor, dt: Tensor
    ) -> Float[Tensor, "r M k"]:
        """How the rates will change over a step, by the last one (`mfnet.flow.Averaged`)."""
        before = self.control.kept_dt[running]
        share = (dt / before).clamp_max(1.0).where(before > 0.0, 0.0).to(force.device)
        now, then = (values.abs().sum(dim=1).double() for values in (force, state.force))
        share = share * (now / then).clamp_max(1.0).square().where(then > 0.0, 0.0)
        return state.change * share.to(force.dtype)[:, None, None]

    def _control(self, running: Tensor, dt: Tensor, error: Tensor, taken: Tensor, n_sub: Tensor) -> None:
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

    def _factor(self, error: Float[Tensor, " r"]) -> Float[Tensor, " r"]:
        """`Tolerance.factor` of each."""
        tolerance = self.tolerance
        factor = (tolerance.safety / error.clamp_min(1e-12).sqrt()).clamp(tolerance.shrink, tolerance.grow)
        return factor.where(error.isfinite(), tolerance.shrink)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "control": self.control._asdict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        saved = dict(state_dict)
        self.control = Control(**{name: values.cpu() for name, values in saved.pop("control").items()})
        super().load_state_dict(saved)
