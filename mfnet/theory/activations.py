"""What the mean-field solution needs to know of an activation: its odd slope and its even part.

Every activation here has a linear odd part, ``σ(z) = c z + e(z)`` with e even. The solution of
section 3.1 of the paper is exact for all of them: only ``c`` enters it (theory.md, 2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import erf


@dataclass(frozen=True)
class Activation:
    """``σ(z) = odd_slope · z + even(z)``.

    ``kink`` is β where the even part is β|z| exactly (homogeneous activations), else None.
    """

    name: str
    odd_slope: float
    even: Callable[[np.ndarray], np.ndarray]
    kink: float | None = None


def _homogeneous(name: str, negative_slope: float) -> Activation:
    """``σ(z) = z`` for z > 0 and ``negative_slope · z`` below."""
    beta = (1.0 - negative_slope) / 2.0
    return Activation(name, (1.0 + negative_slope) / 2.0, lambda z: beta * np.abs(z), kink=beta)


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        _homogeneous("relu", 0.0),
        _homogeneous("leaky_relu", 0.01),
        _homogeneous("linear", 1.0),
        Activation("gelu", 0.5, lambda z: 0.5 * z * erf(z / np.sqrt(2.0))),
        Activation("silu", 0.5, lambda z: 0.5 * z * np.tanh(z / 2.0)),
        Activation("softplus", 0.5, lambda z: np.logaddexp(z / 2.0, -z / 2.0)),
    )
}
