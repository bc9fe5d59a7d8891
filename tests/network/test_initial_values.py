"""Initial values: moments that are exact, and the law of a single node."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from mfnet.compute.seeding import generator
from mfnet.network import MeanFieldNetwork
from mfnet.network.initial_values import initial_values
from mfnet.theory.initial import INITS, check_init, weight_scatter

#: Of averages over up to 10³ nodes in float64.
ROUNDING = 1e-13


def drawn(M, d, seed=0):
    a, w = initial_values("balanced", M, d, generator(seed, "network"))
    return a.numpy(), w.numpy()


@pytest.mark.parametrize(("M", "d"), [(8, 2), (80, 20), (240, 20), (84, 20), (100, 20), (124, 20), (40, 20), (4, 7)])
def test_odd_moments_vanish_and_even_ones_are_exact(M, d):
    """n = M/4 a multiple of d, between multiples (21, 25 and 31 for 20: nearly singular too), below d, and 1."""
    a, w = drawn(M, d)
    assert a.shape == (M,)
    assert w.shape == (M, d)
    assert abs(a.mean()) < ROUNDING
    assert abs(w.mean(axis=0)).max() < ROUNDING
    assert abs(a @ w).max() / M < ROUNDING
    assert abs(np.einsum("i,ij,ik->jk", a, w, w)).max() / M < ROUNDING
    assert a @ a / M == pytest.approx(1.0, abs=ROUNDING)
    second = w.T @ w / M
    assert np.trace(second) == pytest.approx(d, abs=d * ROUNDING)
    if 4 * d <= M:
        np.testing.assert_allclose(second, np.eye(d), atol=ROUNDING)
    else:
        quarter = w[: M // 4]
        across = quarter @ quarter.T
        np.testing.assert_allclose(across, np.diag(np.diag(across)), atol=ROUNDING * d)
        assert np.ptp(np.diag(across)) > 0.0 or M == 4  # lengths are random


@pytest.mark.parametrize(("a_std", "w_std"), [(1.0, 1.0), (2.0, 0.5)])
@pytest.mark.parametrize("activation", ["relu", "gelu", torch.tanh])
def test_the_initial_output_is_zero_and_variances_are_those_asked_for(activation, a_std, w_std):
    """With E a σ(w·x) = 0 by the signs of a alone, whatever σ."""
    settings = {"generator": generator(3, "network"), "init": "balanced", "dtype": torch.float64}
    network = MeanFieldNetwork(240, 20, activation, a_std=a_std, w_std=w_std, **settings)
    x = torch.randn(50, 20, generator=generator(0, "x"), dtype=torch.float64)
    assert float(network.output(x).abs().max()) < ROUNDING
    assert float(network.a0.square().mean()) == pytest.approx(a_std**2, rel=ROUNDING)
    np.testing.assert_allclose(network.w0.T @ network.w0 / 240, w_std**2 * np.eye(20), atol=ROUNDING)


@pytest.mark.parametrize(("M", "d"), [(640, 8), (40, 20)])
def test_a_single_node_is_a_draw_from_the_normal_law(M, d):
    """One node of each of 4000 draws, by Kolmogorov and Smirnov at the 0.1 % level: n = 20d, where |w|² has 94 % of its
    variance, and n = d/2, where it is χ_d² but for a common factor."""
    draws = [drawn(M, d, seed) for seed in range(4000)]
    a, w = np.array([a[3] for a, _ in draws]), np.array([w[3] for _, w in draws])
    for values, law in ((a, stats.norm()), (w[:, 0], stats.norm()), (w[:, -1], stats.norm())):
        # unit vectors of n = 160 dimensions have components within 0.001 of the normal law; 10 are within 0.02
        assert stats.kstest(values, law.cdf).statistic < 1.95 / math.sqrt(4000) + 0.2 / (M // 4)
    assert stats.kstest((w**2).sum(axis=1), stats.chi2(d).cdf).statistic < 1.95 / math.sqrt(4000) + 0.02


@pytest.mark.parametrize(("M", "d"), [(80, 20), (160, 20), (320, 20)])
def test_the_square_of_the_length_keeps_its_mean_and_most_of_its_variance(M, d):
    """Mean d over the nodes of every draw; variance (n − d)/(n + 2) of 2d; 6000 lengths and more know it to 2 %."""
    n = M // 4
    squares = np.array([(drawn(M, d, seed)[1][:n] ** 2).sum(axis=1) for seed in range(300)])
    np.testing.assert_allclose(squares.mean(axis=1), d, rtol=ROUNDING)
    assert squares.var() / (2 * d) == pytest.approx((n - d) / (n + 2), rel=0.06, abs=1e-20)


@pytest.mark.parametrize(("M", "d"), [(4, 6), (12, 6), (20, 6), (80, 40)])
def test_what_is_left_of_the_second_moments_scatters_as_the_theory_says(M, d):
    """4000 draws: a variance is then known to 2.2 % if normal, 4 % here; three times that is allowed."""
    second = np.array([w.T @ w / M for _, w in (drawn(M, d, seed) for seed in range(4000))])
    scatter = weight_scatter(M, d)
    assert second[:, 0, 0].mean() == pytest.approx(1.0, abs=4.0 * math.sqrt(scatter.along / 4000))
    assert second[:, 0, 0].var() == pytest.approx(scatter.along, rel=0.12)
    assert second[:, 0, 1].var() == pytest.approx(scatter.across, rel=0.12)


def test_independent_nodes_are_those_of_earlier_versions():
    """One stream of standard normal numbers, a before w."""
    stream = generator(5, "network")
    a, w = (
        torch.randn(6, generator=stream, dtype=torch.float64),
        torch.randn(6, 3, generator=stream, dtype=torch.float64),
    )
    network = MeanFieldNetwork(6, 3, generator=generator(5, "network"), a_std=2.0)
    assert torch.equal(network.a0, a.mul(2.0).float())
    assert torch.equal(network.w0, w.float())


def test_one_error_for_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="M=6 must be a multiple of 4 for balanced nodes"):
        MeanFieldNetwork(6, 3, generator=generator(0, "network"), init="balanced")
    with pytest.raises(ValueError, match="init='orthogonal' must be one of independent, balanced"):
        check_init("orthogonal", 8)
    for init in INITS:
        check_init(init, 8)
