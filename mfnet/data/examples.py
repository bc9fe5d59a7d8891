"""A set of labelled examples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Examples(NamedTuple):
    """Inputs and labels ±1."""

    x: Float[Tensor, "N d"]
    y: Float[Tensor, " N"]

    def to(self, device: torch.device, dtype: torch.dtype) -> Examples:
        """The same examples elsewhere."""
        return Examples(self.x.to(device, dtype), self.y.to(device, dtype))
