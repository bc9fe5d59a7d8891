"""Initial values of the nodes, of unit variances and in float64: independent, or balanced (`mfnet.theory.initial`).

**The law of one balanced node**, n = M/4. a is √n times a component of a random unit vector of n dimensions: N(0, 1) to
order 1/n. w has a random direction, exactly, by the rotation symmetry of the draw, and

- for M ≥ 4d it is √n times d components of a random unit vector of n dimensions: the mean of |w|² is d, its variance
  (n − d)/(n + 2) of that of χ_d². So w is N(0, I) to order d/n in the variance of its length and 1/n in all else. n = d
  orthogonal vectors whose Σ w wᵀ is a multiple of I must all have the same length, √d; to order 1/d that is N(0, I) for
  all that depends on a few components;
- for M < 4d its length has the law χ_d, but for one factor of relative order 1/√(nd) that fixes Σ|w|².

Rows of random orthogonal matrices, d at a time, with independent lengths χ_d, whose second moments are then made exact
by the inverse square root of Σ w wᵀ, are the same for n ≤ d, and for n = 2d, 4d leave the lengths only (1 − d/n)² of
their variance; the tangent kernel scatters as much with either (std × √M of an element off the diagonal, d = 20: 0.25
with both, 0.51 with independent nodes; on the diagonal 0 and 1.7).

References: antithetic variates; F. X. Yu et al., *Orthogonal random features* (2016); L. Chizat, E. Oyallon and F.
Bach, *On lazy training in differentiable programming* (2019), for signs that make f₀ = 0.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.theory.initial import check_init, exact_weights

#: a of each node, and its w.
Values = tuple[Float[Tensor, " M"], Float[Tensor, "M d"]]


def initial_values(init: str, M: int, d: int, generator: torch.Generator) -> Values:
    """(a, w) of M nodes.

    Args:
        init: 'independent' or 'balanced'.
        M: Nodes.
        d: Input dimension.
        generator: Source of randomness.

    Raises:
        ValueError: If there is no such way to draw, or M is no multiple of 4 for balanced nodes.
    """
    check_init(init, M)
    if init == "balanced":
        return _balanced(M, d, generator)
    a = torch.randn(M, generator=generator, dtype=torch.float64)
    return a, torch.randn(M, d, generator=generator, dtype=torch.float64)


def _balanced(M: int, d: int, generator: torch.Generator) -> Values:
    """The pairs (a, w), (−a, w), (a, −w), (−a, −w), the n = M/4 pairs of one sign after those of another."""
    n = M // 4
    a = torch.randn(n, generator=generator, dtype=torch.float64)
    a *= math.sqrt(n) / torch.linalg.vector_norm(a)
    if exact_weights(M, d):
        w = math.sqrt(n) * _orthonormal(n, d, generator)
    else:
        w = torch.randn(n, d, generator=generator, dtype=torch.float64).norm(dim=1) * _orthonormal(d, n, generator)
        w = w.T * (math.sqrt(n * d) / torch.linalg.vector_norm(w))
    return torch.cat([a, -a, a, -a]), torch.cat([w, w, -w, -w])


def _orthonormal(n: int, k: int, generator: torch.Generator) -> Float[Tensor, "n k"]:
    """k ≤ n orthonormal columns of random directions, with Haar's measure."""
    q, r = torch.linalg.qr(torch.randn(n, k, generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()  # QR alone prefers a sign
