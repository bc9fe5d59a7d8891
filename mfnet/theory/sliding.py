"""One implicit step of margins that push each other through a kernel of low rank.

Margins obey ``dm_n/dt = (1/N) [U_n·B Σ_k U_k φ_k + κ_n φ_n]`` with forces φ = φ(m) that fall with m: a gradient flow of
the loss in the metric of the kernel. The force of the hinge jumps at h, where examples slide: pushed below by the
others, lifted by themselves. The implicit Euler step

    m_n⁺ = m_n + τ (U_n·B p + κ_n φ_n),   φ_n = φ(m_n⁺),   p = Σ_k U_k φ_k,   τ = Δt/N,

has one solution whatever its length, on which a sliding example stays at h with the force in [0, 1] that holds it
there: the loss is convex, so that forces do not grow with m. Given p each example is solved by itself, so that what is
left is ``p = Σ_k U_k φ_k(p)`` in as many unknowns as the kernel's rank: the gradient of a convex function of p
vanishes. It is found by Newton's method with a line search.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mfnet.theory.arrays import Array
from mfnet.theory.losses import HINGE, SQUARE, SQUARED_HINGE, Loss, check_slope

#: Width of the hinge's jump, in units of h: where the kernel has no self-term, its sliding forces are still unique.
HINGE_WIDTH = 1e-3

#: Largest error of a margin that is left by a step, in units of h.
TOLERANCE = 1e-5

_LONGEST = 100  # Newton steps; a step of the flow takes three

#: Largest error of a margin of a single example, relative to h or to the margin.
_SINGLE = 1e-10

_LONGEST_SINGLE = 300  # Newton steps and bisections; three to five where the force is smooth


class Kernel(NamedTuple):
    """K̂_nk = U_n·B U_k + κ_n δ_nk, with labels in U: it maps forces to velocities of margins (times N)."""

    features: Float[Array, "N k"]
    blend: Float[Array, "k k"]
    kappa: Float[Array, " N"]


class Impulse(NamedTuple):
    """Forces at the end of a step, with which the whole of it is taken, and their features p = Σ_n U_n φ_n."""

    force: Float[Array, " N"]
    features: Float[Array, " k"]


def implicit_step(
    kernel: Kernel,
    loss: Loss,
    h: float,
    margins: Float[Array, " N"],
    tau: float,
    guess: Float[Array, " k"],
) -> Impulse:
    """The forces of an implicit Euler step of length τ = Δt/N from ``margins``.

    Args:
        kernel: The kernel, positive semi-definite.
        loss: The loss; its force must not grow with the margin, and only the hinge's may jump.
        h: Its margin.
        margins: Margins at the beginning.
        tau: Δt/N.
        guess: Features p to begin with, for instance those of the last step.

    Raises:
        ValueError: For a loss whose force jumps and is not the hinge's, or is seen to grow with the margin.
        RuntimeError: If Newton's method does not come to an end (it is not known to happen).
    """
    check_slope(loss, "the implicit step")
    features, blend = kernel.features, kernel.blend
    own = tau * kernel.kappa + (HINGE_WIDTH * h if loss == HINGE else 0.0)
    longest = tau * math.sqrt(float(np.max(np.einsum("nk,nk->n", features, features))))
    p = guess
    reached = margins + tau * (features @ (blend @ p))
    force, softness = _solve_each(loss, h, reached, own)
    for _ in range(_LONGEST):
        missing = p - features.T @ force
        gradient = blend @ missing
        if longest * float(np.linalg.norm(gradient)) < TOLERANCE * h:
            return Impulse(force, p - missing)
        moving = np.flatnonzero(softness)
        part = features[moving]
        stiffness = part.T @ (part * softness[moving, None])
        step = -np.linalg.solve(np.eye(len(p)) + tau * (stiffness @ blend), missing)
        drift = tau * (features @ (blend @ step))
        scale, slope = 1.0, float(step @ gradient)
        while True:
            force, softness = _solve_each(loss, h, reached + scale * drift, own)
            # derivative of the convex function along the step; it must fall, and may change its sign a little
            here = float(step @ (blend @ (p + scale * step)) - drift @ force / tau)
            if here <= 0.5 * abs(slope) or scale < 1e-6:
                break
            scale *= 0.5
        p = p + scale * step
        reached = reached + scale * drift
    raise RuntimeError(f"the implicit step of {len(margins)} margins was not solved in {_LONGEST} Newton steps")


def _solve_each(
    loss: Loss, h: float, reached: Float[Array, " N"], own: Float[Array, " N"]
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """The force φ with φ = φ(reached + own φ) of each example, and −dφ/d(reached), its softness."""
    if loss == HINGE:
        raw = (h - reached) / own
        inside = (raw > 0.0) & (raw < 1.0)
        return np.clip(raw, 0.0, 1.0), np.where(inside, 1.0 / own, 0.0)
    if loss in (SQUARE, SQUARED_HINGE):
        raw = (h - reached) / (1.0 + own)
        softness = 1.0 / (1.0 + own)
        return (raw, softness) if loss == SQUARE else (np.maximum(raw, 0.0), np.where(raw > 0.0, softness, 0.0))
    with np.errstate(over="ignore", invalid="ignore"):
        return _solve_each_on_slope(loss, h, reached, own)


def _solve_each_on_slope(
    loss: Loss, h: float, reached: Float[Array, " N"], own: Float[Array, " N"]
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """The same for any convex loss with a curvature, by Newton's method between bounds, else by bisection.

    ``m − own φ(m) − reached`` grows with m at a rate of at least 1, so that its root is no farther from ``reached``
    than own |φ(reached)|, on the side to which the force points.
    """
    curvature_of = loss.curvature
    assert curvature_of is not None
    push = np.where(own > 0.0, own * loss.force(reached, h), 0.0)
    near, width = np.zeros_like(push), np.minimum(np.abs(push), h)
    while True:  # a force of reached ≪ 0 may be huge, and the root far nearer than it says
        at = reached + np.copysign(width, push)
        short = (width < np.abs(push)) & ((at - own * loss.force(at, h) - reached) * push < 0.0)
        if not short.any():
            break
        near, width = np.where(short, width, near), np.where(short, 2.0 * width, width)
    ends = reached + np.copysign(near, push), reached + np.copysign(width, push)
    low, high = np.minimum(*ends), np.maximum(*ends)
    m, last, moving = ends[0], 2.0 * (high - low), np.ones(len(reached), dtype=bool)
    for _ in range(_LONGEST_SINGLE):
        force, slope = loss.force(m, h), curvature_of(m, h)
        if (slope < 0.0).any():
            raise ValueError(f"the force of the loss {loss.name!r} grows with the margin at m={m[slope < 0.0][0]:g}")
        if not moving.any():
            return force, slope / (1.0 + own * slope)
        missing = m - own * force - reached
        low, high = np.where(missing <= 0.0, m, low), np.where(missing >= 0.0, m, high)
        change = np.clip(m - missing / (1.0 + own * slope), low, high) - m
        slow = ~(np.abs(change) <= 0.5 * last)  # or not a number
        change = np.where(slow, (low + high) / 2.0 - m, change)
        last = np.abs(change)
        m = np.where(moving, m + change, m)
        moving &= last > _SINGLE * np.maximum(h, np.abs(m))
    raise RuntimeError(f"the margins of {moving.sum()} examples were not solved in {_LONGEST_SINGLE} steps")
