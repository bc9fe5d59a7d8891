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

#: Rows of the extrapolation table: linearly implicit Euler with 1, 2, … steps.
_ROWS = 4


class Nodes(NamedTuple):
    """n nodes."""

    a: Float[Array, " n"]
    v: Float[Array, "n k"]
    r: Float[Array, " n"]


class Field(NamedTuple):
    """What nodes make and feel at one time."""

    points: Points
    output: Float[Array, " q"]  # F
    force: Float[Array, " q"]  # f, times the weights of the points
    velocity: Float[Array, "n D"]  # of (a, v, r)
    gradient: Float[Array, "c P"]  # of the outputs at the points of positive curvature, by the nodes
    curvature: Float[Array, " c"]  # there, times the weights


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
        measure: Weights of the nodes; those of weight 0 are carried along and do nothing.
    """

    d: int
    alpha: float
    h: float
    activation: Activation
    loss: Loss
    rays: Rays
    flip: float
    measure: Float[Array, " n"]

    def output(
        self, theta: Float[Array, "n D"], u: Float[Array, "q k"], length: Float[Array, " q"]
    ) -> Float[Array, " q"]:
        """F at inputs (u, |x⊥|). The output at t = 0 is 0, since a has mean zero there and knows nothing of w."""
        which = self.measure > 0.0
        return (self.measure[which] * theta[which, 0]) @ self._smoothed(theta[which], u, length).value

    def _smoothed(self, theta: Float[Array, "n D"], u: Float[Array, "q k"], length: Float[Array, " q"]) -> Smoothed:
        """The activation of each node, by v·u/√d and by r|x⊥|/√(nd)."""
        n, root_d = self.d - u.shape[1], math.sqrt(self.d)
        spread = np.multiply.outer(theta[:, -1], length / math.sqrt(n)) / root_d
        return smoothed(self.activation, theta[:, 1:-1] @ u.T / root_d, spread, -0.25 / (n + 2.0))

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
        root_d = math.sqrt(self.d)
        points = self.rays.points(self.output(theta, *self.rays.looked), self.levels)
        a, parts = theta[:, 0], self._smoothed(theta, points.u, points.length)
        length = points.length / math.sqrt(self.d - points.u.shape[1])
        output = (self.measure * a) @ parts.value
        right = 0.5 * (1.0 + (1.0 - 2.0 * self.flip) * points.mean_label)
        margin = self.alpha * output
        force = points.weights * (right * self.force(margin) - (1.0 - right) * self.force(-margin))
        velocity = np.empty_like(theta)
        velocity[:, 0] = parts.value @ force
        velocity[:, 1:-1] = (parts.by_mean @ (force[:, None] * points.u)) * (a / root_d)[:, None]
        velocity[:, -1] = (parts.by_spread @ (force * length)) * a / root_d
        velocity /= self.alpha
        if not gradient:
            return Field(points, output, force, velocity, np.empty((0, theta.size)), np.empty(0))
        curvature = points.weights * (right * self.curvature(margin) + (1.0 - right) * self.curvature(-margin))
        felt, curvature = self._gathered(curvature)
        gradients = np.empty((len(felt), *theta.shape))
        slope = parts.by_mean[:, felt].T * (a / root_d)
        gradients[..., 0] = parts.value[:, felt].T
        gradients[..., 1:-1] = slope[..., None] * points.u[felt][:, None, :]
        gradients[..., -1] = parts.by_spread[:, felt].T * (a / root_d) * length[felt, None]
        return Field(points, output, force, velocity, gradients.reshape(len(felt), theta.size), curvature)

    def _gathered(self, curvature: Float[Array, " q"]) -> tuple[Int[Array, " c"], Float[Array, " c"]]:
        """Points of positive curvature; if these are many, one for each panel, with the curvature of all of it."""
        felt = np.flatnonzero(curvature > 0.0)
        if len(felt) > _FELT:
            panels = curvature.reshape(-1, self.rays.panel)
            total = panels.sum(axis=1)
            kept = np.flatnonzero(total > 1e-9 * total.sum())
            return kept * self.rays.panel + panels[kept].argmax(axis=1), total[kept]
        return felt, curvature[felt]


class Implicit:
    """(1 + τ Gᵀ C G P)⁻¹, the stiff part of a step; P are the weights of the nodes."""

    def __init__(self, field: Field, measure: Float[Array, " n"]):
        root = np.sqrt(field.curvature)
        self.shape = field.velocity.shape
        self.gradient = field.gradient * root[:, None]
        self.weighted = self.gradient * np.repeat(measure, self.shape[1])
        self.gram = self.weighted @ self.gradient.T

    def factor(self, tau: float) -> None:
        self.tau = tau
        self.factored = cho_factor(np.eye(len(self.gram)) + tau * self.gram)

    def __call__(self, values: Float[Array, "n D"]) -> Float[Array, "n D"]:
        if not len(self.gram):
            return values
        flat = values.ravel()
        felt = cho_solve(self.factored, self.weighted @ flat)
        return (flat - self.tau * (self.gradient.T @ felt)).reshape(self.shape)


class Flow:
    """Moves nodes in time, with error control.

    Args:
        equation: The equation.
        start: (a, v, r) at t = 0.
        rtol: Error of a step, relative to how far nodes have moved.
    """

    def __init__(self, equation: Equation, start: Float[Array, "n D"], rtol: float):
        self.equation, self.rtol = equation, rtol
        self.start, self.theta, self.t, self.dt = start, start.copy(), 0.0, math.inf
        self.field = equation.field(start, gradient=True)
        self.steps = self.rejected = 0

    def advance_to(self, t: float) -> None:
        """Steps to the time ``t`` exactly."""
        if math.isinf(self.dt):
            size = self._norm(self.start)
            speed = self._norm(self.field.velocity)
            self.dt = 1e-3 * size / speed if speed > 0.0 else 1e-2
        while self.t < t:
            left = t - self.t
            step = left if left < 1.1 * self.dt else min(self.dt, 0.5 * left) if left < 2.0 * self.dt else self.dt
            found, error = self.attempt(step)
            factor = min(4.0, max(0.2, 0.9 * error ** (-1.0 / _ROWS))) if error > 0.0 else 4.0
            if error <= 1.0:
                self.t = t if step == left else self.t + step
                self.theta = found
                self.field = self.equation.field(found, gradient=True)
                self.steps += 1
                self.dt = max(self.dt, step * factor) if step < self.dt and factor > 1.0 else step * factor
            else:
                self.rejected += 1
                self.dt = step * factor
            if self.dt < 1e-14 * t:
                raise RuntimeError(f"steps became too small at t={self.t:g}")

    def attempt(self, step: float) -> tuple[Float[Array, "n D"], float]:
        """The nodes after a step, and its error in units of what is allowed."""
        solve = Implicit(self.field, self.equation.measure)
        table: list[Array] = []
        error = math.inf
        for row in range(1, _ROWS + 1):
            tau = step / row
            solve.factor(tau)
            theta = self.theta
            for i in range(row):
                velocity = self.field.velocity if i == 0 else self.equation.field(theta).velocity
                theta = theta + solve(tau * velocity)
            new = [theta]
            for m, previous in enumerate(table):
                new.append(new[m] + (new[m] - previous) * (row - m - 1) / (m + 1))
            if row == _ROWS:
                moved = max(self._norm(new[-1] - self.start), 1e-9 * self._norm(self.start))
                error = self._norm(new[-1] - new[-2]) / (self.rtol * moved)
            table = new
        return table[-1], error

    def _norm(self, values: Float[Array, "n D"]) -> float:
        return math.sqrt(float(self.equation.measure @ (values**2).sum(axis=1)))
