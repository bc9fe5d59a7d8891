"""Networks that see fresh data at each step, against the theory of the population."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mfnet.compute.seeding import generator
from mfnet.data import label, sample_inputs
from mfnet.flow import Batch, Euler, Objective
from mfnet.network import MeanFieldNetwork
from mfnet.network.losses import loss_of
from mfnet.theory import MeanField

pytestmark = [pytest.mark.slow, pytest.mark.unchecked]


def population(network, inputs, direction, flip, size, seed):
    """Fresh examples at each step, a fraction of them mislabeled."""

    def source(step):
        draw = generator(seed, "population", step)
        x = sample_inputs(size, network.d, inputs, draw)
        y = label(x, direction)
        y[: round(flip * size)] *= -1.0
        x, y = x.float(), y.float()
        return Batch(x, y)

    return source


POPULATION = [
    *[(activation, "hinge", 0.0) for activation in ("relu", "leaky_relu", "linear", "gelu", "silu", "softplus")],
    *[("relu", loss, 0.0) for loss in ("squared_hinge", "logistic", "square")],
    *[("relu", "hinge", flip) for flip in (0.1, 0.3)],
]


@pytest.mark.parametrize(("activation", "loss", "flip"), POPULATION)
def test_on_the_population_nodes_follow_theory(activation, loss, flip):
    """E[a w∥] − E[a₀w∥₀] is sinh 2γ at five times within 4 %, with fresh data at each step.

    M = 4000, d = 20. Expected fluctuation: 1/√M = 1.6 % from the nodes, and less from 2000 examples a step.
    """
    M, d, times = 4000, 20, np.array([2.0, 5.0, 10.0, 20.0, 40.0])
    network = MeanFieldNetwork(M, d, activation, generator=generator(1, "network"))
    direction = torch.zeros(d, dtype=torch.float64)
    direction[0] = 1.0
    source = population(network, "normal", direction, flip, 2000, seed=1)
    flow = Euler(Objective(network, loss_of(loss), 1.0, source, fixed=False), dt=1.0)
    theory = MeanField(d=d, activation=activation, loss=loss, flip=flip, dt=1.0).solve(times)
    start = float((network.a0 * network.w0[:, 0]).mean())
    for k, t in enumerate(times):
        flow.step(until=float(t))
        overlap = float((network.a * network.w[:, 0]).detach().mean()) - start
        assert overlap == pytest.approx(2.0 * theory.cosh[k] * theory.sinh[k], rel=0.04)
