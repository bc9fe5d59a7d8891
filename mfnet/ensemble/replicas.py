"""R networks of one shape, and their examples, each as one tensor whose first dimension counts the replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfnet.network import MeanFieldNetwork
from mfnet.processes import ALONE


class Batches(NamedTuple):
    """Examples of every replica: inputs, labels ±1 and the initial outputs f₀."""

    x: Float[Tensor, "R N d"]
    y: Float[Tensor, "R N"]
    f0: Float[Tensor, "R N"]


class Replicas(nn.Module):
    """Nodes of R networks, and a frozen copy of their initial values.

    Args:
        networks: The networks, all of one shape, type and activation; they are copied.
    """

    a: Tensor
    w: Tensor
    a0: Tensor
    w0: Tensor

    #: An ensemble is one process's.
    processes = ALONE

    def __init__(self, networks: Sequence[MeanFieldNetwork]):
        super().__init__()
        self.activation = networks[0].activation
        a, w, a0, w0 = (
            torch.stack([getattr(network, name).detach() for network in networks]) for name in ("a", "w", "a0", "w0")
        )
        self.a, self.w = nn.Parameter(a), nn.Parameter(w)
        self.register_buffer("a0", a0)
        self.register_buffer("w0", w0)

    def __len__(self) -> int:
        return len(self.a)
