"""Euler's method: gradient descent with learning rate M·Δt, by the closed form of the gradient."""

from __future__ import annotations

import torch

from mfnet.flow.base import FixedStepFlow


class Euler(FixedStepFlow):
    """θ ← θ + Δt θ̇, first order, for any activation."""

    @torch.no_grad()
    def _take_step(self, dt: float) -> None:
        a, w, margins = self.objective.velocity(self.n_steps)
        if not self._must_stop(margins):
            self.objective.network.a.add_(a, alpha=dt)
            self.objective.network.w.add_(w, alpha=dt)
