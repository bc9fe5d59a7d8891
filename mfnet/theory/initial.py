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
(a, w) → (−a, −w) is still a symmetry of the nodes, so that F stays odd, hence linear, F = (c/√d) x·E[a w]; and that is
the limit's if P = B²I. So for M ≥ 4d the flow *is* that of M = ∞, at all times, and nothing of it is left to the draw.
For M < 4d the scatter of P is left (`weight_scatter`), and it is larger than that of M independent nodes where M < 2d,
since there are M/4 different weights. On a fixed training set it is not: the even part of the tangent kernel, which
carries the memory of single examples, scatters at order 1/√M as before, half as much (`mfnet.network.initial_values`),
and makes a share of order 1/√(MN) of F early.

**Measured** (`mfnet validate balanced`): on fresh data the deviation of F from the mean field's does not depend on M,
exponent −0.005 ± 0.003 from M = 4d to 64d, and falls with the examples of a step; of independent nodes it is
M^(−0.47 ± 0.04). On N examples, exponents in M of the first step are −0.49 ± 0.02 and −0.51 ± 0.02.

Whole runs on the same training set (N = 2000, d = 50, averaged flow, hinge, h = 1, seeds 0, 1, 2): test error at six
times in units of `MeanField.time_scale` (0.05, 0.3, 1, 3; then 8, 20 for α = 10⁻³, 8, 30 for α = 1 with 5 % of labels
flipped, 10, 60 for α = 10³), and deviations from balanced nodes of M = 100d: of the test error, relative, root mean
square over all times and seeds, and of its final value; of ⟨φ̄⟩, which is n_u with sliding averaged, the largest one.

========  ===========  ===  =========================================  =====  =====  =====
α, ε      nodes        M/d  test error                                 r.m.s  final  ⟨φ̄⟩
========  ===========  ===  =========================================  =====  =====  =====
10⁻³, 0   independent  4    .161  .089  .0518  .0302  .0318  .0318     .27    .05    .013
..        independent  16   .116  .076  .0526  .0308  .0302  .0302     .10    .02    .006
..        independent  100  .124  .075  .0524  .0303  .0298  .0298     .04    .02    .005
..        balanced     4    .124  .073  .0527  .0309  .0319  .0319     .05    .06    .009
..        balanced     8    .124  .073  .0527  .0306  .0308  .0308     .03    .04    .005
..        balanced     16   .122  .072  .0528  .0310  .0303  .0303     .04    .05    .001
..        balanced     100  .124  .073  .0526  .0306  .0303  .0303
1, .05    independent  4    .137  .129  .0773  .0466  .0542  .128      .38    .04    .017
..        independent  16   .104  .099  .0688  .0428  .0514  .124      .16    .02    .012
..        independent  100  .104  .099  .0667  .0429  .0488  .125      .05    .02    .005
..        balanced     4    .098  .094  .0667  .0452  .0536  .131      .06    .06    .013
..        balanced     8    .100  .094  .0648  .0424  .0519  .127      .04    .03    .008
..        balanced     16   .098  .094  .0648  .0427  .0500  .124      .03    .01    .007
..        balanced     100  .099  .094  .0646  .0427  .0494  .123
10³, 0    independent  4    .165  .157  .0858  .0633  .0558  .0539     .62    .44    .041
..        independent  16   .117  .113  .0628  .0482  .0414  .0408     .22    .09    .016
..        independent  100  .126  .119  .0518  .0427  .0374  .0363     .06    .03    .008
..        balanced     4    .128  .121  .0522  .0441  .0418  .0445     .12    .19    .043
..        balanced     8    .127  .121  .0512  .0441  .0388  .0420     .10    .13    .029
..        balanced     16   .125  .119  .0494  .0427  .0392  .0416     .08    .11    .014
..        balanced     100  .128  .121  .0508  .0418  .0368  .0375
========  ===========  ===  =========================================  =====  =====  =====

Until overfitting M = 4d balanced nodes are as near to M = ∞ as M = 100d independent ones. Late, where the memory of
single examples decides, they are no nearer than about as many independent ones, and what is left is largest at
α = 10³, where the network keeps the features that it was drawn with.
"""

from __future__ import annotations

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
    return 4 * d <= M


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
