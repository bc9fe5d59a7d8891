"""Networks with the examples that they are trained and tested on, and what is observed of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmark.settings import SEED, D
from mfnet.compute.seeding import generator
from mfnet.data import SphericalData
from mfnet.flow import Batch, Objective
from mfnet.network import MeanFieldNetwork, Networks, Nodes, Replicas
from mfnet.network.losses import Hinge
from mfnet.network.observables import error_count, node_projections, order_parameter


class Problem(NamedTuple):
    """Networks at their initial nodes, one or several, and the examples and the direction ŵ* of each."""

    networks: Networks
    train: list[Batch]
    test: list[Batch]
    directions: Tensor

    @property
    def x(self) -> Tensor:
        """Training inputs of the first network."""
        return self.train[0].x

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.x.device

    @torch.no_grad()
    def start(self) -> None:
        """Brings the networks back to their initial nodes."""
        self.put(self.networks.initial_nodes)

    @torch.no_grad()
    def put(self, nodes: Nodes) -> None:
        """Makes these the present nodes."""
        for own, new in zip(self.networks.nodes, nodes, strict=True):
            own.copy_(new)

    def objective(self, alpha: float, *, test: bool = False) -> Objective:
        """The linear hinge on the training examples, or on the test examples to take their margins."""
        examples = self.test if test else self.train
        return Objective(self.networks, Hinge(), alpha, lambda _: examples, fixed=True)


def make_problem(
    N: int,
    M: int,
    d: int = D,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    seed: int = SEED,
    n_test: int = 0,
) -> Problem:
    """One network; the same for the same sizes, but for rounding."""
    task = SphericalData(N, n_test, d, seed, np.zeros(1)).draw()
    network = MeanFieldNetwork(M, d, generator=generator(seed, "network"), dtype=dtype).to(device)
    train, test = (Batch(*examples.to(device, dtype)) for examples in (task.train, task.test))
    return Problem(network, [train], [test], task.direction.to(device, dtype)[None])


def side_by_side(problems: Sequence[Problem]) -> Problem:
    """Several problems of one network each, alike in size and type, as one."""
    return Problem(
        Replicas([problem.networks for problem in problems if isinstance(problem.networks, MeanFieldNetwork)]),
        [problem.train[0] for problem in problems],
        [problem.test[0] for problem in problems],
        torch.cat([problem.directions for problem in problems]),
    )


class Observer:
    """Training error, test error and γ of the networks of a problem, at any nodes.

    Args:
        problem: The problem; its networks are given the nodes that are observed.
        alpha: Scale α.
    """

    def __init__(self, problem: Problem, alpha: float):
        self.problem = problem
        self.train, self.test = (problem.objective(alpha, test=test) for test in (False, True))
        a0, w0 = problem.networks.initial_nodes
        self.initial = a0, node_projections(w0, problem.directions)[0]

    @torch.no_grad()
    def __call__(self, nodes: Nodes, train_margins: Tensor | None = None) -> np.ndarray:
        """An array (R, 3); the training margins are computed unless they are given."""
        self.problem.put(nodes)
        margins = self.train.margins() if train_margins is None else train_margins, self.test.margins()
        errors = [error_count(each) / each.shape[1] for each in margins]
        w_par, _ = node_projections(nodes.w, self.problem.directions)
        gamma = order_parameter(nodes.a, w_par, *self.initial)
        return torch.stack([*errors, gamma], dim=1).cpu().numpy()
