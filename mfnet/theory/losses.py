"""Margin losses ℓ(m) and their forces φ(m) = −ℓ′(m), in numpy.

Written a second time on purpose: the training code has its own (`mfnet.network.losses`), and agreement
between network and theory is evidence only while the two share no code. A test compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

Function = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Loss:
    """ℓ(m, h) and φ(m, h) of the margin m = αyF, with h the margin below which an example is unsatisfied.

    ``curvature`` is −φ′(m, h); None where the force jumps.
    """

    name: str
    value: Function
    force: Function
    curvature: Function | None


LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss("hinge", lambda m, h: np.maximum(0.0, h - m), lambda m, h: (m < h).astype(float), None),
        Loss(
            "squared_hinge",
            lambda m, h: 0.5 * np.maximum(0.0, h - m) ** 2,
            lambda m, h: np.maximum(0.0, h - m),
            lambda m, h: (m < h).astype(float),
        ),
        Loss(
            "logistic",
            lambda m, h: np.logaddexp(0.0, -m),
            lambda m, h: expit(-m),
            lambda m, h: expit(m) * expit(-m),
        ),
        Loss("square", lambda m, h: 0.5 * (h - m) ** 2, lambda m, h: h - m, lambda m, h: np.ones_like(m)),
    )
}
