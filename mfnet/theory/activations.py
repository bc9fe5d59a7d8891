"""What the mean-field solution needs to know of an activation: its odd slope and its even part.

Every activation here has a linear odd part, ``σ(z) = c z + e(z)`` with e even. The solution of
section 3.1 of the paper is exact for all of them: only ``c`` enters it (theory.md, 2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import erf

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Activation:
    """``σ(z) = odd_slope · z + even(z)``.

    ``even_slope`` is the derivative of ``even``, of no consequence at a kink, where it is taken to be 0.
    ``kink`` is β where the even part is β|z| exactly (homogeneous activations), else None.
    """

    name: str
    odd_slope: float
    even: Function
    even_slope: Function
    kink: float | None = None


def _homogeneous(name: str, negative_slope: float) -> Activation:
    """``σ(z) = z`` for z > 0 and ``negative_slope · z`` below."""
    beta = (1.0 - negative_slope) / 2.0
    return Activation(name, (1.0 + negative_slope) / 2.0, lambda z: beta * np.abs(z), lambda z: beta * np.sign(z), beta)


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
    )
}
