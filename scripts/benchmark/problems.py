"""Networks with the examples that they are trained and tested on, and what is observed of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmark.settings import SEED, D, name_of
from mfnet.flow import Batch, Objective
from mfnet.network import MarginLoss, Networks, Nodes
from mfnet.network.observables import ObservedSeries
from mfnet.record.series import GAMMA, TEST_ERROR, TRAIN_ERROR
from mfnet.setup.setup import Setup
from mfnet.training.build import Pieces


class Problem(NamedTuple):
    """Networks at their initial nodes, one or several, their loss, and the examples and the direction ŵ* of each."""

    networks: Networks
    loss: MarginLoss
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
        """The loss on the training examples, or on the test examples to take their margins."""
        examples = self.test if test else self.train
        return Objective(self.networks, self.loss, alpha, lambda _: examples, fixed=True)


def make_problem(
    N: int,
    M: int,
    d: int = D,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    seed: int = SEED,
    n_test: int = 1,
    replicas: int = 1,
    precision: str | None = None,
) -> Problem:
    """What ``mfnet train`` would train; the same for the same sizes, but for rounding."""
    asked = precision or name_of(dtype)
    own = {"seed": seed, "replicas": replicas, "data.n_test": n_test, "trainer.precision": asked}
    pieces = Pieces(Setup.of(M=M, N=N, d=d, theory=None, **own))
    tasks = pieces.data.tasks
    train, test = (
        [Batch(*examples.to(device, dtype)) for examples in parts]
        for parts in ([task.train for task in tasks], [task.test for task in tasks])
    )
    directions = torch.stack([task.direction for task in tasks]).to(device, dtype)
    return Problem(pieces.networks.to(device), pieces.loss, train, test, directions)


class Observer:
    """Training error, test error and γ of the networks of a problem, at any nodes.

    Args:
        problem: The problem; its networks are given the nodes that are observed.
        alpha: Scale α.
    """

    def __init__(self, problem: Problem, alpha: float):
        self.problem = problem
        self.train, self.test = (problem.objective(alpha, test=test) for test in (False, True))
        self.series = ObservedSeries(problem.networks, problem.loss, self.train.alpha, problem.directions)

    @torch.no_grad()
    def __call__(self, nodes: Nodes, train_margins: Tensor | None = None) -> np.ndarray:
        """An array (R, 3); the training margins are computed unless they are given."""
        self.problem.put(nodes)
        train = self.train.margins() if train_margins is None else train_margins
        values = self.series(self.series.nodes(), train, self.test.margins())
        return np.stack([values[each.name] for each in (TRAIN_ERROR, TEST_ERROR, GAMMA)], axis=1)
