"""What the theory takes an activation or a loss of the user's own for: the same function, of numpy arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mfnet.theory import Activation, Loss

if TYPE_CHECKING:
    from mfnet.network import MarginLoss
    from mfnet.network.activations import Activation as NetworkActivation

#: Step of the difference that stands for the slope of a force.
_STEP = 1e-4


def activation_twin(activation: NetworkActivation) -> Activation:
    """σ of a network, in float64."""
    import torch

    def value(z: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return activation.value(torch.from_numpy(np.ascontiguousarray(z))).numpy()

    return Activation(activation.name, value=value)


def loss_twin(loss: MarginLoss) -> Loss:
    """ℓ of a network and its force; their curvature is a difference of forces, unless these jump."""
    import torch

    def value(m: np.ndarray, h: float) -> np.ndarray:
        with torch.no_grad():
            return replace(loss, h=h)(torch.from_numpy(np.ascontiguousarray(m))).numpy()

    def force(m: np.ndarray, h: float) -> np.ndarray:
        return replace(loss, h=h).force(torch.from_numpy(np.ascontiguousarray(m))).numpy()

    def curvature(m: np.ndarray, h: float) -> np.ndarray:
        return np.maximum((force(m - _STEP, h) - force(m + _STEP, h)) / (2.0 * _STEP), 0.0)

    return Loss(loss.name, value, force, None if loss.jumps else curvature)
