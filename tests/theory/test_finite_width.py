"""First-order corrections in 1/M against Monte Carlo over initial nodes, and real networks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mfnet.theory import FiniteWidth, MeanField
from mfnet.theory.activations import WITH_LINEAR_ODD_PART
from support.plain_networks import VALUE, simulate


@pytest.mark.slow
@pytest.mark.parametrize("activation", WITH_LINEAR_ODD_PART)
@pytest.mark.parametrize(
    ("x_par", "gamma", "a_std", "w_std"),
    [
        (0.0, 0.5, 1.0, 1.0),
        (0.7, 0.01, 1.0, 1.0),
        (1.5, 1.0, 1.0, 1.0),
        (0.3, 3.0, 1.0, 1.0),
        (0.7, 0.05, 2.0, 1.0),
        (1.5, 1.0, 2.0, 1.0),
        (0.7, 0.05, 0.5, 1.5),
        (1.5, 1.0, 0.5, 1.5),
    ],
)
def test_spread_of_the_output_is_that_of_drawn_nodes(activation, x_par, gamma, a_std, w_std):
    """4·10⁵ nodes at fixed x with |x⊥|² = d − 1; their variance is known to 2 %."""
    d, n = 30, 400_000
    rng = np.random.default_rng(5)
    a0, w0, g = np.array([[a_std], [w_std], [w_std]]) * rng.normal(size=(3, n))
    perp = g * math.sqrt(d - 1)
    a = a0 * math.cosh(gamma) + w0 * math.sinh(gamma)
    w = w0 * math.cosh(gamma) + a0 * math.sinh(gamma)
    z, z0 = (w * x_par + perp) / math.sqrt(d), (w0 * x_par + perp) / math.sqrt(d)
    sample = a * VALUE[activation](z) - a0 * VALUE[activation](z0)
    model = MeanField(d=d, activation=activation, a_std=a_std, w_std=w_std)
    theory = FiniteWidth(model, M=7)
    std = theory.output_std(np.asarray(x_par), np.asarray(math.cosh(gamma)), np.asarray(math.sinh(gamma)))
    variance = 7 * float(std) ** 2
    fourth = ((sample - sample.mean()) ** 4).mean()
    error = math.sqrt((fourth - sample.var() ** 2) / n)
    assert abs(sample.var() - variance) < 4.0 * error
    assert error < 0.02 * variance
    mean = float(model.slope(math.cosh(gamma), math.sinh(gamma))) * x_par
    assert abs(sample.mean() - mean) < 4.0 * sample.std() / math.sqrt(n)


@pytest.mark.parametrize(("a_std", "w_std"), [(1.0, 1.0), (2.0, 1.0), (0.5, 1.5)])
def test_the_spread_of_the_clock_is_that_of_drawn_nodes(a_std, w_std):
    """1000 draws of M = 400 nodes, each with the clock that its own ⟨a w∥⟩ drives.

    A standard deviation from 1000 draws is known to 2.2 %; three times that is allowed, and second order.
    """
    d, M, n_draws, dt = 20, 400, 1000, 0.05
    model = MeanField(d=d, a_std=a_std, w_std=w_std)
    rng = np.random.default_rng(8)
    a0, w0 = a_std * rng.normal(size=(n_draws, M)), w_std * rng.normal(size=(n_draws, M))
    squares, product, gamma = (a0**2 + w0**2).mean(axis=1), (a0 * w0).mean(axis=1), np.zeros(n_draws)
    n_steps = round(2.0 * model.time_scale / dt)

    def rate(gamma):
        gain = np.maximum(squares * np.sinh(2 * gamma) / 2 + product * (np.cosh(2 * gamma) - 1), 1e-300)
        z_c = 1.0 / (0.5 / math.sqrt(d) * gain)
        return 0.5 / math.sqrt(d) * math.sqrt(2 / math.pi) * -np.expm1(-(np.minimum(z_c, 1e3) ** 2) / 2)

    for _ in range(n_steps):
        gamma = gamma + dt * rate(gamma + dt / 2 * rate(gamma))
    predicted = FiniteWidth(model, M).gamma_std(model.solve(n_steps * dt))[0]
    assert gamma.std() == pytest.approx(predicted, rel=0.07)
    assert gamma.mean() == pytest.approx(model.solve(n_steps * dt).gamma[0], rel=0.005)


def test_a_network_of_one_active_layer_has_the_closed_limit():
    """A ≫ B, γ → 0: F = c⟨a₀²⟩γ x∥/√d for even part 0, so σ_M/μ → √(2/M), Var a₀² = 2A⁴."""
    theory = FiniteWidth(MeanField(d=50, activation="linear", a_std=1.0, w_std=1e-4), M=300)
    cosh, sinh = np.cosh(1e-2), np.sinh(1e-2)
    mu = float(theory.mean_field.slope(cosh, sinh)) * 2.0
    assert theory.output_std(np.asarray(2.0), cosh, sinh) / mu == pytest.approx(math.sqrt(2 / 300), rel=1e-4)


def test_limits_of_theory_md():
    """σ_M/μ → √(d/2M)/x∥ for γ → 0 and large d, and √(5/M) late in the rich regime for large x∥."""
    d, M = 10**6, 50
    theory = FiniteWidth(MeanField(d=d), M)
    for gamma in (1e-7, 1e-3):  # on both sides of the switch to the quadratic law
        ratio = theory.output_std(np.asarray(2.0), np.cosh(gamma), np.sinh(gamma)) / (gamma * 2.0 / math.sqrt(d))
        assert ratio == pytest.approx(math.sqrt(d / (2 * M)) / 2.0, rel=2e-3)
    late = FiniteWidth(MeanField(d=10), M)
    mu = 0.5 * math.sinh(24.0) * 2.0 / math.sqrt(10)
    assert late.output_std(np.asarray(2.0), np.cosh(12.0), np.sinh(12.0)) / mu == pytest.approx(
        math.sqrt(5 / M), rel=1e-3
    )


def test_generalisation_error_at_the_start():
    """0.108 for M = 400, d = 100 (theory.md 4), which is (1/π) arctan √(d/2M)."""
    theory = FiniteWidth(MeanField(d=100), M=400)
    error = theory.generalisation_error(theory.mean_field.solve([0.0, 0.01, 1e-6]))
    assert error[0] == pytest.approx(0.5, rel=1e-12)
    assert error[1] == pytest.approx(math.atan(math.sqrt(100 / 800)) / math.pi, rel=0.01)
    assert error[1] == pytest.approx(0.108, abs=5e-4)
    assert error[2] == pytest.approx(error[1], rel=1e-4)


@pytest.mark.slow
def test_errors_of_real_networks_while_examples_are_unsatisfied():
    """40 networks of M = 100, d = 10 at t = 6, where 1 % is satisfied: mean error, within 3 standard errors and 1/M."""
    runs = np.array([simulate(100, 10, 6.0, seed) for seed in range(40)])
    theory = FiniteWidth(MeanField(d=10, dt=1.0, scheme="rotation"), M=100)
    solution = theory.mean_field.solve([6.0])
    standard_error = runs.std(axis=0) / math.sqrt(40)
    assert abs(runs[:, 1].mean() - theory.generalisation_error(solution)[0]) < 3.0 * standard_error[1] + 0.01
    assert abs(runs[:, 2].mean() - theory.unsatisfied(solution)[0]) < 3.0 * standard_error[2] + 0.01
    assert 0.02 < theory.generalisation_error(solution)[0] < 0.2


@pytest.mark.slow
def test_the_spread_of_the_clock_is_that_of_real_networks():
    """40 networks of M = 100, d = 10 at t = 40, where three quarters are satisfied.

    A standard deviation from 40 draws is known to 11 %, and three times that is allowed.
    """
    runs = np.array([simulate(100, 10, 40.0, seed) for seed in range(40)])
    theory = FiniteWidth(MeanField(d=10, dt=1.0, scheme="rotation"), M=100)
    solution = theory.mean_field.solve([40.0])
    assert runs[:, 0].std() == pytest.approx(theory.gamma_std(solution)[0], rel=0.35)
    assert abs(runs[:, 0].mean() - solution.gamma[0]) < 3.0 * runs[:, 0].std() / math.sqrt(40) + 0.01
    # the flow corrects F: on mean-field paths the error would be .019
    error = runs[:, 1].std() / math.sqrt(40)
    assert abs(runs[:, 1].mean() / theory.generalisation_error(solution)[0] - 1.0) < 0.05 + 3.0 * error


def test_the_margin_is_reached_on_the_band():
    theory = FiniteWidth(MeanField(d=50), M=200)
    t = np.array([60.0, 200.0, 1000.0])
    curve, solution = theory.satisfaction(t), theory.mean_field.solve(t)
    assert (curve.lower < curve.value).all()
    assert (curve.value < curve.upper).all()
    for edge, sign in ((curve.lower, 1.0), (curve.upper, -1.0)):
        output = solution.slope * edge + sign * np.diag(theory.spread(edge, solution))
        np.testing.assert_allclose(output, 1.0, rtol=1e-3)  # of a spline in x∥


def test_many_nodes_are_the_mean_field():
    t = np.array([1.0, 30.0, 300.0])
    finite, infinite = FiniteWidth(MeanField(d=20, flip=0.1), M=10**9).series(t), MeanField(d=20, flip=0.1).series(t)
    for name in infinite:
        np.testing.assert_allclose(finite[name].value, infinite[name].value, rtol=1e-3, atol=1e-4)
