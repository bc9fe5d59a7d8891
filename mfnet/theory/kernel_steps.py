"""Steps of the flow of a kernel on N examples, for any convex margin loss: dm/dt = Qφ(m)/N.

The force of the hinge jumps at h, where examples slide: pushed below by the others, lifted by themselves.
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
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator, cg

from mfnet.theory import tangent_kernel
from mfnet.theory.arrays import Array
from mfnet.theory.losses import Function, Loss
from mfnet.theory.tangent_kernel import Gram

_STAGE = 1.0 - 1.0 / math.sqrt(2.0)

#: Width of the hinge's jump, in units of h: sliding forces are unique even where the kernel is singular.
JUMP = 1e-8

#: Largest error of a force that is left by a stage.
TOLERANCE = 1e-8

#: Newton steps of a stage, at most; usually two or three. A longer way means that the step was too long.
_LONGEST = 25

#: Shortest step, relative to the time that it goes to.
_SHORTEST = 1e-15


class State(NamedTuple):
    """The flow at ``t``: c, m and φ of every example."""

    t: float
    impulse: Float[Array, " N"]
    margins: Float[Array, " N"]
    force: Float[Array, " N"]


class _Tangent(NamedTuple):
    """A loss near an iterate: φ = (target − m)/compliance where ``free``, elsewhere φ is ``fixed``."""

    free: Bool[Array, " N"]
    target: Float[Array, " N"]
    compliance: Float[Array, " N"]
    fixed: Float[Array, " N"]


def _tangent_of(loss: Loss, h: float) -> Callable[[Array, Array], _Tangent]:
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


class _Stage(NamedTuple):
    """Margins at the end of a stage, the forces there, and their velocities Qφ."""

    margins: Float[Array, " N"]
    force: Float[Array, " N"]
    velocity: Float[Array, " N"]


class Steps:
    """Adaptive steps of dm/dt = Qφ(m)/N.

    Args:
        gram: Q.
        loss: The loss, of which `mfnet.theory.losses.check_convex` has been asked.
        h: Its margin.
        rtol: Error of a step in the margins, relative to their root mean square, as an estimate of first order.
        margins: m at t = 0.
    """

    def __init__(self, gram: Gram, loss: Loss, h: float, rtol: float, margins: Float[Array, " N"]):
        self.gram, self.rtol, self._tangent = gram, rtol, _tangent_of(loss, h)
        force = loss.force(margins, h)
        speed = _rms(gram.product(force)) / len(gram)
        first = 0.01 * h / speed if speed > 0.0 else math.inf  # margins move by a hundredth of h, or not at all
        self._known = {0.0: (State(0.0, np.zeros(len(gram)), margins, force), first)}

    def at(self, t: float) -> State:
        """The flow at time ``t``, by steps from the latest known time before, on which the last one ends.

        Raises:
            RuntimeError: If no step is short enough to be solved (it is not known to happen for a convex loss).
        """
        if t not in self._known:
            self._known[t] = self._advanced(*self._known[max(known for known in self._known if known < t)], t)
        return self._known[t][0]

    def _advanced(self, state: State, dt: float, until: float) -> tuple[State, float]:
        """The flow at a later time, and the length of the step that would be next."""
        N = len(self.gram)
        t, impulse, now = state.t, state.impulse, _Stage(state.margins, state.force, self.gram.product(state.force))
        while t < until:
            n_steps = math.ceil((until - t) / dt - 1e-9)
            step = (until - t) / n_steps
            tau = _STAGE * step / N
            one = self._stage(now.margins, tau, now)
            base = now.margins if one is None else now.margins + (1.0 / _STAGE - 1.0) * tau * one.velocity
            two = None if one is None else self._stage(base, tau, one)
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
                now = two
        return State(until, impulse, now.margins, now.force), dt

    def _stage(self, start: Float[Array, " N"], tau: float, guess: _Stage) -> _Stage | None:
        """Solves m = start + τQφ with φ ∈ φ(m) from a guess of (m, φ, Qφ); None if Newton's method does not end.

        Qφ is carried along, and gains what the forces that change add to it.
        """
        margins, force, velocity = guess
        own = tau * self.gram.diagonal
        for _ in range(_LONGEST):
            free, target, compliance, fixed = self._tangent(margins, force)
            others, chosen = np.flatnonzero(~free & (force != fixed)), np.flatnonzero(free)
            velocity = velocity + self.gram.columns_product(others, fixed[others] - force[others])
            force = np.where(free, force, fixed)
            wanted = target - start - tau * velocity - compliance * force
            change = self._solved(chosen, tau, compliance[chosen], wanted[chosen])
            force[chosen] += change
            velocity = velocity + self.gram.columns_product(chosen, change)
            margins = start + tau * velocity
            free, target, compliance, fixed = self._tangent(margins, force)
            left = np.where(free, (target - margins - compliance * force) / (compliance + own), fixed - force)
            if np.abs(left).max() <= TOLERANCE:
                return _Stage(margins, force, velocity)
        return None

    def _solved(
        self, chosen: Integer[Array, " s"], tau: float, compliance: Float[Array, " s"], wanted: Float[Array, " s"]
    ) -> Float[Array, " s"]:
        """The solution of (τQ + compliance) φ = wanted among the chosen, by conjugate gradients if these are many."""
        if 8 * len(chosen) ** 2 <= tangent_kernel.STORED_BYTES:
            matrix = tau * self.gram.among(chosen)
            matrix[np.diag_indices(len(chosen))] += compliance
            found: Array = cho_solve(cho_factor(matrix, overwrite_a=True), wanted)
            return found
        shape = (len(chosen), len(chosen))

        def product(v: Array) -> Array:
            return tau * self.gram.columns_product(chosen, v)[chosen] + compliance * v

        own = tau * self.gram.diagonal[chosen] + compliance
        operator, rough = (LinearOperator(shape, each, dtype=float) for each in (product, lambda v: v / own))
        found, failed = cg(operator, wanted, rtol=0.0, atol=0.1 * TOLERANCE * own.min(), M=rough)
        return np.full(len(chosen), np.nan) if failed else found


def _rms(values: Float[Array, " N"]) -> float:
    return math.sqrt(float(np.mean(values**2)))
