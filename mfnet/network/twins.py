"""What the theory takes an activation or a loss of the user's own for: the same function, of numpy arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mfnet.network.activations import Activation
from mfnet.network.losses import MarginLoss
from mfnet.theory import Activation as TheoryActivation
from mfnet.theory import Loss as TheoryLoss

#: Step of the difference that stands for the slope of a force.
_STEP = 1e-4


def activation_twin(activation: Activation) -> TheoryActivation:
    """σ of a network, in float64; nothing is known of its parts."""

    def value(z: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found: np.ndarray = activation.value(torch.from_numpy(np.ascontiguousarray(z))).numpy()
        return found

    return TheoryActivation(activation.name, value=value)


def loss_twin(loss: MarginLoss) -> TheoryLoss:
    """ℓ of a network and its force; the curvature is a difference of forces, unless these jump."""

    def value(m: np.ndarray, h: float) -> np.ndarray:
        with torch.no_grad():
            found: np.ndarray = replace(loss, h=h)(torch.from_numpy(np.ascontiguousarray(m))).numpy()
        return found

    def force(m: np.ndarray, h: float) -> np.ndarray:
        found: np.ndarray = replace(loss, h=h).force(torch.from_numpy(np.ascontiguousarray(m))).numpy()
        return found

    def curvature(m: np.ndarray, h: float) -> np.ndarray:
        return np.maximum((force(m - _STEP, h) - force(m + _STEP, h)) / (2.0 * _STEP), 0.0)

    return TheoryLoss(loss.name, value, force, None if loss.jumps else curvature)
