"""Activations σ and their derivatives.

ReLU, leaky ReLU, linear, GELU, SiLU and softplus have a linear odd part, σ(z) − σ(−z) = 2cz, and their mean-field
solution is known in closed form; tanh, sigmoid, erf and ReLU² have not. One of your own is any elementwise function of
torch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Function = Callable[[Float[Tensor, "*n"]], Float[Tensor, "*n"]]

LEAKY_SLOPE = 0.01


@dataclass(frozen=True)
class Activation:
    """σ and σ′, both of which leave their argument as it is.

    A positively homogeneous σ(z) = zσ′(z), whose nodes have a drive (`mfnet.flow.evaluator`), also comes in place:
    ``value_`` and then ``derivative_`` of what ``value_`` left, which has the sign of z. The large arrays of a pass
    over the examples are then written once.

    Attributes:
        name: Its name, which no two activations share.
        value, derivative: σ and σ′.
        value_, derivative_: The same in place, of a positively homogeneous σ alone.
        theory: Its twin, a `mfnet.theory.activations.Activation`, where the theory does not know the name itself.
    """

    name: str
    value: Function
    derivative: Function
    value_: Function | None = None
    derivative_: Function | None = None
    theory: object | None = None

    def linear_part(self, std: float) -> float:
        """c = E σ′(z) for normal z of this standard deviation: the slope of the linear part of σ.

        Where the odd part of σ is linear this is its slope, whatever ``std``.
        """
        nodes, weights = np.polynomial.hermite_e.hermegauss(64)
        slopes = self.derivative(torch.from_numpy(std * nodes)).double().numpy()
        return float(weights @ slopes / weights.sum())

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
        Activation("tanh", torch.tanh, lambda z: 1.0 - torch.tanh(z).square()),
        Activation("sigmoid", torch.sigmoid, lambda z: torch.sigmoid(z) * torch.sigmoid(-z)),
        Activation("erf", torch.erf, lambda z: 2.0 / math.sqrt(math.pi) * torch.exp(-z.square())),
        Activation("relu_squared", lambda z: torch.relu(z).square(), lambda z: 2.0 * torch.relu(z)),
    )
}


def activation_of(given: object) -> Activation:
    """The activation that a name, a record, or an elementwise function of torch's stands for.

    The derivative of a function is autograd's. A function is not taken to be positively homogeneous: where yours is,
    and its nodes are to turn, write an `Activation` with ``value_`` and ``derivative_``.

    >>> activation_of(torch.tanh).derivative(torch.zeros(2))
    tensor([1., 1.])

    Raises:
        ValueError: For what is none of these, and for what is not such an activation.
    """
    if isinstance(given, str):
        if given not in ACTIVATIONS:
            raise ValueError(f"there is no activation {given!r}: known are {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[given]
    for own in ACTIVATIONS.values():
        if given is own or given is own.value:
            return own
    if not isinstance(given, Activation):
        if not callable(given):
            raise ValueError(
                f"{given!r} is no activation: give a name, an Activation, or a function such as torch.tanh"
            )
        function = given.func if isinstance(given, partial) else given
        name = getattr(function, "__name__", type(function).__name__)
        given = Activation(name, given, partial(slope, given))
    if given.name in ACTIVATIONS:
        raise ValueError(
            f"an activation of your own cannot be called {given.name}, as one of mfnet's is; name that one, or rename "
            "yours"
        )
    for dtype in (torch.float32, torch.float64):
        _check(given, torch.linspace(-3.1, 3.3, 12, dtype=dtype).view(3, 4))
    return given


def slope(function: Function, z: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The derivative of an elementwise function, by autograd, also where gradients are switched off."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        (derivative,) = torch.autograd.grad(function(z).sum(), z)
    return derivative


def _check(activation: Activation, z: Float[Tensor, "n m"]) -> None:
    """Raises ValueError unless σ is elementwise, σ′ its derivative, and what works in place does the same."""
    before, wrong = z.clone(), f"activation {activation.name}"
    close = partial(torch.allclose, rtol=1e-4, atol=1e-5, equal_nan=True)
    try:
        found = {"σ": activation.value(z), "σ′": activation.derivative(z)}
        expected = slope(activation.value, z)
        part = activation.value(z[1:, :3].contiguous())
    except Exception as error:  # of code that is not ours
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{wrong} cannot be evaluated and differentiated by torch: {line}") from error
    for name, values in found.items():
        if not isinstance(values, Tensor):
            raise ValueError(f"{wrong}: {name} of a tensor is a {type(values).__name__}, and must be a tensor")
        if values.shape != z.shape or values.dtype != z.dtype:
            raise ValueError(
                f"{wrong}: {name} of a {kind_of(z)} is a {kind_of(values)}, and must have its argument's shape and type"
            )
    if not torch.equal(z, before):
        raise ValueError(f"{wrong} changes its argument; it must return a new tensor")
    if not close(part, found["σ"][1:, :3]):
        raise ValueError(f"{wrong} is not elementwise: a value depends on more than its own argument")
    if not close(found["σ′"], expected):
        raise ValueError(f"{wrong}: its derivative is not that of its value")
    if activation.value_ is None or activation.derivative_ is None:
        if activation.value_ is not activation.derivative_:
            raise ValueError(f"{wrong}: value_ and derivative_ come together, of a positively homogeneous σ alone")
        return
    s = activation.value_(z.clone())
    if not close(s, found["σ"]) or not close(activation.derivative_(s.clone()), found["σ′"]):
        raise ValueError(f"{wrong}: value_ or derivative_ is not what value or derivative is")
    if not close(found["σ"], z * found["σ′"]):
        raise ValueError(f"{wrong} is not positively homogeneous, σ(z) = zσ′(z); leave out value_ and derivative_")


def kind_of(values: Tensor) -> str:
    """What a tensor is, for a message."""
    return f"{str(values.dtype).removeprefix('torch.')} tensor of shape {tuple(values.shape)}"
