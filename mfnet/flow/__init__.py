"""Integrators of the mean-field flow θ̇ = −M ∂L/∂θ behind the interface of `Flow`.

`Averaged` is the default: its guarantees, its limits and what was measured stand in `mfnet.flow.averaged`.
"""

from mfnet.flow.adaptive import AdaptiveRotation, Heun, Tolerance
from mfnet.flow.averaged import Averaged
from mfnet.flow.base import FixedStepFlow, Flow
from mfnet.flow.descent import Descent
from mfnet.flow.euler import Euler
from mfnet.flow.motion import rotate
from mfnet.flow.objective import Objective
from mfnet.flow.rotation import Rotation
from mfnet.flow.stopping import StoppingRules, StopReason

__all__ = [
    "AdaptiveRotation",
    "Averaged",
    "Descent",
    "Euler",
    "FixedStepFlow",
    "Flow",
    "Heun",
    "Objective",
    "Rotation",
    "StopReason",
    "StoppingRules",
    "Tolerance",
    "rotate",
]
