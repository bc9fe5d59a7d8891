"""Integrators of the mean-field flow θ̇ = −M ∂L/∂θ, one a file, behind the interface of `Flow`."""

from mfnet.flow.base import FixedStepFlow, Flow, StopReason
from mfnet.flow.descent import Descent
from mfnet.flow.euler import Euler
from mfnet.flow.objective import Objective
from mfnet.flow.rotation import Rotation, rotate

__all__ = ["Descent", "Euler", "FixedStepFlow", "Flow", "Objective", "Rotation", "StopReason", "rotate"]
