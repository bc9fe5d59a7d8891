"""Small networks on small data, and the tolerances of each floating-point type."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mfnet.data import label, sample_inputs
from mfnet.flow import Batch
from mfnet.network import MeanFieldNetwork
from mfnet.processes import ALONE, Processes
from mfnet.seeding import generator

#: Largest relative difference that rounding explains in sums of up to 10⁵ terms, about 100 and 5000 units in the last
#: place; the issue asks for no less.
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-12}


@dataclass(frozen=True)
class Problem:
    """A network and a training set, both of one seed."""

    network: MeanFieldNetwork
    batch: Batch
    direction: torch.Tensor


def make_problem(
    M: int = 30,
    N: int = 200,
    d: int = 10,
    *,
    activation: str = "relu",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    moved: bool = False,
    processes: Processes = ALONE,
) -> Problem:
    """A problem; with ``moved`` the network is no longer at its initial values, so that F is not zero.

    Divided among ``processes``, this one's part of the same problem.
    """
    network = MeanFieldNetwork(M, d, activation, generator=generator(seed, "network"), dtype=dtype, processes=processes)
    direction = torch.zeros(d, dtype=torch.float64)
    direction[0] = 1.0
    x = sample_inputs(N, d, "normal", generator(seed, "train"))
    x = processes.take_rows(x)
    batch = Batch(x.to(dtype), label(x, direction).to(dtype))
    if moved:
        a = torch.randn(M, generator=generator(seed, "move a"), dtype=torch.float64).to(dtype)
        w = torch.randn(M, d, generator=generator(seed, "move w"), dtype=torch.float64).to(dtype)
        with torch.no_grad():
            network.a.add_(processes.take_nodes(a))
            network.w.add_(processes.take_nodes(w))
    return Problem(network, batch, direction.to(dtype))
