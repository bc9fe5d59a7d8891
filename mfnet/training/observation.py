"""What is seen of a network at one observation time."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Observation:
    """The state of a run at its k-th observation, at mean-field time t.

    Attributes:
        series: Value of each series of `mfnet.series`.
        a, w_par, w_perp: Parameters a, w∥ and |w⊥| of all M nodes.
        train_margins: Margins m = αyF of the training set.
    """

    k: int
    t: float
    series: dict[str, float]
    a: Float[Tensor, " M"]
    w_par: Float[Tensor, " M"]
    w_perp: Float[Tensor, " M"]
    train_margins: Float[Tensor, " N"]
