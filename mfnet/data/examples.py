"""A set of labelled examples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.data.mapped import moved


class Examples(NamedTuple):
    """Inputs and labels ±1. Inputs may be mapped from a file (`mfnet.data.mapped`)."""

    x: Float[Tensor, "N d"]
    y: Float[Tensor, " N"]

    def to(self, device: torch.device, dtype: torch.dtype) -> Examples:
        """The same examples elsewhere; mapped inputs that stay on the CPU stay mapped."""
        return Examples(moved(self.x, device, dtype), self.y.to(device, dtype))
