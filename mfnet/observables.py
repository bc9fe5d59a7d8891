"""Pure functions of a network's state that a run reports."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def unsatisfied_count(margins: Float[Tensor, " N"], h: float) -> Tensor:
    """Number of examples with margin m = αyF below h.

    >>> int(unsatisfied_count(torch.tensor([0.5, 1.0, 2.0]), h=1.0))
    1
    """
    return (margins < h).sum()


def error_count(margins: Float[Tensor, " N"]) -> Tensor:
    """Number of examples on the wrong side, yF < 0; an undecided one, F = 0 exactly, counts one half.

    >>> float(error_count(torch.tensor([-1.0, 0.0, 3.0])))
    1.5
    """
    return (margins < 0).sum() + 0.5 * (margins == 0).sum()


def node_projections(
    w: Float[Tensor, "M d"], direction: Float[Tensor, " d"]
) -> tuple[Float[Tensor, " M"], Float[Tensor, " M"]]:
    """(w∥, |w⊥|): components of the weights along the unit vector ``direction`` and across it."""
    w_par = w @ direction
    w_perp = (w - w_par[:, None] * direction).norm(dim=1)
    return w_par, w_perp


def order_parameter(
    a: Float[Tensor, " M"], w_par: Float[Tensor, " M"], a0: Float[Tensor, " M"], w_par0: Float[Tensor, " M"]
) -> Float[Tensor, ""]:
    """γ as measured on actual nodes: sinh γ is how far they have moved along their hyperbolas (eq. 10).

    With u = a + w∥ and v = a − w∥ the theory says u = e^γ u₀ and v = e^{−γ} v₀; both factors are estimated by
    least squares on the initial values, and sinh γ is half their difference. Exact when nodes follow eq. 10
    for any finite M; unbiased by fluctuations of the nodes about it.

    >>> a0, w0 = torch.tensor([1.0, -2.0, 0.3]), torch.tensor([0.5, 1.0, 2.0])
    >>> c, s = torch.cosh(torch.tensor(0.7)), torch.sinh(torch.tensor(0.7))
    >>> round(float(order_parameter(c * a0 + s * w0, c * w0 + s * a0, a0, w0)), 5)
    0.7
    """
    u, v, u0, v0 = (value.double() for value in (a + w_par, a - w_par, a0 + w_par0, a0 - w_par0))
    growth, decay = (u @ u0) / (u0 @ u0), (v @ v0) / (v0 @ v0)
    return torch.asinh((growth - decay) / 2.0)


def r_squared(values: Float[np.ndarray, ...], predicted: Float[np.ndarray, ...]) -> float:
    """R² = 1 − Σ(v − v̂)²/Σ(v − ⟨v⟩)²: 1 for a prediction that is right, 0 for one no better than the mean.

    Values that are all the same are explained, 1, if predicted exactly, else not at all, −∞.

    >>> r_squared(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0]))
    0.5
    """
    unexplained, variation = (float(np.sum(np.square(values - mean))) for mean in (predicted, values.mean()))
    if unexplained == 0.0:
        return 1.0
    return 1.0 - unexplained / variation if variation > 0.0 else -np.inf


def share_outside(moved: Float[Tensor, "M d"], basis: Float[Tensor, "k d"]) -> float:
    """Share of Σ|Δw|² that is not in the span of an orthonormal ``basis``; 0 before any motion.

    >>> share_outside(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]]))
    0.64
    """
    total = float(moved.double().square().sum())
    return 1.0 - float((moved @ basis.T).double().square().sum()) / total if total > 0.0 else 0.0
