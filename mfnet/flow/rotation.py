"""Rotation steps of a fixed length: nodes move exactly under a drive that is frozen for Δt."""

from __future__ import annotations

import torch

from mfnet.flow.base import FixedStepFlow
from mfnet.flow.motion import Turning
from mfnet.flow.objective import Objective


class Rotation(FixedStepFlow):
    """Each node turns by a hyperbolic angle |B_i|Δt about its drive; first order, homogeneous activations only.

    Conserves a_i² − |w_i|² to rounding, as the flow does, and stays accurate in the rich regime, where
    Euler's norms fall behind.

    Raises:
        ValueError: If the activation is not positively homogeneous.
    """

    def __init__(self, objective: Objective, dt: float):
        super().__init__(objective, dt)
        self.motion = Turning(objective)

    @torch.no_grad()
    def _take_step(self, dt: float) -> None:
        b, margins = self.objective.drive(self.n_steps)
        if not self._must_stop(margins):
            self.motion.move(self.objective.network.a, self.objective.network.w, (b,), dt)
