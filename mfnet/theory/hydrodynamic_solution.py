"""The density of nodes that eq. 5 has moved, and what is observed of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr

from mfnet.theory.arrays import Array
from mfnet.theory.characteristics import Flow, Step
from mfnet.theory.equation import Equation, Inputs
from mfnet.theory.rays import Rays, typical_lengths

#: What of a solution is no series in time.
_FIXED = ("equation", "steps")

#: Nodes whose a or v starts beyond this many standard deviations are the outermost: one in 8000 for one direction.
OUTERMOST = 4.0

#: Digits of an average over inputs or nodes.
_DIGITS = 12

#: Margin up to which an output that is zero by symmetry counts as undecided.
_UNDECIDED = 1e-12


@dataclass(frozen=True)
class HydrodynamicSolution:
    """The density of nodes at times ``t``, on its characteristics, and what is observed of it.

    Attributes:
        equation: Eq. 5 for these nodes, and their weights, which are the same at all times.
        theta: (a, v, r) of each node: output weight, latent components, and length of the rest.
        steps: Steps that were taken, by which other nodes can be carried along.
        gamma: The clock, as `mfnet.network.observables.order_parameter` measures it along the first latent direction.
        unsatisfied: Fraction of training examples below the margin; of the hinge the mean force.
        loss: ⟨ℓ⟩/α².
        train_error, test_error: Fractions of wrong signs of training labels, and of true ones.
        displacement: |θ − θ₀|/|θ₀| over all nodes.
        margin_at: The smallest u > 0 at the margin, αF = h; inf where there is none.
        tail: Output of the outermost nodes (`OUTERMOST`) relative to that of all. Where it is not small the few nodes
            that started largest run away, as they do for activations that grow faster than linearly, such as ReLU²; a
            limit of infinitely many nodes then does not exist, and from there on all else is nan.
    """

    equation: Equation
    t: Float[Array, " T"]
    theta: Float[Array, "T n D"]
    steps: list[Step]
    gamma: Float[Array, " T"]
    unsatisfied: Float[Array, " T"]
    loss: Float[Array, " T"]
    train_error: Float[Array, " T"]
    test_error: Float[Array, " T"]
    displacement: Float[Array, " T"]
    margin_at: Float[Array, " T"]
    tail: Float[Array, " T"]

    def at(self, rows: Int[Array, " S"]) -> HydrodynamicSolution:
        """The same at some of the times."""
        series = {entry.name: getattr(self, entry.name)[rows] for entry in fields(self) if entry.name not in _FIXED}
        return replace(self, **series)

    def mean(self, function: Callable[[Array, Array, Array], Array]) -> Float[Array, " T"]:
        """Average over the nodes of a function of (a, v, r), shapes (n,), (n, k) and (n,), which gives (n,)."""
        return np.array(
            [self.equation.measure @ function(theta[:, 0], theta[:, 1:-1], theta[:, -1]) for theta in self.theta]
        )

    def output(self, u: Float[Array, "q k"]) -> Float[Array, "T q"]:
        """F at latent inputs, for |x⊥| = √(d − k)."""
        length = np.full(len(u), math.sqrt(self.equation.d - u.shape[1]))
        return np.array([self.equation.output(theta, Inputs(u, length)) for theta in self.theta])


def observe(flow: Flow, outermost: Bool[Array, " n"]) -> dict[str, float]:
    """What a `HydrodynamicSolution` has, by name, of the nodes as they are now."""
    equation, points, output = flow.equation, flow.field.points, flow.field.output
    loss, h, alpha = equation.loss, equation.h, equation.alpha

    def count(m: Array) -> Array:
        return equation.force(m) if equation.hinge else (m < h).astype(float)

    learned = (equation.right(points), alpha * output, points.weights)
    moved = equation.measure * ((flow.theta - flow.start) ** 2).sum(axis=1)
    size = equation.measure @ (flow.start**2).sum(axis=1)
    still = moved.sum() == 0.0
    train_error, test_error = (0.5, 0.5) if still else _errors(flow)
    return {
        "gamma": _order_parameter(flow.theta[:, :2], flow.start[:, :2], equation.measure),
        "unsatisfied": _average(count, *learned),
        "loss": _average(lambda m: loss.value(m, h), *learned) / alpha**2,
        "train_error": train_error,
        "test_error": test_error,
        "displacement": math.sqrt(float(moved.sum() / size)),
        "margin_at": _at_margin(flow),
        "tail": _tail(flow, outermost),
    }


def _tail(flow: Flow, outermost: Bool[Array, " n"]) -> float:
    """Root mean square over inputs of the output of the outermost nodes, relative to that of all."""
    points, output = flow.field.points, flow.field.output
    if not outermost.any() or (whole := float(points.weights @ output**2)) < _UNDECIDED**2:
        return 0.0
    equation = replace(flow.equation, measure=np.where(outermost, flow.equation.measure, 0.0))
    part = float(points.weights @ equation.output(flow.theta, Inputs(points.u, points.length)) ** 2)
    return math.sqrt(part / whole)


def _errors(flow: Flow) -> tuple[float, float]:
    """Fractions of wrong signs, of training labels and of true ones.

    Where F is near 0 its sign depends on |x⊥|. F is taken to be linear in it, and |x⊥| to be normal, so that F at
    a given u has the mean and the spread of its two values.
    """
    equation, law = flow.equation, flow.equation.rays.law
    lengths = typical_lengths(equation.d - law.k)
    rays = Rays(law, lengths.mean(keepdims=True))
    points = rays.points(equation.output(flow.theta, Inputs(*rays.looked)), np.zeros(1))
    below, above = (equation.output(flow.theta, Inputs(points.u, np.full(len(points.u), length))) for length in lengths)
    margin, spread = 0.5 * equation.alpha * (above + below), 0.5 * equation.alpha * np.abs(above - below)

    def wrong(m: Array) -> Array:
        return np.where(np.abs(m) <= _UNDECIDED, 0.5, ndtr(-m / np.maximum(spread, 1e-3 * _UNDECIDED)))

    true = 0.5 * (1.0 + points.mean_label)
    learned = _average(wrong, equation.right(points), margin, points.weights)
    return learned, _average(wrong, true, margin, points.weights)


def _at_margin(flow: Flow) -> float:
    equation, rays = flow.equation, flow.equation.rays
    return rays.first_crossing(equation.output(flow.theta, Inputs(*rays.looked)), equation.h / equation.alpha)


def _average(of: Callable[[Array], Array], share: Array, margin: Array, weights: Array) -> float:
    """Of a function of margins, over labels that are 1 with the probability ``share``."""
    return round(float(weights @ (share * of(margin) + (1.0 - share) * of(-margin))), _DIGITS)


def _order_parameter(now: Float[Array, "n 2"], then: Float[Array, "n 2"], measure: Float[Array, " n"]) -> float:
    """γ of nodes (a, w∥) that have these weights."""
    factors = []
    for sign in (1.0, -1.0):
        u, u0 = now @ [1.0, sign], then @ [1.0, sign]
        factors.append(float((measure * u) @ u0) / float((measure * u0) @ u0))
    return round(math.asinh((factors[0] - factors[1]) / 2.0), _DIGITS)
