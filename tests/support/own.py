"""What a user writes: a loss with nothing but its value, and a flow with nothing but its step."""

from __future__ import annotations

import torch

from mfnet.flow import FixedStepFlow, linear_motion, velocity
from mfnet.network import MarginLoss


class Exponential(MarginLoss):
    def __call__(self, m):
        return torch.exp(-m)


class Midpoint(FixedStepFlow):
    evaluations = 2

    def moved(self, evaluator, nodes, rates, dt):
        half = linear_motion(nodes, velocity(evaluator.activation, nodes, rates), [t / 2 for t in dt])
        rates, _ = evaluator.present_rates_and_margins(half)
        return linear_motion(nodes, velocity(evaluator.activation, half, rates), dt)
