"""Characteristics of the hydrodynamic equation (eq. 5): how nodes (a, v, r) move in the field of all of them.

A node is its output weight a, its latent components v = Uᵀw and the length r = |w⊥| of the rest; an input is its latent
components u and the length ρ = |x⊥| of the rest, and c is the cosine of the angle between the two rests. By symmetry it
is that of two random directions, in n = d − k dimensions. With z = (v·u + rρc)/√d every node feels the same forces f:

    F(u, ρ) = E_nodes[a E_c σ(z)] − (the same at t = 0)
    ȧ = (1/α) E_x[f E_c σ(z)]    v̇ = (a/(α√d)) E_x[f u E_c σ′(z)]    ṙ = (a/(α√d)) E_x[f ρ E_c cσ′(z)]
    f = φ(αF) P(y = 1 | u) − φ(−αF) P(y = −1 | u)

The average over ρ, which fluctuates by 1/√(2n) of itself, is that over two values, and `mfnet.theory.smoothed` has that
over c: what is left out is of order 1/d^{3/2}. The measure is carried along, so that the weights of nodes never change.

Steps are linearly implicit Euler steps, extrapolated to fourth order. The stiff part of the Jacobian is −Gᵀ C G P, with
G the gradients of outputs by the nodes, C the curvature of the loss at the quadrature points, and P the weights of the
nodes: of low rank, and all that a step has to solve for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import cho_factor, cho_solve

from mfnet.theory.activations import Activation
from mfnet.theory.arrays import Array
from mfnet.theory.losses import HINGE, Loss
from mfnet.theory.rays import Points, Rays
from mfnet.theory.smoothed import Smoothed, smoothed

#: Width of the margins, relative to h, in which the force of the hinge falls from 1 to 0.
HINGE_WIDTH = 2e-3

#: Points whose curvature is taken one by one in the Jacobian, at most; steps converge with any approximation of it.
_FELT = 512

#: Steps to the next time, at most; a whole run takes about as many.
_ATTEMPTS = 100

#: Motion, relative to the nodes, that is rounding: symmetry keeps them where they are.
_REST = 1e-12

#: Rows of the extrapolation table: linearly implicit Euler with 1, 2, … steps.
_ROWS = 4


class Inputs(NamedTuple):
    """Some inputs (u, |x⊥|)."""

    u: Float[Array, "q k"]
    length: Float[Array, " q"]


class Field(NamedTuple):
    """What nodes make and feel at one time."""

    points: Points
    output: Float[Array, " q"]  # F
    force: Float[Array, " q"]  # f, times the weights of the points
    velocity: Float[Array, "n D"]  # of (a, v, r)
    felt: Int[Array, " c"]  # points of positive curvature
    curvature: Float[Array, " c"]  # there, times the weights
    gradient: Float[Array, "c n D"]  # of the outputs there, by the nodes


@dataclass(frozen=True)
class Equation:
    """Eq. 5 for one network.

    Args:
        d: Input dimension.
        alpha, h: Scale of the loss, and its margin.
        activation: σ.
        loss: ℓ and its force.
        rays: Latent inputs and their labels.
        flip: Fraction of training labels that are reversed.
        measure: Weights of the nodes.
    """

    d: int
    alpha: float
    h: float
    activation: Activation
    loss: Loss
    rays: Rays
    flip: float
    measure: Float[Array, " n"]

    def output(self, theta: Float[Array, "n D"], inputs: Inputs) -> Float[Array, " q"]:
        """F at inputs. The output at t = 0 is 0, since a has mean zero there and knows nothing of w."""
        return (self.measure * theta[:, 0]) @ self._smoothed(theta, inputs).value

    def _smoothed(self, theta: Float[Array, "m D"], inputs: Inputs) -> Smoothed:
        """The activation of each node, by v·u/√d and by r|x⊥|/√(nd)."""
        spread = np.multiply.outer(theta[:, -1], self._relative(inputs)) / math.sqrt(self.d)
        n = self.d - inputs.u.shape[1]
        return smoothed(self.activation, theta[:, 1:-1] @ inputs.u.T / math.sqrt(self.d), spread, -0.25 / (n + 2.0))

    def _relative(self, inputs: Inputs) -> Float[Array, " q"]:
        return inputs.length / math.sqrt(self.d - inputs.u.shape[1])

    @property
    def hinge(self) -> bool:
        """Whether the force jumps at the margin."""
        return self.loss == HINGE

    @property
    def levels(self) -> Float[Array, " l"]:
        """Outputs at which a force has a kink, a count jumps, or a sign does."""
        edges = [self.h * (1.0 + side * HINGE_WIDTH / 2.0) for side in (-1.0, 1.0)] if self.hinge else [self.h]
        return np.array([0.0, *edges, *[-edge for edge in edges]]) / self.alpha

    def force(self, margin: Array) -> Array:
        """φ, for the hinge over a narrow ramp."""
        if self.hinge:
            return np.clip(0.5 + (self.h - margin) / (HINGE_WIDTH * self.h), 0.0, 1.0)
        return self.loss.force(margin, self.h)

    def curvature(self, margin: Array) -> Array:
        """−φ′."""
        if self.hinge:
            return (np.abs(margin - self.h) < HINGE_WIDTH * self.h / 2.0) / (HINGE_WIDTH * self.h)
        assert self.loss.curvature is not None
        return self.loss.curvature(margin, self.h)

    def field(self, theta: Float[Array, "n D"], gradient: bool = False) -> Field:
        """What nodes ``theta`` = (a, v, r) make and feel."""
        points = self.rays.points(self.output(theta, Inputs(*self.rays.looked)), self.levels)
        inputs = Inputs(points.u, points.length)
        parts = self._smoothed(theta, inputs)
        output = (self.measure * theta[:, 0]) @ parts.value
        right = 0.5 * (1.0 + (1.0 - 2.0 * self.flip) * points.mean_label)
        margin = self.alpha * output
        force = points.weights * (right * self.force(margin) - (1.0 - right) * self.force(-margin))
        velocity = self._velocity(theta, parts, inputs, force)
        if not gradient:
            return Field(points, output, force, velocity, np.empty(0, int), np.empty(0), np.empty((0, *theta.shape)))
        felt, curvature = self._gathered(
            points.weights * (right * self.curvature(margin) + (1.0 - right) * self.curvature(-margin))
        )
        gradients = self._gradient(theta, Smoothed(*(part[:, felt] for part in parts)), at(inputs, felt))
        return Field(points, output, force, velocity, felt, curvature, gradients)

    def velocity(self, theta: Float[Array, "m D"], inputs: Inputs, force: Float[Array, " q"]) -> Float[Array, "m D"]:
        """Of any nodes, under given forces."""
        return self._velocity(theta, self._smoothed(theta, inputs), inputs, force)

    def gradient(self, theta: Float[Array, "m D"], inputs: Inputs) -> Float[Array, "q m D"]:
        """Of aE_cσ(z), by any nodes."""
        if not len(inputs.u):
            return np.empty((0, *theta.shape))
        return self._gradient(theta, self._smoothed(theta, inputs), inputs)

    def _velocity(
        self, theta: Float[Array, "m D"], parts: Smoothed, inputs: Inputs, force: Float[Array, " q"]
    ) -> Float[Array, "m D"]:
        velocity, slope = np.empty_like(theta), theta[:, 0] / math.sqrt(self.d)
        velocity[:, 0] = parts.value @ force
        velocity[:, 1:-1] = (parts.by_mean @ (force[:, None] * inputs.u)) * slope[:, None]
        velocity[:, -1] = (parts.by_spread @ (force * self._relative(inputs))) * slope
        return velocity / self.alpha

    def _gradient(self, theta: Float[Array, "m D"], parts: Smoothed, inputs: Inputs) -> Float[Array, "q m D"]:
        gradient, slope = np.empty((len(inputs.u), *theta.shape)), theta[:, 0] / math.sqrt(self.d)
        gradient[..., 0] = parts.value.T
        gradient[..., 1:-1] = (parts.by_mean.T * slope)[..., None] * inputs.u[:, None, :]
        gradient[..., -1] = parts.by_spread.T * slope * self._relative(inputs)[:, None]
        return gradient

    def _gathered(self, curvature: Float[Array, " q"]) -> tuple[Int[Array, " c"], Float[Array, " c"]]:
        """Points of positive curvature; if these are many, one for each panel, with the curvature of all of it."""
        felt = np.flatnonzero(curvature > 0.0)
        if len(felt) > _FELT:
            panels = curvature.reshape(-1, self.rays.panel)
            total = panels.sum(axis=1)
            kept = np.flatnonzero(total > 1e-9 * total.sum())
            return kept * self.rays.panel + panels[kept].argmax(axis=1), total[kept]
        return felt, curvature[felt]


def at(inputs: Inputs, which: Int[Array, " c"]) -> Inputs:
    """Some of the inputs."""
    return Inputs(inputs.u[which], inputs.length[which])


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
