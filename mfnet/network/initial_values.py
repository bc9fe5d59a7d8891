"""Initial values of the nodes, of unit variances and in float64: independent, or balanced (`mfnet.theory.initial`).

**The law of one balanced node.** a = ±√n ĝ, the component of a random unit vector of n = M/4 dimensions: N(0, 1) to
order 1/n. w has a random direction, exactly, by the rotation symmetry of the draw. Its length has

- for M < 4d the law χ_d but for one common factor, of relative order 1/√(nd), that fixes Σ|w|²;
- for M ≥ 4d the mean square d, and (1 − d/n) of the variance of χ_d² (to leading order; n = d orthogonal vectors whose
  Σ w wᵀ is a multiple of I must all have the same length).

So w is N(0, I) for n ≫ d. For n = d it is uniform on the sphere of radius √d, which is N(0, I) to order 1/d in every
observable that the components along a few directions make.

References: antithetic variates; F. X. Yu et al., *Orthogonal random features* (2016), for the blocks; L. Chizat, E.
Oyallon and F. Bach, *On lazy training in differentiable programming* (2019), for signs that make f₀ = 0.
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
    n_blocks = math.ceil(n / d)
    sizes = [(i + 1) * n // n_blocks - i * n // n_blocks for i in range(n_blocks)]
    w = torch.cat([_orthogonal(size, d, generator) for size in sizes])
    w *= torch.randn(n, d, generator=generator, dtype=torch.float64).norm(dim=1, keepdim=True)
    w = math.sqrt(n) * _polar(w) if exact_weights(M, d) else w * (math.sqrt(n * d) / torch.linalg.vector_norm(w))
    return torch.cat([a, -a, a, -a]), torch.cat([w, w, -w, -w])


def _orthogonal(n: int, d: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
    """n ≤ d rows of a random orthogonal matrix, with Haar's measure."""
    q, r = torch.linalg.qr(torch.randn(d, n, generator=generator, dtype=torch.float64))
    return (q * r.diagonal().sign()).T  # QR alone prefers a sign


def _polar(w: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """w (wᵀw)^{−1/2}, whose columns are orthonormal: the nearest such matrix, to rounding even where wᵀw is singular."""
    q, r = torch.linalg.qr(w)
    u, _, vh = torch.linalg.svd(r)
    return q @ (u @ vh)
