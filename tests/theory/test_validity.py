"""Which theory applies: its terms against closed forms and simulations, and what follows from them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mfnet.theory import Loss, MeanField, trust
from mfnet.theory.validity import finite_samples_term, finite_width_term


def until(model, M, N, end=1e4):
    entries = trust(model, M, N, np.concatenate([[0.0], model.time_scale * np.geomspace(1e-3, end, 200)]))
    return {entry.prediction: entry.until for entry in entries}


def test_the_terms_at_the_start_are_those_of_theory_md():
    """√(d/2M)/m₁ for large d, and √(d/N)/m₁."""
    d, M, N = 10_000, 700, 30_000
    solution = MeanField(d=d).solve([0.0])
    m1 = math.sqrt(2.0 / math.pi)
    assert finite_width_term(MeanField(d=d), M, solution)[0] == pytest.approx(math.sqrt(d / (2 * M)) / m1, rel=1e-3)
    assert finite_samples_term(MeanField(d=d), N, solution)[0] == pytest.approx(math.sqrt(d / N) / m1, rel=1e-3)


@pytest.mark.parametrize("loss", ["hinge", "logistic", Loss("exponential", *[lambda m, h: 3.0 * np.exp(-m)] * 3)])
def test_the_finite_samples_term_is_that_of_real_examples(loss):
    """|q⊥|/q∥ of q = ⟨φyx⟩ over N drawn examples when F = s x∥; 200 draws, within 4 standard errors and 1/N."""
    d, N = 20, 400
    model, rng = MeanField(d=d, flip=0.1, loss=loss), np.random.default_rng(0)
    solution = model.solve([0.0, 30.0])
    for slope, expected in zip(solution.slope, finite_samples_term(model, N, solution), strict=True):
        across, along = [], []
        for _ in range(200):
            x = rng.normal(size=(N, d))
            y = np.sign(x[:, 0]) * np.where(rng.random(N) < 0.1, -1.0, 1.0)
            q = (model.margin_loss.force(y * slope * x[:, 0], 1.0) * y) @ x / N
            across.append(np.sum(q[1:] ** 2))
            along.append(q[0])
        ratio = math.sqrt(np.mean(across)) / np.mean(along)
        error = np.std(along) / np.mean(along) / math.sqrt(200) + np.std(across) / np.mean(across) / math.sqrt(800)
        assert abs(ratio / expected - 1.0) < 4.0 * error


def test_more_of_everything_is_trusted_for_longer():
    model = MeanField(d=100)
    assert until(model, 10**4, 10**5)["mean_field"] > 2.0 * until(model, 10**4, 10**4)["mean_field"]
    assert until(model, 100, 10**4)["mean_field"] == 0.0
    assert until(MeanField(d=100, flip=0.2), 10**4, 10**4)["mean_field"] < until(model, 10**4, 10**4)["mean_field"]


def test_the_mean_field_is_trusted_to_the_power_of_n_over_d():
    """J ∝ n_u² and noise √(n_u d/N) meet at n_u ∝ (d/N)^{1/3}: at t ∝ (N/d)^{2/3}, and N/d when lazy (theory.md 4)."""
    sizes = np.array([1e8, 1e9, 1e10])
    for alpha, power in ((1.0, 2.0 / 3.0), (1e4, 1.0)):
        model = MeanField(d=100, alpha=alpha)
        times = [until(model, 10**9, int(N), end=1e7)["mean_field"] for N in sizes]
        assert np.polyfit(np.log(sizes), np.log(times), 1)[0] == pytest.approx(power, abs=0.05)


def test_the_lazy_limit_is_trusted_where_the_network_is_lazy():
    assert until(MeanField(d=100, alpha=1e4), 1000, 2000, end=25)["kernel_flow"] == math.inf
    rich = MeanField(d=100, alpha=1e-3)
    assert 0.0 < until(rich, 1000, 2000)["kernel_flow"] < 0.1 * rich.time_scale
