"""Integrators of the mean-field flow θ̇ = −M ∂L/∂θ, of one network or of many side by side.

`Averaged` is the default: its guarantees, its limits and what was measured stand in `mfnet.flow.averaged`.
"""

from mfnet.flow.adaptive import AdaptiveRotation, Heun, Tolerance
from mfnet.flow.averaged import Averaged
from mfnet.flow.descent import Descent
from mfnet.flow.evaluator import Batch, Evaluator
from mfnet.flow.fixed_step import Euler, FixedStepFlow, Rotation
from mfnet.flow.flow import Flow
from mfnet.flow.infinite_width import InfiniteWidth
from mfnet.flow.later_kernel import LaterKernel
from mfnet.flow.motion import hyperbolic_rotation, linear_motion, velocity
from mfnet.flow.objective import Objective
from mfnet.flow.stopping import StoppingRules
from mfnet.record.stop_reason import StopReason

__all__ = [
    "AdaptiveRotation",
    "Averaged",
    "Batch",
    "Descent",
    "Euler",
    "Evaluator",
    "FixedStepFlow",
    "Flow",
    "Heun",
    "InfiniteWidth",
    "LaterKernel",
    "Objective",
    "Rotation",
    "StopReason",
    "StoppingRules",
    "Tolerance",
    "hyperbolic_rotation",
    "linear_motion",
    "velocity",
]
