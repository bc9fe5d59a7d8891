"""Small networks on small data, and the tolerances of each floating-point type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

import mfnet.flow.objective
from mfnet.compute.processes import ALONE, Processes
from mfnet.compute.seeding import generator
from mfnet.data import label, sample_inputs
from mfnet.flow import Batch, Objective
from mfnet.network import MeanFieldNetwork, Replicas
from mfnet.network.activations import Activation, Function
from mfnet.network.losses import MarginLoss

#: Largest relative difference that rounding explains in sums of up to 10⁵ terms, about 100 and 5000 units in the last
#: place.
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
    activation: str | Activation | Function = "relu",
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


def objective_of(
    problems: Sequence[Problem], loss: MarginLoss | Sequence[MarginLoss], alpha: float | Sequence[float]
) -> Objective:
    """The loss of one problem, or of several as replicas."""
    batches = [problem.batch for problem in problems]
    networks = problems[0].network if len(problems) == 1 else Replicas([problem.network for problem in problems])
    return Objective(networks, loss, alpha, lambda _: batches, fixed=True)


def margins_of(problem: Problem, alpha: float = 1.0) -> torch.Tensor:
    """m = αyF of the examples."""
    network, (x, y) = problem.network, problem.batch
    return alpha * y * (network.output(x) - network.output(x, initial=True))


@contextmanager
def evaluated_by(name: str) -> Iterator[None]:
    """Inside, objectives that are asked for their evaluators choose that one, whatever their size."""
    before = mfnet.flow.objective.BATCHED["cpu"]
    mfnet.flow.objective.BATCHED["cpu"] = {"streamed": 0, "batched": 2**60}[name]
    try:
        yield
    finally:
        mfnet.flow.objective.BATCHED["cpu"] = before
