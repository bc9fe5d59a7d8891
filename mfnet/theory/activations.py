"""What the theories need to know of an activation.

Most activations here have a linear odd part, ``σ(z) = c z + e(z)`` with e even. The solution of section 3.1 of the
paper is exact for all of these, and only ``c`` enters it. `mfnet.theory.Hydrodynamic` needs σ alone, and takes tanh,
sigmoid, erf and ReLU² as well.

A theory takes the name of one of these, or an `Activation` of your own:

>>> from mfnet.theory import Activation, MeanField
>>> quadratic = Activation("quadratic", 0.5, even=lambda z: 0.1 * z**2, even_slope=lambda z: 0.2 * z)
>>> float(MeanField(d=100, activation=quadratic).solve(10.0).gamma[0].round(8))
0.39894228
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import erf, expit

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Activation:
    """``σ(z) = odd_slope · z + even(z)``, or any other σ; the functions are on arrays of any shape.

    The mean-field solution needs ``odd_slope`` alone; a theory that needs more raises a ValueError without it.

    Args:
        name: What messages call it.
        odd_slope: c, above 0; nan if the odd part of σ is not linear.
        even: The even part e, without which nothing is known of a finite width or of single examples.
        even_slope: The derivative of ``even``, of no consequence at a kink, where it is taken to be 0.
        kink: β where the even part is β|z| exactly (homogeneous activations), else None; ``even`` and ``even_slope``
            follow from it.
        value: σ; it follows from ``odd_slope`` and ``even``.
    """

    name: str
    odd_slope: float = math.nan
    even: Function | None = None
    even_slope: Function | None = None
    kink: float | None = None
    value: Function | None = None

    def __post_init__(self) -> None:
        if (beta := self.kink) is not None:
            if self.even is None:
                object.__setattr__(self, "even", lambda z: beta * np.abs(z))
            if self.even_slope is None:
                object.__setattr__(self, "even_slope", lambda z: beta * np.sign(z))
        c, even = self.odd_slope, self.even
        if self.value is None and even is not None:
            object.__setattr__(self, "value", lambda z: c * z + even(z))

    @property
    def odd_part_is_linear(self) -> bool:
        """Whether σ(z) − σ(−z) = 2cz."""
        return not math.isnan(self.odd_slope)

    def need(self, part: Literal["even", "even_slope", "value"], theory: str) -> Function:
        """The function ``part``, which ``theory`` cannot do without.

        Raises:
            ValueError: If this activation does not say what it is.
        """
        function: Function | None = getattr(self, part)
        if function is None:
            raise ValueError(f"{theory} needs {part!r} of the activation, which {self.name!r} does not give")
        return function


def _homogeneous(name: str, negative_slope: float) -> Activation:
    """``σ(z) = z`` for z > 0 and ``negative_slope · z`` below."""
    return Activation(name, (1.0 + negative_slope) / 2.0, kink=(1.0 - negative_slope) / 2.0)


def _gelu_even_slope(z: np.ndarray) -> np.ndarray:
    return 0.5 * erf(z / np.sqrt(2.0)) + z * np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)


def _silu_even_slope(z: np.ndarray) -> np.ndarray:
    return 0.5 * np.tanh(0.5 * z) + 0.25 * z / np.cosh(0.5 * z) ** 2


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        _homogeneous("relu", 0.0),
        _homogeneous("leaky_relu", 0.01),
        _homogeneous("linear", 1.0),
        Activation("gelu", 0.5, lambda z: 0.5 * z * erf(z / np.sqrt(2.0)), _gelu_even_slope),
        Activation("silu", 0.5, lambda z: 0.5 * z * np.tanh(z / 2.0), _silu_even_slope),
        Activation("softplus", 0.5, lambda z: np.logaddexp(z / 2.0, -z / 2.0), lambda z: 0.5 * np.tanh(z / 2.0)),
        Activation("tanh", value=np.tanh),
        Activation("sigmoid", value=expit),
        Activation("erf", value=erf),
        Activation("relu_squared", value=lambda z: np.maximum(z, 0.0) ** 2),
    )
}

#: Names of those whose odd part is linear, which have a mean-field solution in closed form.
WITH_LINEAR_ODD_PART = [name for name, activation in ACTIVATIONS.items() if activation.odd_part_is_linear]


def activation_of(activation: str | Activation) -> Activation:
    """The activation of a name; an `Activation` is itself.

    Raises:
        ValueError: For a name that is none of `ACTIVATIONS`.
    """
    if isinstance(activation, Activation):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation={activation!r} must be one of {', '.join(ACTIVATIONS)}, or an Activation")
    return ACTIVATIONS[activation]
