"""Activations σ and their derivatives. All have a linear odd part, σ(z) − σ(−z) = 2cz (theory.md, 2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Function = Callable[[Float[Tensor, "*n"]], Float[Tensor, "*n"]]

LEAKY_SLOPE = 0.01


@dataclass(frozen=True)
class Activation:
    """σ and σ′.

    A positively homogeneous σ(z) = zσ′(z), whose nodes have a drive (`mfnet.flow.evaluator`), also comes in place:
    ``value_`` and then ``derivative_`` of what ``value_`` left, which has the sign of z. The large arrays of a pass
    over the examples are then written once.
    """

    name: str
    value: Function
    derivative: Function
    value_: Function | None = None
    derivative_: Function | None = None

    @property
    def homogeneous(self) -> bool:
        """Whether σ is positively homogeneous."""
        return self.value_ is not None


def _normal_cdf(z: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-z / math.sqrt(2.0))


def _gelu_derivative(z: Tensor) -> Tensor:
    return _normal_cdf(z) + z * torch.exp(-0.5 * z.square()) / math.sqrt(2.0 * math.pi)


def _silu_derivative(z: Tensor) -> Tensor:
    gate = torch.sigmoid(z)
    return gate * (1.0 + z * (1.0 - gate))


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        Activation("relu", torch.relu, lambda z: (z > 0).to(z.dtype), torch.relu_, lambda s: s.sign_()),
        Activation(
            "leaky_relu",
            lambda z: functional.leaky_relu(z, LEAKY_SLOPE),
            lambda z: LEAKY_SLOPE + (1.0 - LEAKY_SLOPE) * (z > 0).to(z.dtype),
            lambda z: functional.leaky_relu_(z, LEAKY_SLOPE),
            lambda s: s.gt_(0.0).mul_(1.0 - LEAKY_SLOPE).add_(LEAKY_SLOPE),
        ),
        Activation("linear", lambda z: z, torch.ones_like, lambda z: z, lambda s: s.fill_(1.0)),
        Activation("gelu", functional.gelu, _gelu_derivative),
        Activation("silu", functional.silu, _silu_derivative),
        Activation("softplus", functional.softplus, torch.sigmoid),
    )
}
