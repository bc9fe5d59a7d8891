"""Margin losses ℓ(m) and their forces φ(m) = −ℓ′(m), in numpy.

Written a second time on purpose: the training code has its own (`mfnet.network.losses`), and agreement
between network and theory is evidence only while the two share no code. A test compares them.

A theory takes the name of one of these, or a `Loss` of your own:

>>> from mfnet.theory import Loss, MeanField
>>> exponential = Loss("exponential", *[lambda m, h: np.exp(-m)] * 3)  # ℓ = φ = −φ′
>>> float(MeanField(d=100, loss=exponential).solve(1.0).gamma[0].round(6))
0.039795
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

    The functions are on arrays of margins.

    Args:
        name: What messages call it.
        value: ℓ(m, h).
        force: φ(m, h) = −ℓ′, positive at m = 0.
        curvature: −φ′(m, h), at a kink of the force either side; None means that the force jumps, which it may at h.
    """

    name: str
    value: Function
    force: Function
    curvature: Function | None


HINGE = Loss("hinge", lambda m, h: np.maximum(0.0, h - m), lambda m, h: (m < h).astype(float), None)

SQUARED_HINGE = Loss(
    "squared_hinge",
    lambda m, h: 0.5 * np.maximum(0.0, h - m) ** 2,
    lambda m, h: np.maximum(0.0, h - m),
    lambda m, h: (m < h).astype(float),
)

LOGISTIC = Loss(
    "logistic",
    lambda m, h: np.logaddexp(0.0, -m),
    lambda m, h: expit(-m),
    lambda m, h: expit(m) * expit(-m),
)

SQUARE = Loss("square", lambda m, h: 0.5 * (h - m) ** 2, lambda m, h: h - m, lambda m, h: np.ones_like(m))

LOSSES: dict[str, Loss] = {loss.name: loss for loss in (HINGE, SQUARED_HINGE, LOGISTIC, SQUARE)}

#: Margins, in units of h, among which a loss is looked at to see whether it is convex.
_MARGINS = np.linspace(-20.0, 20.0, 401)


def loss_of(loss: str | Loss) -> Loss:
    """The loss of a name; a `Loss` is itself.

    Raises:
        ValueError: For a name that is none of `LOSSES`.
    """
    if isinstance(loss, Loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss={loss!r} must be one of {', '.join(LOSSES)}, or a Loss")
    return LOSSES[loss]


def check_slope(loss: Loss, theory: str) -> None:
    """Whether a theory that knows of one jump only, that of the hinge, can follow the force.

    Raises:
        ValueError: For another loss whose force jumps.
    """
    if loss.curvature is None and loss != HINGE:
        raise ValueError(
            f"{theory} cannot follow the loss {loss.name!r}, whose force jumps (its curvature is None): it needs the "
            "curvature −φ′, or the loss 'hinge'"
        )


def check_convex(loss: Loss, h: float, theory: str) -> None:
    """Whether implicit steps can follow the force: it has a slope, or is the hinge's, and falls with the margin.

    Raises:
        ValueError: For another loss whose force jumps, or a loss whose force grows with the margin somewhere.
    """
    check_slope(loss, theory)
    margins = h * _MARGINS
    with np.errstate(over="ignore"):
        force = loss.force(margins, h)
    with np.errstate(invalid="ignore"):
        grows = np.flatnonzero(np.diff(force) > 1e-9 * np.abs(force[:-1]))
    if len(grows):
        raise ValueError(
            f"{theory} needs a convex loss, and the force of {loss.name!r} grows with the margin from "
            f"m={margins[grows[0]]:g} to {margins[grows[0] + 1]:g}"
        )
