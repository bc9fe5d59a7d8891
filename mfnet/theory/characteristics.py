"""Characteristics of the hydrodynamic equation (eq. 5): nodes (a, v, r) moved in time, in the field of all of them.

The equation is `mfnet.theory.equation`'s. The measure is carried along, so that the weights of nodes never change.

Steps are linearly implicit Euler steps, extrapolated to fourth order. The stiff part of the Jacobian is −Gᵀ C G P, with
G the gradients of outputs by the nodes, C the curvature of the loss at the quadrature points, and P the weights of the
nodes: of low rank, and all that a step has to solve for.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve

from mfnet.theory.arrays import Array
from mfnet.theory.equation import Equation, Field, Inputs, at

#: Steps to the next time, at most; a whole run takes about as many.
_ATTEMPTS = 100

#: Motion, relative to the nodes, that is rounding: symmetry keeps them where they are.
_REST = 1e-12

#: Rows of the extrapolation table: linearly implicit Euler with 1, 2, … steps.
_ROWS = 4


class Implicit:
    """(1 + τ Gᵀ C G P)⁻¹, the stiff part of a step; P are the weights of the nodes."""

    def __init__(self, field: Field, measure: Float[Array, " n"], tau: float):
        self.root = np.sqrt(field.curvature)
        self.gradient = field.gradient.reshape(len(self.root), field.velocity.size) * self.root[:, None]
        self.weighted = self.gradient * np.repeat(measure, field.velocity.shape[1])
        self.gram = self.weighted @ self.gradient.T
        self.factor(tau)

    def factor(self, tau: float) -> None:
        """Prepares for another τ."""
        self.tau = tau
        self.factored = cho_factor(np.eye(len(self.gram)) + tau * self.gram) if len(self.gram) else None

    def pull(self, motion: Float[Array, "n D"]) -> Float[Array, " c"]:
        """What has to be taken from a motion τ θ̇ is τ Gᵀ times this."""
        if self.factored is None:
            return np.empty(0)
        found: Array = self.root * cho_solve(self.factored, self.weighted @ motion.ravel())
        return found


class Stage(NamedTuple):
    """A linearly implicit Euler step: all that a node feels in it."""

    tau: float
    inputs: Inputs
    force: Float[Array, " q"]
    pull: Float[Array, " c"]


class Step(NamedTuple):
    """A step to time t: the inputs of its Jacobian, and the stages of every row of its extrapolation table.

    Of nodes at rest there are no rows.
    """

    t: float
    felt: Inputs
    rows: list[list[Stage]]


class RunawayError(RuntimeError):
    """Nodes run away: no step is small enough."""


class Flow:
    """Moves nodes in time, with error control.

    Args:
        equation: The equation.
        start: (a, v, r) at t = 0.
        rtol: Error of a step, relative to how far nodes have moved.

    Attributes:
        steps: The steps that were taken.
        rejected: How many were not.
    """

    def __init__(self, equation: Equation, start: Float[Array, "n D"], rtol: float):
        self.equation, self.rtol = equation, rtol
        self.start, self.theta, self.t, self.dt = start, start.copy(), 0.0, math.inf
        self.field = equation.field(start, gradient=True)
        self.steps: list[Step] = []
        self.rejected = 0

    def advance_to(self, t: float) -> None:
        """Steps to the time ``t`` exactly.

        Raises:
            RunawayError: If that takes too many steps.
        """
        attempts = 0
        speed, size = self._norm(self.field.velocity), self._norm(self.start)
        if speed * (t - self.t) < _REST * size:
            self.t = t
            self.steps.append(Step(t, Inputs(np.empty((0, self.start.shape[1] - 2)), np.empty(0)), []))
            return
        if math.isinf(self.dt):
            self.dt = 1e-3 * size / speed
        while self.t < t:
            left = t - self.t
            size = left if left < 1.1 * self.dt else min(self.dt, 0.5 * left) if left < 2.0 * self.dt else self.dt
            found, error, step = self.attempt(size)
            factor = min(4.0, max(0.2, 0.9 * error ** (-1.0 / _ROWS))) if error > 0.0 else 4.0
            if error <= 1.0:
                self.t = t if size == left else step.t
                self.steps.append(step._replace(t=self.t))
                self.theta = found
                self.field = self.equation.field(found, gradient=True)
                self.dt = max(self.dt, size * factor) if size < self.dt and factor > 1.0 else size * factor
            else:
                self.rejected += 1
                self.dt = size * factor
            attempts += 1
            if attempts > _ATTEMPTS:
                raise RunawayError(f"{attempts} steps lead from the last time to t={self.t:g}, and not to {t:g}")

    def attempt(self, size: float) -> tuple[Float[Array, "n D"], float, Step]:
        """The nodes after a step, its error in units of what is allowed, and the step."""
        points = self.field.points
        felt = at(Inputs(points.u, points.length), self.field.felt)
        solve = Implicit(self.field, self.equation.measure, size)
        rows: list[list[Stage]] = []
        ends: list[Array] = []
        for row in range(1, _ROWS + 1):
            solve.factor(size / row)
            theta, stages = self.theta, []
            for i in range(row):
                field = self.field if i == 0 else self.equation.field(theta)
                motion = solve.tau * field.velocity
                pull = solve.pull(motion)
                stages.append(Stage(solve.tau, Inputs(field.points.u, field.points.length), field.force, pull))
                theta = theta + motion - solve.tau * np.tensordot(pull, self.field.gradient, axes=1)
            rows.append(stages)
            ends.append(theta)
        found, error = _extrapolated(ends)
        moved = max(self._norm(found - self.start), 1e-9 * self._norm(self.start))
        return found, self._norm(error) / (self.rtol * moved), Step(self.t + size, felt, rows)

    def _norm(self, values: Float[Array, "n D"]) -> float:
        return math.sqrt(float(self.equation.measure @ (values**2).sum(axis=1)))


def _extrapolated(ends: list[Array]) -> tuple[Array, Array]:
    """The limit of infinitely many steps, from the ends of 1, 2, …; and its difference from the limit before."""
    table: list[Array] = []
    for row, end in enumerate(ends):
        new = [end]
        for m, previous in enumerate(table):
            new.append(new[m] + (new[m] - previous) * (row - m) / (m + 1))
        table = new
    return table[-1], table[-1] - table[-2]


def carried(
    equation: Equation, steps: list[Step], start: Float[Array, "m D"], times: Float[Array, " T"]
) -> Float[Array, "T m D"]:
    """Other nodes, which make nothing and feel the same: by the very steps of those that have made the field.

    Args:
        equation: The equation.
        steps: Steps that end at each of the times; later ones give nan.
        start: (a, v, r) at t = 0.
        times: Increasing times.
    """
    theta, passed = start, {0.0: start}
    for step in steps:
        if step.t > times[-1]:
            break
        if not step.rows:
            passed[step.t] = theta
            continue
        gradient = equation.gradient(theta, step.felt)
        ends = []
        for stages in step.rows:
            end = theta
            for stage in stages:
                velocity = equation.velocity(end, stage.inputs, stage.force)
                end = end + stage.tau * (velocity - np.tensordot(stage.pull, gradient, axes=1))
            ends.append(end)
        theta = _extrapolated(ends)[0]
        passed[step.t] = theta
    return np.array([passed.get(float(t), np.full_like(start, np.nan)) for t in times])
