"""The mean-field solution against reference values, closed forms, limits and its own inverse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, optimize, special

from mfnet.theory import AsymptoticLaws, MeanField, Normal, ProjectionLaw, lazy_limit
from mfnet.theory.activations import WITH_LINEAR_ODD_PART
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


@pytest.mark.unchecked
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "case",
    [
        *({}, {"flip": 0.1}, {"inputs": "sphere"}, {"alpha": 1e-3}, {"alpha": 1e3}),
        *({"a_std": 2.0, "w_std": 0.5}, {"inputs": "elongated", "stretch": 0.4}),
    ],
)
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


LAWS = {
    "normal": {"d": 20},
    "sphere": {"d": 20, "inputs": "sphere"},
    "elongated": {"d": 20, "inputs": "elongated", "stretch": 2.0},
    "radial": {"d": 20, "inputs": "radial", "radius": {"name": "gamma", "a": 25.0, "scale": 0.2}},
    "A, B": {"d": 20, "a_std": 2.0, "w_std": 0.5},
    "lazy": {"d": 20, "alpha": 1e3},
    "rich": {"d": 20, "alpha": 1e-3},
}


def margin_of_rest(name, flip):
    """z_c at which J = 0, ⟨x∥ 1[x∥ < z]⟩ = m₁ε/(1 − ε), and P(x∥ < z_c) there: without the theory's laws."""
    part = flip / (1 - flip)
    if name == "sphere":
        z = math.sqrt(1 - (1 - part) ** (2 / 19))
        density = special.gamma(10.0) / (math.sqrt(math.pi) * special.gamma(9.5))
        return z, 2 * density * integrate.quad(lambda u: (1 - u * u) ** 8.5, 0, z)[0]
    if name == "radial":  # x∥ = ru, u = cos θ of density ∝ (1 − u²)^8.5, ⟨r^k 1[r < z/u]⟩ in incomplete Γ functions

        def share(z, k):
            def inner(u):
                return (1 - u * u) ** 8.5 * u**k * special.gammainc(25.0 + k, z / (0.2 * u))

            return integrate.quad(inner, 0, 1, epsabs=0.0, epsrel=1e-11)[0]

        z = optimize.brentq(lambda z: share(z, 1) / share(np.inf, 1) - part, 0.05, 5.0, xtol=1e-12)
        return z, share(z, 0) / share(np.inf, 0)
    z = math.sqrt(-2 * math.log1p(-part))
    return z * (2.0 if name == "elongated" else 1.0), special.erf(z / math.sqrt(2))


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("flip", [0.1, 0.3])
def test_noise_ends_where_the_drive_of_right_and_wrong_labels_balance(name, flip):
    """γ* and the unsatisfied fraction there, (1 − ε)P(x∥ < z_c) + ε, of every law."""
    case = LAWS[name]
    model = MeanField(**case, flip=flip)
    z_c, share = margin_of_rest(name, flip)
    variances = (model.a_std**2 + model.w_std**2) / 2
    expected = 0.5 * math.asinh(math.sqrt(20) / (model.alpha * 0.5 * variances * z_c))
    assert model.gamma_star == pytest.approx(expected, rel=1e-7)
    end = model.solve([model.time_scale, math.inf])
    assert end.gamma[1] == pytest.approx(expected, rel=1e-7)
    assert end.unsatisfied[1] == pytest.approx((1 - flip) * share + flip, rel=1e-7)
    assert end.gamma[0] < end.gamma[1]


@pytest.mark.unchecked
@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("flip", [0.1, 0.3])
def test_the_clock_relaxes_at_its_rate(name, flip):
    """γ* − γ(t) falls by e in every 1/λ, up to the next order, which is as large as the distance that is left."""
    model = MeanField(**LAWS[name], flip=flip)
    star, distance = model.gamma_star, 1e-4 * min(model.gamma_star, 1.0)
    near = float(model.time_of(star - distance))
    left = star - model.solve(near + np.array([0.0, 1.0, 2.0]) / model.relaxation_rate).gamma
    np.testing.assert_allclose(left[0], distance, rtol=1e-5)
    np.testing.assert_allclose(-np.diff(np.log(left)), 1.0, rtol=1e-3)


def test_the_rate_of_relaxation_of_normal_data():
    """4cm₁/(α√d) · (1−2ε) ln((1−ε)/(1−2ε)) coth 2γ*, in three regimes; about in proportion to ε."""
    m1 = math.sqrt(2 / math.pi)
    for alpha, d, flip in ((1.0, 100, 0.1), (1e-3, 20, 0.3), (1e3, 50, 0.01)):
        model = MeanField(d, alpha, flip=flip)
        expected = 2 * m1 / (alpha * math.sqrt(d)) * (1 - 2 * flip) * math.log((1 - flip) / (1 - 2 * flip))
        assert model.relaxation_rate == pytest.approx(expected / math.tanh(2 * model.gamma_star), rel=1e-11)
    few, fewer = (MeanField(20, flip=flip).relaxation_rate for flip in (2e-4, 1e-4))
    assert few / fewer == pytest.approx(2.0, rel=1e-3)
    assert MeanField(20).relaxation_rate == 0.0


class WithoutDensity(ProjectionLaw):
    """The law of another, which does not tell its density."""

    def __init__(self, law):
        self.law, self.m1, self.density_at_zero = law, law.m1, law.density_at_zero
        self.cdf, self.mean_below = law.cdf, law.mean_below
        self.quadrature, self.perp_sq = law.quadrature, law.perp_sq

    m1 = density_at_zero = cdf = mean_below = quadrature = perp_sq = None


@pytest.mark.parametrize("name", LAWS)
def test_the_rate_by_the_density_is_the_derivative_of_the_clock(name):
    """The closed form, and the numerical derivative that a law without a density gets, to eight digits."""
    model = MeanField(**LAWS[name], flip=0.2)
    blind = {key: value for key, value in LAWS[name].items() if key not in ("radius", "stretch")}
    blind = MeanField(**{**blind, "inputs": WithoutDensity(model.law.clean)}, flip=0.2)
    assert blind.law.density(1.0) is None
    assert blind.relaxation_rate == pytest.approx(model.relaxation_rate, rel=1e-8)


def test_the_square_loss_relaxes_in_closed_form():
    """J = h m₁(1 − 2ε) − αs⟨x∥²⟩ is linear in s: −dγ̇/dγ = 2c²V⟨x∥²⟩ cosh 2γ*/d, αs* = h m₁(1 − 2ε)/⟨x∥²⟩."""
    for alpha, stretch, flip in ((1.0, 1.0, 0.0), (0.1, 2.0, 0.2), (1e3, 0.5, 0.1)):
        inputs = {"inputs": "elongated", "stretch": stretch}
        model = MeanField(20, alpha, 1.3, loss="square", flip=flip, a_std=2.0, w_std=0.5, **inputs)
        sinh = math.sqrt(20) * 1.3 * math.sqrt(2 / math.pi) * (1 - 2 * flip) / (alpha * 0.5 * 2.125 * stretch)
        assert model.gamma_star == pytest.approx(0.5 * math.asinh(sinh), rel=1e-10)
        expected = 2 * 0.25 * 2.125 * stretch**2 * math.sqrt(1 + sinh**2) / 20
        assert model.relaxation_rate == pytest.approx(expected, rel=1e-8)


@pytest.mark.unchecked
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", [{}, {"flip": 0.2}, {"inputs": "sphere"}, {"inputs": "elongated", "stretch": 2.0}])
def test_initial_variances_are_a_change_of_units(loss, case):
    """γ(t; α, A, B) = γ(Vt; αV, 1, 1) with V = (A² + B²)/2, and the margins with it."""
    for a_std, w_std in ((2.0, 1.0), (0.5, 1.5)):
        v = (a_std**2 + w_std**2) / 2
        model = MeanField(20, 0.7, 1.2, loss=loss, a_std=a_std, w_std=w_std, **case)
        other = MeanField(20, 0.7 * v, 1.2, loss=loss, **case)
        t = model.time_scale * np.array([0.1, 1.0, 10.0])
        first, second = model.solve(t), other.solve(v * t)
        np.testing.assert_allclose(first.gamma, second.gamma, rtol=1e-8)
        np.testing.assert_allclose(0.7 * first.slope, 0.7 * v * second.slope, rtol=1e-8)
        np.testing.assert_allclose(0.7**2 * first.loss, (0.7 * v) ** 2 * second.loss, rtol=1e-7)
        assert model.time_scale == pytest.approx(other.time_scale / v, rel=1e-10)
        stepped = MeanField(20, 0.7, 1.2, loss=loss, a_std=a_std, w_std=w_std, dt=t[1] / 7, **case).solve(t[1:])
        rescaled = MeanField(20, 0.7 * v, 1.2, loss=loss, dt=v * t[1] / 7, **case).solve(v * t[1:])
        np.testing.assert_allclose(stepped.gamma, rescaled.gamma, rtol=1e-8)


def test_equal_variances_are_a_change_of_the_output():
    """A = B: every node is A times that of unit variance, F is A² times as large (eq. 11), whatever γ is."""
    wide, unit = MeanField(20, 0.25, a_std=2.0, w_std=2.0), MeanField(20, 1.0)
    assert wide.slope(1.5, 1.1) == 4.0 * unit.slope(1.5, 1.1)
    assert wide.gamma_sat(0.3) == unit.gamma_sat(0.3)
    assert wide.t_sat(0.3) == pytest.approx(unit.t_sat(0.3) / 4.0, rel=1e-10)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"a_std": 0.0}, "a_std=0.0 must be finite and above 0"),
        ({"w_std": math.inf}, "w_std=inf must be finite and above 0"),
        ({"a_std": math.nan}, "a_std=nan must be finite and above 0"),
        ({"inputs": "elongated", "stretch": -1.0}, "stretch=-1.0 must be finite and above 0"),
        ({"stretch": 2.0}, "stretch=2.0 must be 1 unless inputs='elongated'"),
        ({"inputs": Normal(20), "stretch": 2.0}, "stretch=2.0 must be 1 unless"),
    ],
)
def test_a_bad_setting_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        MeanField(20, **setting)


@pytest.mark.unchecked
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", [{}, {"flip": 0.2}, {"a_std": 2.0}, {"inputs": "elongated", "stretch": 0.5}])
def test_the_force_is_the_slope_of_the_loss(loss, case):
    """∂L/∂s = −J/α, by central differences of the loss along γ."""
    model = MeanField(d=20, alpha=0.8, loss=loss, **case)
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


@pytest.mark.parametrize(("a_std", "w_std"), [(1.0, 1.0), (2.0, 0.5)])
def test_discrete_steps_are_the_products_of_theory(a_std, w_std):
    """cosh γ → (P+Q)/2, sinh γ → (P−Q)/2 with P = Π(1+κ), Q = Π(1−κ)."""
    d, dt = 20, 3.0
    p = q = 1.0
    for _ in range(20):
        slope = 0.5 * (a_std**2 + w_std**2) / 2 * (p**2 - q**2) / 2 / math.sqrt(d)
        j = math.sqrt(2 / math.pi) * (1 - math.exp(-0.5 / slope**2) if slope > 0 else 1.0)
        kappa = dt * 0.5 * j / math.sqrt(d)
        p, q = p * (1 + kappa), q * (1 - kappa)
    solution = MeanField(d=d, dt=dt, a_std=a_std, w_std=w_std).solve(60.0)
    assert solution.cosh[0] == pytest.approx((p + q) / 2, rel=1e-12)
    assert solution.sinh[0] == pytest.approx((p - q) / 2, rel=1e-12)


def test_nodes_keep_to_their_hyperbola():
    rng = np.random.default_rng(0)
    a0, w0 = rng.normal(size=(2, 50))
    a, w = MeanField(d=20).solve([1.0, 10.0, 100.0]).nodes(a0, w0)
    np.testing.assert_allclose(a**2 - w**2, np.broadcast_to(a0**2 - w0**2, a.shape), rtol=1e-10, atol=1e-10)
    assert np.abs(a[-1]).max() > 5.0


@pytest.mark.parametrize(("a_std", "w_std"), [(1.0, 1.0), (2.0, 1.0), (0.5, 1.5)])
def test_the_density_is_that_of_the_nodes(a_std, w_std):
    """It integrates to 1, with the variances and the covariance of 2·10⁵ drawn nodes within 4 standard errors.

    At A = B = 1 the variances are cosh 2γ, the covariance is sinh 2γ.
    """
    solution = MeanField(d=20, a_std=a_std, w_std=w_std).solve([14.0])
    grid = np.linspace(-30.0, 30.0, 1201)
    a, w = np.meshgrid(grid, grid, indexing="ij")
    weight = solution.density(a, w) * (grid[1] - grid[0]) ** 2
    gamma = solution.gamma[0]
    assert weight.sum() == pytest.approx(1.0, rel=1e-10)
    n = 200_000
    a0, w0 = np.array([[a_std], [w_std]]) * np.random.default_rng(4).normal(size=(2, n))
    (drawn_a,), (drawn_w,) = solution.nodes(a0, w0)
    for moment in (lambda a, w: a * a, lambda a, w: w * w, lambda a, w: a * w):
        sample = moment(drawn_a, drawn_w)
        assert abs(sample.mean() - (weight * moment(a, w)).sum()) < 4.0 * sample.std() / math.sqrt(n)
    if a_std == w_std == 1.0:
        assert (weight * a * a).sum() == pytest.approx(np.cosh(2 * gamma), rel=1e-10)
        assert (weight * a * w).sum() == pytest.approx(np.sinh(2 * gamma), rel=1e-10)


def test_only_the_odd_slope_enters():
    t = [1.0, 30.0]
    gamma = {name: MeanField(d=20, activation=name).solve(t).gamma for name in WITH_LINEAR_ODD_PART}
    for name in ("gelu", "silu", "softplus"):
        np.testing.assert_array_equal(gamma[name], gamma["relu"])
    assert gamma["linear"][0] == pytest.approx(2 * gamma["relu"][0], rel=1e-6)


def test_undecided_at_the_start_and_right_ever_after():
    solution = MeanField(d=20, flip=0.1).solve([0.0, 1.0])
    assert solution.test_error.tolist() == [0.5, 0.0]
    assert solution.train_error.tolist() == [0.5, 0.1]
    assert solution.unsatisfied.tolist() == [1.0, pytest.approx(1.0)]


@pytest.mark.parametrize(
    "case", [{}, {"a_std": 2.0, "w_std": 1.0}, {"a_std": 0.5, "w_std": 1.5}, {"inputs": "elongated", "stretch": 2.0}]
)
def test_the_lazy_limit_is_reached_as_alpha_squared(case):
    t = [10.0, 1e3]
    limit = lazy_limit(MeanField(d=20, **case), t).gamma_tilde
    alphas = np.array([100.0, 200.0, 400.0])
    errors = [np.abs(alpha * MeanField(d=20, alpha=alpha, **case).solve(t).gamma - limit).max() for alpha in alphas]
    assert np.polyfit(np.log(alphas), np.log(errors), 1)[0] == pytest.approx(-2.0, abs=0.05)


@pytest.mark.slow
def test_laws_of_both_ends_of_time():
    """Each law is approached: its error falls, and is small at the end."""
    cases = ({}, {"inputs": "sphere"}, {"a_std": 2.0, "w_std": 1.0}, {"inputs": "elongated", "stretch": 0.5})
    for case in cases:
        rich = MeanField(d=50, alpha=0.5, **case)
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
