"""Losses ℓ(m) of the margin m = αyF, each with its force φ(m) = −ℓ′(m).

The loss of a network is L = ⟨ℓ(m)⟩/α² (eq. 8). An example is unsatisfied while m < h, whatever the loss.
At m = 0 and h = 1 the hinge, squared hinge and square loss have the same force.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

Loss = TypeVar("Loss", bound="MarginLoss")


@dataclass(frozen=True)
class MarginLoss(ABC):
    """A loss with margin ``h``, or one for each of R replicas, whose margins m are then (R, N)."""

    h: float | Float[Tensor, "R 1"] = 1.0
    name: ClassVar[str]
    #: Whether the force jumps at the margin, so that examples can slide along it.
    jumps: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """ℓ(m)."""

    @abstractmethod
    def force(self, m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """φ(m) = −ℓ′(m)."""

    def force_is_constant(self, m: Float[Tensor, "*n"], reach: Float[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
        """Whether φ is the same everywhere within ``reach`` of m."""
        return reach <= 0.0

    def of(self: Loss, replicas: Sequence[int]) -> Loss:
        """The loss of some replicas."""
        return replace(self, h=self.h[list(replicas)]) if isinstance(self.h, Tensor) else self

    def like(self: Loss, m: Tensor) -> Loss:
        """The loss in the type and on the device of margins."""
        return replace(self, h=self.h.to(m)) if isinstance(self.h, Tensor) else self


class Hinge(MarginLoss):
    """Linear hinge of the paper: ℓ = max(0, h − m), φ = 1[m < h]."""

    name = "hinge"
    jumps = True

    def __call__(self, m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return torch.relu(self.h - m)

    def force(self, m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return torch.lt(m, self.h, out=torch.empty_like(m))

    def force_is_constant(self, m: Float[Tensor, "*n"], reach: Float[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
        return (m - self.h).abs() >= reach


class SquaredHinge(MarginLoss):
    """ℓ = ½ max(0, h − m)², φ = max(0, h − m)."""

    name = "squared_hinge"

    def __call__(self, m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return 0.5 * torch.relu(self.h - m).square()

    def force(self, m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return torch.relu(self.h - m)

    def force_is_constant(self, m: Float[Tensor, "*n"], reach: Float[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
        return m - self.h >= reach


class Logistic(MarginLoss):
    """ℓ = ln(1 + e^{−m}), φ = 1/(1 + e^m); h only says when an example counts as satisfied."""

    name = "logistic"

    def __call__(self, m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return functional.softplus(-m)

    def force(self, m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return torch.sigmoid(-m)


class Square(MarginLoss):
    """ℓ = ½(h − m)², φ = h − m."""

    name = "square"

    def __call__(self, m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return 0.5 * (self.h - m).square()

    def force(self, m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return self.h - m


LOSSES: dict[str, type[MarginLoss]] = {loss.name: loss for loss in (Hinge, SquaredHinge, Logistic, Square)}


def margin_loss(name: str, h: float | Float[Tensor, "R 1"] = 1.0) -> MarginLoss:
    """The loss of that name with margin ``h``.

    >>> margin_loss("hinge", h=1.0).force(torch.tensor([0.5, 2.0]))
    tensor([1., 0.])
    """
    return LOSSES[name](h)
