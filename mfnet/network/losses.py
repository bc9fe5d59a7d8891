"""Losses ℓ(m) of the margin m = αyF, each with its force φ(m) = −ℓ′(m).

The loss of a network is L = ⟨ℓ(m)⟩/α² (eq. 8). An example is unsatisfied while m < h, whatever the loss.
At m = 0 and h = 1 the hinge, squared hinge and square loss have the same force.

A loss of your own is a subclass of `MarginLoss` that says what ℓ(m) is::

    class Exponential(MarginLoss):
        def __call__(self, m):
            return torch.exp(-m)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, TypeVar, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from mfnet.network.activations import kind_of

Loss = TypeVar("Loss", bound="MarginLoss")


@dataclass(frozen=True)
class MarginLoss(ABC):
    """A loss with margin ``h``, or one for each of R replicas, whose margins m are then (R, N).

    A subclass must write ``__call__`` and may write the rest. With parameters of its own it is a frozen dataclass too,
    whose fields have default values. The default flow also needs ℓ ≥ 0 and ℓ(0) > 0 (`mfnet.flow.averaged`).

    Attributes:
        h: The margin.
        name: Its name, which no two losses share; by default that of the class, in lower case.
        jumps: Whether the force jumps at the margin h, so that examples can slide along it.
        theory: Its twin, a `mfnet.theory.losses.Loss`, where the theory does not know the name itself.
    """

    h: float | Float[Tensor, "R 1"] = 1.0
    name: ClassVar[str]
    jumps: ClassVar[bool] = False
    theory: ClassVar[object | None] = None

    def __init_subclass__(cls) -> None:
        cls.name = vars(cls).get("name", cls.__name__.lower())
        if "__call__" in vars(cls):  # the twin of a parent is not that of another ℓ
            cls.theory = vars(cls).get("theory")

    @abstractmethod
    def __call__(self, m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """ℓ(m) of each example, for margins (N,) or (R, N), by operations that autograd can follow."""

    def force(self, m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """φ(m) = −ℓ′(m); by default autograd's, which costs another evaluation of ℓ."""
        with torch.enable_grad():
            m = m.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self(m).sum(), m)
        return slope.neg_()

    def force_is_constant(self, m: Float[Tensor, "*n"], reach: Float[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
        """Whether φ is the same everywhere within ``reach`` of m; forecasts leave out examples of which it is known."""
        return reach <= 0.0

    @property
    def switches(self) -> bool:
        """Whether the force is 0 or 1 and nothing else, so that float32 holds it, and its means, exactly."""
        return type(self).force is Hinge.force

    def of(self: Loss, replicas: Sequence[int]) -> Loss:
        """The loss of some replicas."""
        return replace(self, h=self.h[list(replicas)]) if isinstance(self.h, Tensor) else self

    def like(self: Loss, m: Tensor) -> Loss:
        """The loss in the type and on the device of margins."""
        return replace(self, h=self.h.to(m)) if isinstance(self.h, Tensor) else self


class Hinge(MarginLoss):
    """Linear hinge of the paper: ℓ = max(0, h − m), φ = 1[m < h]."""

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

    def __call__(self, m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return functional.softplus(-m)

    def force(self, m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return torch.sigmoid(-m)


class Square(MarginLoss):
    """ℓ = ½(h − m)², φ = h − m."""

    def __call__(self, m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return 0.5 * (self.h - m).square()

    def force(self, m: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        return self.h - m


LOSSES: dict[str, type[MarginLoss]] = {loss.name: loss for loss in (Hinge, SquaredHinge, Logistic, Square)}


def loss_of(given: object, h: float | Float[Tensor, "R 1"] | None = None) -> MarginLoss:
    """The loss that a name, a subclass of `MarginLoss`, or a loss stands for, with margin ``h``.

    >>> loss_of("hinge", h=1.0).force(torch.tensor([0.5, 2.0]))
    tensor([1., 0.])

    Args:
        given: The name, the class or the loss.
        h: The margin; None is that of the loss that is given, else 1.

    Raises:
        ValueError: For what is none of these, and for a class that is not a margin loss.
    """
    if isinstance(given, str):
        if given not in LOSSES:
            raise ValueError(f"there is no loss {given!r}: known are {', '.join(LOSSES)}")
        given = LOSSES[given]
    kind: Any = given if isinstance(given, type) else type(given)
    if not issubclass(kind, MarginLoss):
        raise ValueError(f"{given!r} is no loss: give a name, or a subclass of MarginLoss or an instance of one")
    try:
        loss: MarginLoss = kind() if isinstance(given, type) else cast(MarginLoss, given)
        loss = loss if h is None else replace(loss, h=h)
    except TypeError as error:  # abstract, or with fields that have no default
        raise ValueError(f"loss {kind.__name__} cannot be made: {error}") from error
    if kind is not LOSSES.get(kind.name):
        if kind.name in LOSSES:
            raise ValueError(f"a loss of your own cannot be called {kind.name}, as one of mfnet's is; rename it")
        for dtype in (torch.float32, torch.float64):
            m = torch.linspace(-2.93, 3.17, 35, dtype=dtype)
            for margins in [m.expand(len(loss.h), -1)] if isinstance(loss.h, Tensor) else [m, m.view(5, 7)]:
                _check(loss.like(m), margins)
    return loss


def _check(loss: MarginLoss, m: Float[Tensor, "*R N"]) -> None:
    """Raises ValueError unless ℓ is a value for each margin, the force is −ℓ′, and constant where it is said to be."""
    wrong = f"loss {loss.name}"
    close = partial(torch.allclose, rtol=1e-4, atol=1e-5, equal_nan=True)
    try:
        value, force, part = loss(m), loss.force(m), loss(m[..., :3])
        expected = MarginLoss.force(loss, m)
        near = torch.full_like(m, 0.3)
        constant = [loss.force_is_constant(m, near) & (loss.force(m + shift) != force) for shift in (-0.29, 0.29)]
    except Exception as error:  # of code that is not ours
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{wrong} cannot be evaluated and differentiated by torch: {line}") from error
    for name, values in {"ℓ": value, "the force": force}.items():
        if not isinstance(values, Tensor):
            raise ValueError(f"{wrong}: {name} of margins is a {type(values).__name__}, and must be a tensor")
        if values.shape != m.shape or values.dtype != m.dtype:
            raise ValueError(f"{wrong}: {name} of a {kind_of(m)} is a {kind_of(values)}, and must be like the margins")
    if not close(part, value[..., :3]):
        raise ValueError(f"{wrong}: the value of an example depends on the margins of others")
    if not close(force, expected):
        raise ValueError(f"{wrong}: its force is not −ℓ′, the slope of its value; write force anew, or leave it out")
    if any(bool(each.any()) for each in constant):
        raise ValueError(f"{wrong}: force_is_constant says so where its force changes; write it anew")
