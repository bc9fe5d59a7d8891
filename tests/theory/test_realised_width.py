"""The prediction for actual nodes against real networks, and against a network built in the other way."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mfnet.theory import Draw, MeanField, RealisedWidth
from mfnet.theory.activations import WITH_LINEAR_ODD_PART
from support.plain_networks import VALUE, simulate


def make_draw(M, d, N, seed=0):
    """Inputs are normal and ŵ* is the first axis; the nodes are those of `simulate` with the same seed."""
    rng = np.random.default_rng(seed)
    a0, w0 = rng.normal(size=M), rng.normal(size=(M, d))
    x, x_test = np.random.default_rng(seed + 1000).normal(size=(2, N, d))
    return Draw(a0, w0, x, np.sign(x[:, 0]), x_test, np.sign(x_test[:, 0]), np.eye(d)[0])


@pytest.mark.parametrize("activation", WITH_LINEAR_ODD_PART)
def test_outputs_are_those_of_nodes_on_their_hyperbolas(activation):
    draw, gamma, d = make_draw(40, 8, 30), 0.8, 8
    theory = RealisedWidth(MeanField(d=d, activation=activation)).of_draw(lambda: draw)
    a = draw.a0 * math.cosh(gamma) + draw.w0[:, 0] * math.sinh(gamma)
    w = draw.w0.copy()
    w[:, 0] = draw.w0[:, 0] * math.cosh(gamma) + draw.a0 * math.sinh(gamma)
    value, root_d = VALUE[activation], math.sqrt(d)
    expected = (value(draw.x @ w.T / root_d) @ a - value(draw.x @ draw.w0.T / root_d) @ draw.a0) / 40
    np.testing.assert_allclose(theory.output(draw.x, np.array([gamma]))[0], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("t", "name", "share"), [(6.0, "test_error", 0.5), (40.0, "gamma", 0.2)])
def test_it_explains_single_runs(t, name, share):
    """20 networks of M = 100, d = 10 on fresh data: what their spread is left with once the nodes of each are known.

    The test error while 1 % is satisfied (measured: 0.28 of the spread, correlation 0.96), and the clock when three
    quarters are, to first order at any time (0.06, 0.998). Before, γ has no spread at this order.
    """
    real, theory = [], []
    for seed in range(20):
        gamma, error, _ = simulate(100, 10, t, seed, n=4000 if t < 10.0 else 2000, dt=t / 12.0 if t < 10.0 else 1.0)
        real.append(gamma if name == "gamma" else error)
        prediction = RealisedWidth(MeanField(d=10)).of_draw(lambda seed=seed: make_draw(100, 10, 10_000, seed))
        theory.append(prediction.series(np.array([t]))[name].value[0])
    assert np.std(np.subtract(real, theory)) < share * np.std(real)
    assert np.corrcoef(real, theory)[0, 1] > 0.9


def test_many_nodes_and_examples_are_the_mean_field():
    """M = 4000 nodes and 4000 examples: within four times 1/√N of the mean field, and γ within 1/√M."""
    t, model = np.array([0.0, 5.0, 50.0]), MeanField(d=10, flip=0.1)
    draw = make_draw(4000, 10, 4000)
    rng = np.random.default_rng(7)
    flipped = replace(model).solve(t)
    draw = draw._replace(y=draw.y * np.where(rng.random(4000) < 0.1, -1.0, 1.0))
    series = RealisedWidth(model).of_draw(lambda: draw).series(t)
    np.testing.assert_allclose(series["gamma"].value, flipped.gamma, rtol=4.0 / math.sqrt(4000))
    for name in ("unsatisfied", "train_error", "test_error", "loss"):
        np.testing.assert_allclose(series[name].value, getattr(flipped, name), atol=4.0 / math.sqrt(4000), err_msg=name)


def test_without_a_draw_it_says_so():
    with pytest.raises(ValueError, match="of_draw"):
        RealisedWidth(MeanField(d=10)).series(np.array([1.0]))
