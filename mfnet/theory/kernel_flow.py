"""The lazy limit on a finite training set: the flow of the tangent kernel (theory.md 4).

For α → ∞ nodes hardly move, the tangent kernel K stays what it is at t = 0, and G = αF obeys on any input x

    dG(x)/dt = (1/N) Σ_n K(x, x_n) φ(y_n G(x_n)) y_n,   G = 0 at t = 0.

So G(x) = Σ_n K(x, x_n) y_n c_n with c_n = (1/N) ∫ φ_n dt, and margins are m = Q c, Q_nk = y_n K(x_n, x_k) y_k: a
gradient flow of a convex loss, the only state of which is c.

**Steps.** The force of the hinge jumps at h, where examples slide: pushed below by the others, lifted by themselves.
Both stages of a step (the L-stable method SDIRK2 of Alexander, 1977) are therefore implicit: with g = 1 − 1/√2,

    m₁ = m + gΔt Q φ₁/N,   m₂ = m + Δt Q ((1−g) φ₁ + g φ₂)/N,   φ_i ∈ φ(m_i).

For the hinge these are the conditions of a support vector machine: a sliding example stays at h, with the force in
[0, 1] that holds it there. Newton's method solves each stage for the forces that can change; for the hinge it finds
the set of sliding examples exactly (a primal-dual active-set method). As the last stage is the result, an example that
slides is at h after each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import cho_factor, cho_solve

from mfnet.theory.arrays import Array
from mfnet.theory.losses import HINGE, Function, Loss, check_convex
from mfnet.theory.mean_field import MeanField
from mfnet.theory.overlay import Curve, Draw, Theory
from mfnet.theory.tangent_kernel import ActualKernel, Gram, LimitKernel, TangentKernel

_STAGE = 1.0 - 1.0 / math.sqrt(2.0)

#: Width of the hinge's jump, in units of h: sliding forces are unique even where the kernel is singular.
JUMP = 1e-8

#: Largest error of a force that is left by a stage.
TOLERANCE = 1e-8

#: Newton steps of a stage, at most; usually two or three. A longer way means that the step was too long.
_LONGEST = 25

#: Shortest step, relative to the time that it goes to.
_SHORTEST = 1e-15


@dataclass(frozen=True, eq=False)
class KernelFlow(Theory):
    """A lazy network (α → ∞) on its actual training and test set; exact at M = ∞ for any N.

    It is built in O(N²d) and solved in 100-200 steps: a few products with an N × N matrix and, for the hinge, Cholesky
    factors of the few examples that slide at a time (of all N for other losses, N³/3 operations each).

    Raises ValueError for a loss that is not convex, or whose force jumps and is not the hinge's, and for an activation
    without its even part.

    Args:
        mean_field: Dimension, α, h, activation, loss and initial variances.
        kernel: 'limit', of infinitely many nodes, or 'actual', of the initial nodes of the run.
        rtol: Error of a step in the margins, relative to their root mean square, as an estimate of first order;
            the result is more accurate.
        draw: What the run has drawn (`of_draw`).
    """

    mean_field: MeanField
    kernel: Literal["limit", "actual"] = "limit"
    rtol: float = 0.003
    draw: Draw | None = None

    def __post_init__(self) -> None:
        if self.kernel not in ("limit", "actual"):
            raise ValueError(f"kernel={self.kernel!r} must be 'limit' or 'actual'")
        if not 0.0 < self.rtol <= 0.1:
            raise ValueError(f"rtol={self.rtol!r} must be above 0 and at most 0.1")
        check_convex(self.mean_field.margin_loss, self.mean_field.h, "KernelFlow")
        self.mean_field.nonlinearity.need("even", "KernelFlow")
        self.mean_field.nonlinearity.need("even_slope", "KernelFlow")

    @property
    def trusted_as(self) -> str:
        return "kernel_flow"

    def of_draw(self, draw: Callable[[], Draw]) -> KernelFlow:
        return replace(self, draw=draw())

    def series(self, t: Float[Array, " T"]) -> dict[str, Curve]:
        """Predictions at increasing times; times that were asked for before cost nothing.

        Beside the usual ones 'mean_force', ⟨φ⟩ averaged over the time since the last element of ``t``. An example
        that slides along the margin counts as unsatisfied by its force: the share of time that finite steps spend
        below h.

        Raises:
            ValueError: Before `of_draw`.
        """
        draw, model = self._drawn, self.mean_field
        impulse, force, margins = self.solve(t)
        test_margins = draw.y_test * self._output(impulse, draw.x_test)
        below = np.clip(force, 0.0, 1.0) if model.margin_loss == HINGE else margins < model.h
        elapsed = np.diff(t, prepend=0.0)
        impulses = len(draw.y) * np.diff(impulse.mean(axis=1), prepend=0.0)
        sinh = impulse @ (draw.y * self._kernel.clock(draw.x, draw.direction)) / model.alpha
        return {
            "gamma": Curve(np.arcsinh(sinh)),
            "unsatisfied": Curve(below.mean(axis=1)),
            "loss": Curve(model.margin_loss.value(margins, model.h).mean(axis=1) / model.alpha**2),
            "train_error": Curve(_error(margins)),
            "test_error": Curve(_error(test_margins)),
            "mean_force": Curve(
                np.where(elapsed > 0.0, impulses / np.where(elapsed > 0.0, elapsed, 1.0), force.mean(axis=1))
            ),
        }

    def output(self, t: Float[Array, " T"], x: Float[Array, "n d"]) -> Float[Array, "T n"]:
        """G(x) = αF(x) on any inputs.

        Raises:
            ValueError: Before `of_draw`.
        """
        return self._output(self.solve(t)[0], x)

    def solve(self, t: Float[Array, " T"]) -> tuple[Float[Array, "T N"], Float[Array, "T N"], Float[Array, "T N"]]:
        """(c, φ, m) of every training example: the integral of its force over N, its force, its margin.

        Raises:
            ValueError: Before `of_draw`, or for negative or infinite times.
        """
        if not (np.isfinite(t) & (t >= 0.0)).all():
            raise ValueError(f"times must be finite and not negative, and are {t}")
        for time in sorted(set(t.tolist()) - set(self._states)):
            before = self._states[max(known for known in self._states if known < time)]
            self._states[time] = self._steps.advance(before, time)
        states = [self._states[time] for time in t.tolist()]
        return (
            np.array([state.impulse for state in states]),
            np.array([state.force for state in states]),
            np.array([state.margins for state in states]),
        )

    @property
    def _drawn(self) -> Draw:
        if self.draw is None:
            raise ValueError("KernelFlow speaks of an actual training set: give it one with of_draw")
        return self.draw

    @cached_property
    def _kernel(self) -> TangentKernel:
        model = self.mean_field
        if self.kernel == "limit":
            return LimitKernel(model.nonlinearity, model.a_std, model.w_std)
        return ActualKernel(model.nonlinearity, self._drawn.a0, self._drawn.w0)

    @cached_property
    def _steps(self) -> _Steps:
        gram = Gram(self._kernel, self._drawn.x, self._drawn.y)
        return _Steps(gram, _tangent(self.mean_field.margin_loss, self.mean_field.h), self.rtol)

    @cached_property
    def _states(self) -> dict[float, _State]:
        """The solution so far, by time."""
        rest = np.zeros(len(self._drawn.y))
        force = self.mean_field.margin_loss.force(rest, self.mean_field.h)
        return {0.0: _State(0.0, rest, rest, force, self._steps.first(force, self.mean_field.h))}

    def _output(self, impulse: Float[Array, "T N"], x: Float[Array, "n d"]) -> Float[Array, "T n"]:
        draw = self._drawn
        return self._kernel.product(x, draw.x, (draw.y * impulse).T).T


def _error(margins: Float[Array, "T n"]) -> Float[Array, " T"]:
    """Share of examples on the wrong side; F = 0 counts one half."""
    return (margins < 0.0).mean(axis=1) + 0.5 * (margins == 0.0).mean(axis=1)


class _Tangent(NamedTuple):
    """A loss near an iterate: φ = (target − m)/compliance where ``free``, elsewhere φ is ``fixed``."""

    free: Bool[Array, " N"]
    target: Float[Array, " N"]
    compliance: Float[Array, " N"]
    fixed: Float[Array, " N"]


def _tangent(loss: Loss, h: float) -> Callable[[Array, Array], _Tangent]:
    """The map from margins and forces of an iterate to the loss near it."""
    if loss.curvature is None:  # the hinge: `KernelFlow` takes no other loss that jumps
        return partial(_at_jump, h)
    return partial(_on_slope, loss.force, loss.curvature, h)


def _at_jump(h: float, m: Array, force: Array) -> _Tangent:
    below = ((force >= 1.0) & (m < h)) | (force > 1.0)
    above = ((force <= 0.0) & (m > h)) | (force < 0.0)
    everywhere = np.ones_like(m)
    return _Tangent(~(below | above), h * everywhere, JUMP * h * everywhere, below.astype(float))


def _on_slope(force_of: Function, curvature_of: Function, h: float, m: Array, force: Array) -> _Tangent:
    value, curvature = force_of(m, h), curvature_of(m, h)
    free = curvature > np.finfo(float).tiny  # below it, 1/curvature is not a number any more
    compliance = 1.0 / np.where(free, curvature, 1.0)
    return _Tangent(free, m + value * compliance, compliance, value)


class _State(NamedTuple):
    """The flow at ``t``: c, m and φ of every example, and the length of the next step."""

    t: float
    impulse: Float[Array, " N"]
    margins: Float[Array, " N"]
    force: Float[Array, " N"]
    dt: float


class _Stage(NamedTuple):
    """Margins at the end of a stage, the forces there, and their velocities Qφ."""

    margins: Float[Array, " N"]
    force: Float[Array, " N"]
    velocity: Float[Array, " N"]


@dataclass(frozen=True, eq=False)
class _Steps:
    """Adaptive steps of dm/dt = Qφ(m)/N."""

    gram: Gram
    tangent: Callable[[Array, Array], _Tangent]
    rtol: float

    def first(self, force: Float[Array, " N"], h: float) -> float:
        """A step in which the initial forces move margins by a hundredth of h."""
        return 0.01 * h * len(self.gram) / _rms(self.gram.product(force))

    def advance(self, state: _State, until: float) -> _State:
        """The flow at the time ``until``, on which the last step ends.

        Raises:
            RuntimeError: If no step is short enough to be solved (it is not known to happen for a convex loss).
        """
        N = len(self.gram)
        t, impulse, margins, force, dt = state
        while t < until:
            n_steps = math.ceil((until - t) / dt - 1e-9)
            step = (until - t) / n_steps
            tau = _STAGE * step / N
            one = self._stage(margins, tau, margins, force)
            base = margins if one is None else margins + (1.0 / _STAGE - 1.0) * tau * one.velocity
            two = None if one is None else self._stage(base, tau, one.margins, one.force)
            if one is None or two is None:
                dt = 0.25 * step
                if dt < _SHORTEST * until:
                    raise RuntimeError(f"no step from t={t:g} was solved: is the force of the loss a number there?")
                continue
            # the difference to a step of first order, which keeps the velocity of the first stage
            error = tau * _rms(two.velocity - one.velocity) / _rms(two.margins) / self.rtol
            dt = step * min(4.0, max(0.2, 0.9 / math.sqrt(max(error, 1e-6))))
            if error <= 1.0:
                t = until if n_steps == 1 else t + step
                impulse = impulse + step / N * ((1.0 - _STAGE) * one.force + _STAGE * two.force)
                margins, force = two.margins, two.force
        return _State(until, impulse, margins, force, dt)

    def _stage(
        self, start: Float[Array, " N"], tau: float, margins: Float[Array, " N"], force: Float[Array, " N"]
    ) -> _Stage | None:
        """Solves m = start + τQφ with φ ∈ φ(m) from a guess of (m, φ); None if Newton's method does not end."""
        own = tau * self.gram.diagonal
        for _ in range(_LONGEST):
            free, target, compliance, fixed = self.tangent(margins, force)
            chosen = np.flatnonzero(free)
            force = np.where(free, 0.0, fixed)
            velocity = self.gram.product(force)
            if len(chosen):
                matrix = tau * self.gram.among(chosen)
                matrix[np.diag_indices(len(chosen))] += compliance[chosen]
                wanted = target[chosen] - start[chosen] - tau * velocity[chosen]
                force[chosen] = cho_solve(cho_factor(matrix, overwrite_a=True), wanted)
                velocity = self.gram.product(force)
            margins = start + tau * velocity
            free, target, compliance, fixed = self.tangent(margins, force)
            left = np.where(free, (target - margins - compliance * force) / (compliance + own), fixed - force)
            if np.abs(left).max() <= TOLERANCE:
                return _Stage(margins, force, velocity)
        return None


def _rms(values: Float[Array, " N"]) -> float:
    return math.sqrt(float(np.mean(values**2)))
