"""Initial values of the nodes: the ways in which they are drawn, and how their second moments scatter.

``independent``: every a is N(0, A²), every w N(0, B²I), all independent.

``balanced``: n = M/4 pairs (a, w), each with all four signs, (±a, ±w). Every moment that is odd in the a or odd in the
w is then 0: E a, E w, E[a w], E[a w wᵀ], …, and f₀. The a are scaled so that E a² = A². Of the second moments
P = E w wᵀ

- all are exact, P = B²I, if M ≥ 4d: the n × d matrix of the w has orthonormal columns, but for a factor;
- the trace alone is, tr P = B²d, if M < 4d: n weights do not span the space. They are orthogonal to each other.

A single node keeps the law of an independent one to leading order (`mfnet.network.initial_values`).

With labels odd in x and inputs of spherical symmetry (N = ∞) the balanced network is not only closer to M = ∞. While F
is odd, φy is odd in x, and only the odd part cz of σ moves a node: all turn by the same γ (eq. 10). On these hyperbolas
(a, w) → (−a, −w) is still a symmetry of the nodes, which leaves F odd and so linear, F = (c/√d) x·(E a w); its matrix of
coefficients is the limit's if P = B²I. So for M ≥ 4d the flow *is* that of M = ∞, at all times, and nothing of it is
left to the draw. For M < 4d the scatter of P is left (`weight_scatter`), and it is larger than that of M independent
nodes where M < 2d, since there are M/4 different weights. On a fixed training set both parts hold no longer: the even
part of the tangent kernel, which carries the memory of single examples, scatters at order 1/√M as before.
"""

from __future__ import annotations

import math
from typing import NamedTuple

#: The ways to draw.
INITS = ("independent", "balanced")


class Scatter(NamedTuple):
    """Variances over draws of P = E w wᵀ, B = 1: of an element on the diagonal, and of one beside it."""

    along: float
    across: float


def check_init(init: str, M: float) -> None:
    """Checks that M nodes can be drawn in this way.

    Raises:
        ValueError: If there is no such way, or balanced nodes do not come in fours.
    """
    if init not in INITS:
        raise ValueError(f"init={init!r} must be one of {', '.join(INITS)}")
    if init == "balanced" and (M < 4 or M % 4 != 0):
        raise ValueError(f"M={M} must be a multiple of 4 for balanced nodes, (±a, ±w)")


def exact_weights(M: float, d: int) -> bool:
    """Whether P = B²I exactly for balanced nodes, not only in its trace."""
    return M >= 4 * d


def weight_scatter(M: float, d: int) -> Scatter:
    """Scatter of P for balanced nodes, exact: 0 for M ≥ 4d, where P = B²I.

    For n = M/4 < d weights, P = (d/n) Σ_i p_i e_i e_iᵀ, with orthonormal e_i of random directions and shares p_i of
    the squared length with Dirichlet's law of parameters d/2. The law is that of a rotated P, and tr P is fixed, which
    gives the element across from that along. To leading order in 1/d ``across`` = (1 − n/d)/n.
    """
    if exact_weights(M, d):
        return Scatter(0.0, 0.0)
    n = M / 4
    along = 2.0 * (d - n) / (n * (d + 2)) + 4.0 * d * (n - 1) / (n * (n * d + 2) * (d + 2))
    return Scatter(along, 0.5 * along * d / (d - 1) if d > 1 else 0.0)


def as_drawn(init: str, M: int, d: int) -> str:
    """What is to be said of the draw before a run, in a few words; nothing of independent nodes.

    >>> as_drawn("balanced", 80, 20), as_drawn("balanced", 40, 20)
    ('balanced nodes', 'balanced nodes (E wwᵀ in its trace alone: M < 4d)')
    """
    if init == "independent":
        return ""
    return "balanced nodes" if exact_weights(M, d) else "balanced nodes (E wwᵀ in its trace alone: M < 4d)"
