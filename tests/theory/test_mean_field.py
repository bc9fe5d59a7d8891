"""The mean-field solution against reference values, closed forms, limits and its own inverse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mfnet.theory import AsymptoticLaws, MeanField, lazy_limit
from mfnet.theory.activations import ACTIVATIONS
from mfnet.theory.losses import LOSSES

#: γ(t) of theory.md 2, from an independent solver: ReLU, h = 1, d = 100; for α = 10³ the table gives αγ.
REFERENCE = [
    (
        {"alpha": 1.0},
        {1.0: 0.03989423, 10.0: 0.39894228, 100.0: 2.21573723, 1000.0: 2.92552168, 1e6: 4.66620444},
    ),
    (
        {"alpha": 1e3},
        {1.0: 0.0398942e-3, 100.0: 3.9701409e-3, 1e4: 38.3771129e-3, 1e6: 179.854154e-3},
    ),
    ({"alpha": 1.0, "inputs": "sphere"}, {100.0: 0.39994087, 1000.0: 3.20285551, 1e6: 5.23974146}),
    ({"alpha": 1.0, "flip": 0.1}, {100.0: 2.03702533, math.inf: 2.20595429}),
]


@pytest.mark.parametrize(("case", "values"), REFERENCE)
def test_reference_values_to_six_digits(case, values):
    gamma = MeanField(d=100, **case).solve(list(values)).gamma
    np.testing.assert_allclose(gamma, list(values.values()), rtol=1.5e-6)


def test_rates_are_equations_13_and_14():
    d, alpha, h = 30, 0.7, 1.3
    gamma = np.linspace(0.05, 4.0, 30)
    normal, sphere = MeanField(d, alpha, h), MeanField(d, alpha, h, inputs="sphere")
    sinh = np.sinh(2 * gamma)
    expected = (1 - np.exp(-2 * h**2 * d / (alpha * sinh) ** 2)) / math.sqrt(2 * math.pi) / (alpha * math.sqrt(d))
    np.testing.assert_allclose([normal.rate(g) for g in gamma], expected, rtol=1e-12)
    i0 = math.gamma(d / 2) / (2 * math.sqrt(math.pi) * math.gamma((d + 1) / 2))
    inside = np.maximum(1 - 4 * d * h**2 / (alpha * sinh) ** 2, 0.0)
    expected = i0 * (1 - inside ** ((d - 1) / 2)) / (alpha * math.sqrt(d))
    np.testing.assert_allclose([sphere.rate(g) for g in gamma], expected, rtol=1e-11)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", [{}, {"flip": 0.1}, {"inputs": "sphere"}, {"alpha": 1e-3}, {"alpha": 1e3}])
def test_time_is_the_inverse_of_the_clock(loss, case):
    model = MeanField(d=20, loss=loss, **case)
    t = model.time_scale * np.array([1e-3, 0.1, 1.0])
    gamma = model.solve(t).gamma
    np.testing.assert_allclose(model.time_of(gamma), t, rtol=1e-6)  # t(γ) magnifies errors where γ is nearly at rest


def test_time_of_satisfaction_is_the_inverse_of_the_margin():
    model = MeanField(d=20)
    t = np.array([30.0, 100.0, 1e4])
    np.testing.assert_allclose(model.t_sat(model.solve(t).z_c), t, rtol=1e-8)
    assert MeanField(d=20, flip=0.1).t_sat(1e-3) == math.inf  # beyond the margin at the fixed point


def test_noise_ends_at_the_closed_form():
    for flip in (0.01, 0.1, 0.3):
        z_c = math.sqrt(2 * math.log((1 - flip) / (1 - 2 * flip)))
        expected = 0.5 * math.asinh(2 * math.sqrt(100) / z_c)
        assert MeanField(d=100, flip=flip).gamma_star == pytest.approx(expected, rel=1e-12)
        assert MeanField(d=100, flip=flip).solve(math.inf).gamma[0] == pytest.approx(expected, rel=1e-12)
    assert MeanField(d=100).gamma_star == math.inf


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("flip", [0.0, 0.2])
def test_the_force_is_the_slope_of_the_loss(loss, flip):
    """∂L/∂s = −J/α, by central differences of the loss along γ."""
    model = MeanField(d=20, alpha=0.8, loss=loss, flip=flip)
    gamma, step = 0.5, 1e-5
    ahead, behind = (model.solve(model.time_of([gamma + e])) for e in (step, -step))
    slope = (ahead.loss[0] - behind.loss[0]) / (ahead.slope[0] - behind.slope[0])
    assert slope == pytest.approx(-model.force(float(model.slope(np.cosh(gamma), np.sinh(gamma)))) / 0.8, rel=1e-4)


@pytest.mark.parametrize("scheme", ["euler", "rotation"])
def test_discrete_steps_tend_to_the_flow_at_first_order(scheme):
    flow = MeanField(d=20).solve(60.0).gamma[0]
    steps = np.array([2.0, 1.0, 0.5, 0.25])
    errors = [abs(MeanField(d=20, dt=dt, scheme=scheme).solve(60.0).gamma[0] - flow) for dt in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(1.0, abs=0.05)


def test_discrete_steps_are_the_products_of_theory():
    """cosh γ → (P+Q)/2, sinh γ → (P−Q)/2 with P = Π(1+κ), Q = Π(1−κ)."""
    d, dt = 20, 3.0
    p = q = 1.0
    for _ in range(20):
        slope = 0.5 * (p**2 - q**2) / 2 / math.sqrt(d)
        j = math.sqrt(2 / math.pi) * (1 - math.exp(-0.5 / slope**2) if slope > 0 else 1.0)
        kappa = dt * 0.5 * j / math.sqrt(d)
        p, q = p * (1 + kappa), q * (1 - kappa)
    solution = MeanField(d=d, dt=dt).solve(60.0)
    assert solution.cosh[0] == pytest.approx((p + q) / 2, rel=1e-12)
    assert solution.sinh[0] == pytest.approx((p - q) / 2, rel=1e-12)


def test_nodes_keep_to_their_hyperbola():
    rng = np.random.default_rng(0)
    a0, w0 = rng.normal(size=(2, 50))
    a, w = MeanField(d=20).solve([1.0, 10.0, 100.0]).nodes(a0, w0)
    np.testing.assert_allclose(a**2 - w**2, np.broadcast_to(a0**2 - w0**2, a.shape), rtol=1e-10, atol=1e-10)
    assert np.abs(a[-1]).max() > 5.0


def test_the_density_is_that_of_the_nodes():
    """It integrates to 1 with variances cosh 2γ and covariance sinh 2γ."""
    solution = MeanField(d=20).solve([20.0])
    grid = np.linspace(-30.0, 30.0, 1201)
    a, w = np.meshgrid(grid, grid, indexing="ij")
    weight = solution.density(a, w) * (grid[1] - grid[0]) ** 2
    gamma = solution.gamma[0]
    assert weight.sum() == pytest.approx(1.0, rel=1e-10)
    assert (weight * a * a).sum() == pytest.approx(np.cosh(2 * gamma), rel=1e-10)
    assert (weight * a * w).sum() == pytest.approx(np.sinh(2 * gamma), rel=1e-10)


def test_only_the_odd_slope_enters():
    t = [1.0, 30.0]
    gamma = {name: MeanField(d=20, activation=name).solve(t).gamma for name in ACTIVATIONS}
    for name in ("gelu", "silu", "softplus"):
        np.testing.assert_array_equal(gamma[name], gamma["relu"])
    assert gamma["linear"][0] == pytest.approx(2 * gamma["relu"][0], rel=1e-6)


def test_undecided_at_the_start_and_right_ever_after():
    solution = MeanField(d=20, flip=0.1).solve([0.0, 1.0])
    assert solution.test_error.tolist() == [0.5, 0.0]
    assert solution.train_error.tolist() == [0.5, 0.1]
    assert solution.unsatisfied.tolist() == [1.0, pytest.approx(1.0)]


def test_the_lazy_limit_is_reached_as_alpha_squared():
    t = [10.0, 1e3]
    limit = lazy_limit(MeanField(d=20), t).gamma_tilde
    alphas = np.array([100.0, 200.0, 400.0])
    errors = [np.abs(alpha * MeanField(d=20, alpha=alpha).solve(t).gamma - limit).max() for alpha in alphas]
    assert np.polyfit(np.log(alphas), np.log(errors), 1)[0] == pytest.approx(-2.0, abs=0.05)


def test_laws_of_both_ends_of_time():
    """Each law is approached: its error falls, and is small at the end."""
    for inputs in ("normal", "sphere"):
        rich = MeanField(d=50, alpha=0.5, inputs=inputs)
        laws, late = AsymptoticLaws(rich), rich.time_scale * np.array([1e3, 1e5])
        solution, lazy = rich.solve(late), lazy_limit(rich, late)
        for law, exact in (
            (laws.gamma_late_rich(late), solution.gamma),
            (laws.unsatisfied_late_rich(late), solution.unsatisfied),
            (laws.gamma_tilde_late_lazy(late * 1e3), lazy_limit(rich, late * 1e3).gamma_tilde),
            (laws.unsatisfied_late_lazy(late * 1e3), lazy_limit(rich, late * 1e3).unsatisfied),
        ):
            error = np.abs(law / exact - 1)
            assert error[1] < error[0] < 0.05
            assert error[1] < 0.01
        assert lazy.displacement(np.ones(1), np.full(1, 2.0))[0][0, 0] == 2.0 * lazy.gamma_tilde[0]
        early = rich.time_scale * 1e-4
        assert laws.gamma_early(early) == pytest.approx(rich.solve(early).gamma[0], rel=1e-9)


def test_late_laws_of_relu_are_those_of_the_table():
    i0, d, alpha, h, t = 1 / math.sqrt(2 * math.pi), 100, 0.3, 2.0, 1e7
    laws = AsymptoticLaws(MeanField(d, alpha, h))
    assert laws.gamma_late_rich(t) == pytest.approx(0.25 * math.log(32 * i0 * h**2 * math.sqrt(d) * t / alpha**3))
    assert laws.gamma_tilde_late_lazy(t) == pytest.approx((1.5 * i0 * h**2 * math.sqrt(d) * t) ** (1 / 3))
    other = AsymptoticLaws(MeanField(d, alpha, 3 * h))
    assert laws.unsatisfied_late_rich(t) == other.unsatisfied_late_rich(t)  # independent of h
    assert laws.unsatisfied_late_rich(4 * t) == pytest.approx(laws.unsatisfied_late_rich(t) / 2)
    assert laws.unsatisfied_late_lazy(8 * t) == pytest.approx(laws.unsatisfied_late_lazy(t) / 2)


@pytest.mark.parametrize(
    "bad", [{"d": 1}, {"alpha": 0.0}, {"h": -1.0}, {"flip": 0.5}, {"loss": "x"}, {"activation": "x"}, {"inputs": "x"}]
)
def test_bad_parameters_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        MeanField(**{"d": 10, **bad}).solve(1.0)
