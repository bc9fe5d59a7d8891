"""Laws of overlapping classes: the normal mixture, known exactly, and the projections of an actual training set."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mfnet.theory import Draw, Empirical, FiniteWidth, MeanField, Mixture, RealisedWidth, reference_direction

MU, FLIP = 0.8, 0.1


def mixture(rng, n, d, mu=MU, flip=0.0):
    """Two normal classes at ±mu along the first axis, written independently of mfnet.data."""
    y = rng.choice([-1.0, 1.0], size=n)
    x = rng.normal(size=(n, d))
    x[:, 0] += mu * y
    return x, y * np.where(rng.random(n) < flip, -1.0, 1.0)


def normal(rng, n, d):
    x = rng.normal(size=(n, d))
    return x, np.sign(x[:, 0])


def drawn(x, y, test=None, direction=None, M=3):
    d = x.shape[1]
    axis = np.eye(d)[0] if direction is None else direction
    return Draw(np.ones(M), np.ones((M, d)), x, y, *(test or (x, y)), axis)


@pytest.mark.parametrize("flip", [0.0, FLIP])
def test_the_mixtures_law_is_that_of_samples(flip):
    """P(ζ < z), ⟨ζ 1[ζ < z]⟩, ⟨|ζ|⟩ and P(ζ < 0) of 4·10⁵ examples within 4 standard errors."""
    n, law = 400_000, Mixture(5, MU, flip)
    x, y = mixture(np.random.default_rng(0), n, 5, flip=flip)
    zeta = y * x[:, 0]
    for z in (0.0, 0.3, 1.0, 2.5):
        for predicted, sample in (
            (law.cdf(np.asarray(z)), zeta < z),
            (law.mean_below(np.asarray(z)), zeta * (zeta < z)),
        ):
            assert abs(sample.mean() - float(predicted)) < 4.0 * sample.std() / math.sqrt(n)
    assert abs(np.abs(zeta).mean() - law.m1) < 4.0 * np.abs(zeta).std() / math.sqrt(n)
    assert law.wrong == pytest.approx((zeta < 0.0).mean(), abs=4.0 * 0.5 / math.sqrt(n))
    assert law.test.wrong == pytest.approx(Mixture(5, MU).wrong)


@pytest.mark.parametrize("flip", [0.0, FLIP])
def test_the_mixtures_integrals_agree_with_each_other(flip):
    """Quadrature over signed projections gives the closed forms; the density is the slope of the distribution."""
    law = Mixture(5, MU, flip)
    for z in (0.4, 1.7):
        x, weight = law.quadrature(z)
        assert weight.sum() == pytest.approx(1.0, abs=1e-12)
        assert weight @ (x * (x < z)) == pytest.approx(float(law.mean_below(np.asarray(z))), abs=1e-12)
        slope = (law.cdf(np.asarray(z + 1e-5)) - law.cdf(np.asarray(z - 1e-5))) / 2e-5
        assert float(slope) == pytest.approx(float(law.density(np.asarray(z))), rel=1e-8)
    assert 2.0 * law.density(np.asarray(0.0)) == pytest.approx(law.density_at_zero)


@pytest.mark.slow
def test_a_network_follows_the_mixture():
    """Plain gradient descent on fresh data, 4 seeds: the mean gain of ⟨a w∥⟩ within 4 standard errors of theory."""
    d, M, batch, dt, steps = 20, 1000, 2000, 1.5, (3, 8, 20)
    model = MeanField(d=d, inputs="mixture", separation=1.2, dt=dt)
    gains = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        a0, w0 = rng.normal(size=M).astype(np.float32), rng.normal(size=(M, d)).astype(np.float32)
        a, w, seen = a0.copy(), w0.copy(), []
        for step in range(1, steps[-1] + 1):
            x, y = (values.astype(np.float32) for values in mixture(rng, batch, d, mu=1.2))
            z, z0 = x @ w.T / math.sqrt(d), x @ w0.T / math.sqrt(d)
            sigma = np.maximum(z, 0.0)
            forced = y * (y * (sigma @ a - np.maximum(z0, 0.0) @ a0) / M < 1.0)
            drive = (z > 0.0).T @ (forced[:, None] * x) / (batch * math.sqrt(d))
            a, w = a + dt * forced @ sigma / batch, w + dt * a[:, None] * drive
            if step in steps:
                seen.append(float(np.mean(a * w[:, 0]) - np.mean(a0 * w0[:, 0])))
        gains.append(seen)
    solution = model.solve(np.array(steps) * dt)
    assert solution.unsatisfied[0] > 0.99
    assert solution.unsatisfied[-1] < 0.6
    error = np.std(gains, axis=0, ddof=1) / 2.0
    assert (error < 0.05 * solution.cosh * solution.sinh * 2.0).all()
    assert (np.abs(np.mean(gains, axis=0) - 2.0 * solution.cosh * solution.sinh) < 4.0 * error).all()


def test_classes_that_overlap_stop_the_clock():
    """At γ* satisfied examples are no longer outweighed: ⟨ζ 1[ζ < z_c]⟩ = 0, and γ approaches it at the rate given."""
    model = MeanField(d=30, inputs="mixture", separation=0.5)
    star = model.gamma_star
    late = model.solve(np.array([1.0, 1.5]) * 12.0 / model.relaxation_rate)
    assert model.law.mean_below(model.threshold(model.slope(math.cosh(star), math.sinh(star)))) == pytest.approx(
        0.0, abs=1e-9
    )
    assert math.log((star - late.gamma[0]) / (star - late.gamma[1])) == pytest.approx(6.0, rel=0.01)
    assert late.test_error[1] == pytest.approx(0.30854, abs=1e-5)  # Φ(−0.5)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["hinge", "logistic"])
def test_the_clock_of_a_finite_set_is_its_equation(loss):
    """Against 2·10⁵ Euler steps of γ̇ = c⟨φζ⟩/(α√d) on 40 examples, and t(γ) against γ(t)."""
    x, y = mixture(np.random.default_rng(1), 40, 6)
    model = MeanField(d=6, inputs="empirical", loss=loss).of_draw(lambda: drawn(x, y))
    zeta, gamma, t_end, n = y * x[:, 0], 0.0, 30.0, 200_000
    seen = []
    for step in range(1, n + 1):
        slope = 0.5 * math.sinh(2.0 * gamma) / math.sqrt(6.0)
        margin = slope * zeta
        force = (margin < 1.0) if loss == "hinge" else 1.0 / (1.0 + np.exp(margin))
        gamma += t_end / n * 0.5 * float(np.mean(force * zeta)) / math.sqrt(6.0)
        if step % 50_000 == 0:
            seen.append(gamma)
    np.testing.assert_allclose(model.solve(t_end * np.arange(1, 5) / 4.0).gamma, seen, rtol=2e-4)
    if loss == "hinge":
        middle = 0.5 * model.gamma_star
        assert model.solve(model.time_of(middle)).gamma[0] == pytest.approx(middle, rel=1e-12)
        assert math.isinf(float(model.time_of(1.01 * model.gamma_star)))
        assert model.solve(np.inf).gamma[0] == model.gamma_star


@pytest.mark.slow
@pytest.mark.parametrize(("draw", "inputs"), [(normal, {}), (mixture, {"inputs": "mixture", "separation": MU})])
def test_the_empirical_theory_is_the_exact_one_within_sampling_error(draw, inputs):
    """On data whose law is known, over 60 training sets of N = 400 and of 6400 examples in d = 10.

    The mean deviation of γ and n_u is below 4 standard errors and a bias of order 1/N, and the spread falls as 1/√N.
    """
    exact, d = MeanField(d=10, **inputs), 10
    t = exact.time_scale * np.array([0.2, 1.0, 4.0])
    spread = {}
    for N in (400, 6400):
        sets = (draw(np.random.default_rng(seed), N, d) for seed in range(60))
        found = [MeanField(d=d, inputs=Empirical.of(drawn(*examples))).solve(t) for examples in sets]
        for name in ("gamma", "unsatisfied"):
            values, expected = np.array([getattr(f, name) for f in found]), getattr(exact.solve(t), name)
            error = values.std(axis=0, ddof=1) / math.sqrt(60.0)
            assert (np.abs(values.mean(axis=0) - expected) < 4.0 * error + 4.0 / N).all(), (N, name)
            spread[N, name] = values.std(axis=0)
    for name in ("gamma", "unsatisfied"):
        seen = spread[400, name] > 0.0  # all are unsatisfied at first
        ratio = spread[400, name][seen] / spread[6400, name][seen]
        assert ((ratio > 2.6) & (ratio < 6.0)).all()  # 4, by 60 draws each


def test_the_reference_direction_is_that_of_the_labels_as_far_as_the_sample_tells():
    """cos of the angle to the true one: 1/√(1 + (d − 1)/(N m₁²)), in the mean of 20 draws."""
    d, N = 50, 2000
    cosines = [reference_direction(*normal(np.random.default_rng(seed), N, d))[0] for seed in range(20)]
    assert np.mean(cosines) == pytest.approx(1.0 / math.sqrt(1.0 + (d - 1) / (N * 2.0 / math.pi)), abs=0.002)
    with pytest.raises(ValueError, match="no direction"):
        reference_direction(np.ones((2, 3)), np.array([1.0, -1.0]))


def test_corrections_for_finite_width_know_overlapping_classes():
    """Those of 2·10⁴ normal examples are the exact ones but for sampling; for M → ∞ errors are those of the law."""
    rng = np.random.default_rng(3)
    train, test = normal(rng, 20_000, 10), normal(rng, 20_000, 10)
    exact, t = MeanField(d=10), np.array([1.0, 10.0, 40.0])
    sampled = FiniteWidth(MeanField(d=10, inputs="empirical"), M=50).of_draw(lambda: drawn(*train, test))
    assert sampled.needs_draw is False
    predicted = FiniteWidth(exact, M=50).series(t)
    for name, curve in sampled.series(t).items():
        np.testing.assert_allclose(curve.value, predicted[name].value, atol=0.02, rtol=0.01, err_msg=name)
    wide = FiniteWidth(MeanField(d=10, inputs="mixture", separation=1.0, flip=FLIP), M=10**9).series(t)
    np.testing.assert_allclose(wide["test_error"].value, 0.158655, atol=1e-4)
    np.testing.assert_allclose(wide["train_error"].value, 0.158655 * (1 - 2 * FLIP) + FLIP, atol=1e-4)


def test_an_actual_law_has_test_errors_of_its_own():
    """Half of the projections of the training set, and a quarter of those of the test set, are on the wrong side."""
    x, y = np.eye(3)[[0, 0, 0, 0]] * np.array([[1.0], [-1.0], [2.0], [-3.0]]), np.ones(4)
    model = MeanField(d=3, inputs="empirical", flip=0.3)
    assert model.needs_draw
    with pytest.raises(ValueError, match="of_draw"):
        model.solve(1.0)
    actual = model.of_draw(lambda: drawn(x, y, (np.abs(x) * [[1], [1], [1], [-1]], y)))
    assert actual.flip == 0.0
    assert actual.law.wrong == 0.5
    assert actual.law.test.wrong == 0.25


def test_the_realised_width_of_a_finite_set_uses_its_own_clock():
    """With actual p and q of the nodes γ differs from the mean field's by what the exact law says it does."""
    rng = np.random.default_rng(5)
    x, y = normal(rng, 20_000, 8)
    draw = Draw(rng.normal(size=5), rng.normal(size=(5, 8)), x, y, x[:10], y[:10], np.eye(8)[0])
    t = np.array([5.0, 20.0, 60.0])
    sampled = RealisedWidth(MeanField(d=8, inputs="empirical")).of_draw(lambda: draw).gamma(t)
    exact = RealisedWidth(MeanField(d=8)).of_draw(lambda: draw).gamma(t)
    np.testing.assert_allclose(sampled, exact, rtol=0.01)
    assert (np.abs(exact / MeanField(d=8).solve(t).gamma - 1.0)[1:] > 0.02).all()


def test_the_length_across_is_that_of_examples_with_a_similar_projection():
    rng = np.random.default_rng(6)
    zeta = rng.normal(size=20_000)
    law = Empirical(zeta, 3.0 + zeta**2 + rng.normal(size=len(zeta)))
    x_par = np.array([0.2, 1.0, 1.5])
    np.testing.assert_allclose(law.perp_sq(x_par), 3.0 + x_par**2, rtol=0.03)
