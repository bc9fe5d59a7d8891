"""Theory of balanced initial values against drawn nodes on their hyperbolas, and networks on very many examples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mfnet.compute.seeding import generator
from mfnet.network.initial_values import initial_values
from mfnet.theory import Draw, FiniteWidth, MeanField, RealisedWidth, starting_error, trust
from support.plain_networks import VALUE

GAMMAS = (1e-5, 0.1, 1.0, 4.0)


def nodes(M, d, seed, a_std=1.0, w_std=1.0):
    a, w = initial_values("balanced", M, d, generator(seed, "network"))
    return a.numpy() * a_std, w.numpy() * w_std


def excess(a0, w0, x, gamma, activation):
    """F(x) of nodes that have turned by γ towards the first axis."""
    c, s = math.cosh(gamma), math.sinh(gamma)
    a, w = c * a0 + s * w0[:, 0], w0.copy()
    w[:, 0] = c * w0[:, 0] + s * a0
    value, root = VALUE[activation], math.sqrt(w0.shape[1])
    return (value(x @ w.T / root) @ a - value(x @ w0.T / root) @ a0) / len(a0)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize(("M", "d"), [(40, 10), (52, 10), (160, 10)])
def test_from_4d_nodes_on_the_output_is_that_of_the_mean_field_in_every_draw(activation, M, d):
    """F = s x∥ to rounding, for any inputs, at every γ; and σ_M = 0."""
    model = MeanField(d=d, activation=activation, a_std=1.5, w_std=0.7)
    x = np.random.default_rng(0).normal(size=(30, d))
    for gamma in GAMMAS:
        slope = float(model.slope(math.cosh(gamma), math.sinh(gamma)))
        found = excess(*nodes(M, d, 1, 1.5, 0.7), x, gamma, activation)
        np.testing.assert_allclose(found, slope * x[:, 0], atol=1e-12 * math.cosh(2 * gamma))
        theory = FiniteWidth(model, M, "balanced")
        assert theory.output_std(x[:, 0], np.cosh(gamma), np.sinh(gamma)).max() == 0.0


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize(("M", "d"), [(4, 10), (16, 10), (32, 10)])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_below_4d_nodes_the_spread_is_that_of_drawn_nodes(activation, M, d, gamma):
    """3000 draws at |x⊥|² = d − 1: a variance is known to 2.6 % if normal; three to four times that is allowed."""
    model = MeanField(d=d, activation=activation, a_std=1.5, w_std=0.7)
    x = np.zeros((2, d))
    x[:, 0], x[:, 1] = (0.3, 2.0), math.sqrt(d - 1)
    found = np.array([excess(*nodes(M, d, seed, 1.5, 0.7), x, gamma, activation) for seed in range(3000)])
    std = FiniteWidth(model, M, "balanced").output_std(x[:, 0], np.cosh(gamma), np.sinh(gamma))
    np.testing.assert_allclose(found.std(axis=0), std, rtol=0.06)
    mean = model.slope(np.cosh(gamma), np.sinh(gamma)) * x[:, 0]
    np.testing.assert_array_less(abs(found.mean(axis=0) - mean), 4.0 * std / math.sqrt(3000))


def test_below_2d_nodes_balanced_ones_scatter_more_than_independent_ones():
    """σ_M/μ → √(d/M − 1/4)/x∥ against √(d/2M)/x∥, for γ → 0 and large d: the same at M = 2d."""
    d, c, s = 10**5, np.cosh(1e-6), np.sinh(1e-6)
    model = MeanField(d=d)
    for M in (d // 5, 2 * d, 3 * d):
        balanced, independent = (
            FiniteWidth(model, M, init).output_std(np.asarray(1.0), c, s) / model.slope(c, s)
            for init in ("balanced", "independent")
        )
        assert balanced == pytest.approx(math.sqrt(d / M - 0.25), rel=1e-3)
        assert independent == pytest.approx(math.sqrt(d / (2 * M)), rel=1e-3)


def test_the_spread_of_the_clock_is_that_of_drawn_nodes():
    """400 draws, each with the clock of its own moments: a standard deviation is known to 3.5 %."""
    d, M = 12, 24
    model = MeanField(d=d)
    t = model.time_scale * np.array([1.0, 3.0])
    gammas = []
    for seed in range(400):
        a0, w0 = nodes(M, d, seed)
        empty = np.zeros((0, d)), np.zeros(0)
        gammas.append(RealisedWidth(model, Draw(a0, w0, *empty, *empty, np.eye(d)[0])).gamma(t))
    theory = FiniteWidth(model, M, "balanced")
    np.testing.assert_allclose(np.std(gammas, axis=0), theory.gamma_std(model.solve(t)), rtol=0.12)
    assert (FiniteWidth(model, 4 * d, "balanced").gamma_std(model.solve(t)) == 0.0).all()


def test_curves_from_4d_nodes_on_are_those_of_the_mean_field():
    model, t = MeanField(d=10, flip=0.1), np.array([0.0, 5.0, 30.0])
    finite, infinite = FiniteWidth(model, 40, "balanced").series(t), model.series(t)
    for name, curve in infinite.items():
        np.testing.assert_allclose(finite[name].value, curve.value, atol=1e-9, err_msg=name)
    np.testing.assert_array_equal(finite["gamma"].lower, finite["gamma"].upper)
    curve = FiniteWidth(model, 40, "balanced").satisfaction(t)
    np.testing.assert_allclose(curve.lower[1:], curve.value[1:], rtol=1e-9)


@pytest.mark.parametrize(("M", "N", "d"), [(40, 4000, 40), (160, 1000, 40), (320, 4000, 40)])
def test_the_starting_error_is_that_of_networks(M, N, d):
    """60 draws of nodes and examples, one infinitesimal step: the mean and its error, and 5 % of second order."""
    errors = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        a0, w0 = nodes(M, d, seed)
        x, x_test = rng.normal(size=(N, d)), rng.normal(size=(1000, d))
        y, z, z_test = np.sign(x[:, 0]), x @ w0.T / math.sqrt(d), x_test @ w0.T / math.sqrt(d)
        a_speed = y @ np.maximum(z, 0.0)
        w_speed = a0[:, None] * ((z > 0).T * y) @ x / math.sqrt(d)
        speed = np.maximum(z_test, 0.0) @ a_speed
        speed += (((z_test > 0) * a0) * (x_test @ w_speed.T / math.sqrt(d))).sum(axis=1)
        errors.append(np.mean(speed * x_test[:, 0] < 0))
    predicted = starting_error(MeanField(d=d), N, M, "balanced")
    assert np.mean(errors) == pytest.approx(predicted, abs=3.0 * np.std(errors) / math.sqrt(60) + 0.05 * predicted)
    if 4 * d <= M:
        assert predicted == starting_error(MeanField(d=d), N)


def test_trust_knows_how_nodes_are_drawn():
    """M = 4d balanced nodes follow the mean field where as many independent ones do not."""
    t = np.concatenate([[0.0], MeanField(d=50).time_scale * np.geomspace(1e-3, 1.0, 50)])
    until = {init: trust(MeanField(d=50), 40, 10**6, t, init)[0].until for init in ("independent", "balanced")}
    assert until == {"independent": 0.0, "balanced": 0.0}
    assert trust(MeanField(d=10), 40, 10**6, t, "balanced")[0].until > 0.0


def test_one_error_for_a_number_of_nodes_that_does_not_come_in_fours():
    with pytest.raises(ValueError, match="M=6 must be a multiple of 4"):
        FiniteWidth(MeanField(d=3), 6, "balanced")
    with pytest.raises(ValueError, match="must be one of independent, balanced"):
        FiniteWidth(MeanField(d=3), 6, "other")
