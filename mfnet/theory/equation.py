"""The right-hand side of the hydrodynamic equation (eq. 5): what nodes (a, v, r) make and what they feel.

A node is its output weight a, its latent components v = Uᵀw and the length r = |w⊥| of the rest; an input is its latent
components u and the length ρ = |x⊥| of the rest, and c is the cosine of the angle between the two rests. By symmetry it
is that of two random directions, in n = d − k dimensions. With z = (v·u + rρc)/√d every node feels the same forces f:

    F(u, ρ) = E_nodes[a E_c σ(z)] − (the same at t = 0)
    ȧ = (1/α) E_x[f E_c σ(z)]    v̇ = (a/(α√d)) E_x[f u E_c σ′(z)]    ṙ = (a/(α√d)) E_x[f ρ E_c cσ′(z)]
    f = φ(αF) P(y = 1 | u) − φ(−αF) P(y = −1 | u)

The average over ρ, which fluctuates by 1/√(2n) of itself, is that over two values, and `mfnet.theory.smoothed` has that
over c: what is left out is of order 1/d^{3/2}. The measure is carried along, so that the weights of nodes never change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mfnet.theory.activations import Activation
from mfnet.theory.arrays import Array
from mfnet.theory.losses import HINGE, Loss
from mfnet.theory.rays import Points, Rays
from mfnet.theory.smoothed import Smoothed, smoothed

#: Width of the margins, relative to h, in which the force of the hinge falls from 1 to 0.
HINGE_WIDTH = 2e-3

#: Points whose curvature is taken one by one in the Jacobian, at most; steps converge with any approximation of it.
_FELT = 512


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

    def right(self, points: Points) -> Float[Array, " q"]:
        """Probability of a training label 1."""
        return 0.5 * (1.0 + (1.0 - 2.0 * self.flip) * points.mean_label)

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
        right = self.right(points)
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
