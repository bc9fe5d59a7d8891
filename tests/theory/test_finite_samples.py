"""First order in 1/√N: the kernel between two times, the start, a linear network, exponents, and where it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import erfinv, gammaln

from mfnet.theory import Activation, FiniteSamples, FiniteWidth, LimitKernel, MeanField, starting_error
from mfnet.theory.finite_samples import _Harmonics, _kernel


def unit_input(u, cosine, d):
    """A unit vector with this x∥; x⊥ has this cosine with the second axis."""
    x = np.zeros(d)
    x[0] = u
    x[1:3] = math.sqrt(1.0 - u * u) * np.array([cosine, math.sqrt(1.0 - cosine**2)])
    return x


@pytest.mark.parametrize("slope", [0.0, 0.3])
@pytest.mark.parametrize(("gamma", "then"), [(0.0, 0.0), (0.7, 0.7), (1.2, 0.4)])
def test_the_kernel_between_two_times_is_that_of_nodes(slope, gamma, then):
    """By Monte Carlo over 400 000 nodes on their hyperbolas, with unequal variances: within four standard errors."""
    rng, d, a_std, w_std = np.random.default_rng(0), 4, 1.3, 0.8
    leaky = Activation("leaky", (1.0 + slope) / 2.0, kink=(1.0 - slope) / 2.0)
    model = MeanField(d=d, activation=leaky, a_std=a_std, w_std=w_std)
    a0, w0 = a_std * rng.normal(size=400_000), w_std * rng.normal(size=(400_000, d))

    def at(angle):
        w = w0.copy()
        w[:, 0] = w0[:, 0] * math.cosh(angle) + a0 * math.sinh(angle)
        return a0 * math.cosh(angle) + w0[:, 0] * math.sinh(angle), w

    (a, w), (a_then, w_then) = at(gamma), at(then)
    for u, v, cosine in ((0.0, 0.3, 0.5), (0.4, -0.2, -0.7), (0.1, 0.6, 0.95)):
        x, y = unit_input(u, 1.0, d), unit_input(v, cosine, d)
        z, z_then = w @ x, w_then @ y
        gate, gate_then = (np.where(values > 0.0, 1.0, slope) for values in (z, z_then))
        moved_a, moved_w = gate_then * z_then, (a_then * gate_then)[:, None] * y
        turn, twist = math.cosh(gamma - then), math.sinh(gamma - then)
        moved_a, moved_w[:, 0] = turn * moved_a + twist * moved_w[:, 0], twist * moved_a + turn * moved_w[:, 0]
        values = gate * z * moved_a + a * gate * (moved_w @ x)
        found = _kernel(model, *np.array([u, v, cosine, gamma, then])[:, None])[0]
        assert found == pytest.approx(values.mean(), abs=4.0 * values.std() / math.sqrt(len(values)))


def test_at_the_start_it_is_the_limit_kernel():
    d = 7
    for u, v, cosine in ((0.0, 0.3, 0.5), (0.4, -0.2, -0.7), (0.1, 0.6, 0.95)):
        x, y = unit_input(u, 1.0, d), unit_input(v, cosine, d)
        expected = d * LimitKernel("relu").product(x[None], y[None], np.ones((1, 1)))[0, 0]
        found = _kernel(MeanField(d=d), *np.array([u, v, cosine, 0.0, 0.0])[:, None])[0]
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("d", [3, 10, 100, 2000])
def test_harmonics_are_orthogonal(d):
    """E P_l P_k over the sphere in d − 1 dimensions is 1/N_l where l = k and else 0; N_l is their number."""
    harmonics = _Harmonics.of(d)
    weight = harmonics.project[0]
    polynomials = harmonics.project / weight
    products = (polynomials * weight) @ polynomials.T * harmonics.number
    np.testing.assert_allclose(products, np.eye(len(products)), atol=1e-6)
    assert harmonics.number[1:3] == pytest.approx([d - 1, (d - 1) * d / 2 - 1])


@pytest.mark.parametrize(("d", "flip"), [(5, 0.0), (20, 0.1), (50, 0.0), (400, 0.0)])
def test_it_starts_with_the_starting_error(d, flip):
    """√N ε₀ for large N, which `starting_error` knows to order 1/d by an expansion of the kernel in the overlap."""
    model, N = MeanField(d=d, flip=flip, alpha=1e6), 1e10
    assert FiniteSamples(model, N).scaled_error(0.0)[0] == pytest.approx(
        math.sqrt(N) * starting_error(model, N), rel=0.9 / d
    )


@pytest.mark.parametrize(("alpha", "flip", "accuracy"), [(1e3, 0.0, 0.005), (1.0, 0.0, 0.005), (0.1, 0.05, 0.01)])
def test_a_linear_network_is_that_of_its_moments(alpha, flip, accuracy):
    """With σ(z) = z the noise across ŵ* obeys two equations for ⟨a w⊥⟩ and ⟨w∥ w⊥⟩, solved here by Runge–Kutta."""
    d = 12
    model = MeanField(d=d, alpha=alpha, activation="linear", flip=flip)
    times = model.time_scale * np.array([0.5, 1.0, 3.0, 10.0])
    # an example leaves the noise as z_c passes it: those with |x∥| in the n-th part of the law, and flipped ones never
    parts = 400
    leave = model.t_sat(np.sqrt(2.0) * erfinv((np.arange(parts) + 0.5) / parts))
    solution = model.solve(np.linspace(0.0, times[-1], 20_000))
    slope, gamma = solution.slope, solution.gamma
    rate = np.gradient(gamma, solution.t)
    z_c = np.maximum(solution.z_c, 1e-9)
    density = (1.0 - flip) * math.sqrt(2.0 / math.pi) * np.exp(-(np.minimum(z_c, 40.0) ** 2) / 2.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        pull = np.where(slope > 0.0, density / np.maximum(alpha * slope, 1e-300), 0.0)

    def velocity(t, state, until):
        p, q = state.reshape(2, -1)
        at = [np.interp(t, solution.t, values) for values in (gamma, rate, pull)]
        force = ((t < until) - at[2] * alpha * p / math.sqrt(d)) / (alpha * math.sqrt(d))
        a_square, overlap = math.cosh(2.0 * at[0]), math.sinh(2.0 * at[0])
        return np.concatenate([at[1] * q + (1.0 + a_square) * force, at[1] * p + overlap * force])

    until = np.append(leave, math.inf)
    done = solve_ivp(
        velocity,
        (0.0, times[-1]),
        np.zeros(2 * parts + 2),
        t_eval=times,
        args=(until,),
        rtol=1e-6,
        max_step=times[0] / 20,
    )
    square = done.y.reshape(2, parts + 1, -1)[0] ** 2
    variance = (1.0 - flip) * square[:-1].mean(axis=0) + flip * square[-1]
    length = math.sqrt(2.0) * math.exp(gammaln(d / 2.0) - gammaln((d - 1.0) / 2.0))
    expected = length * np.sqrt(variance / d)
    np.testing.assert_allclose(FiniteSamples(model, 100).noise(times), expected, rtol=accuracy)


@pytest.mark.slow
def test_the_onset_in_high_dimensions():
    """n_u ∝ d^(−1/4) and t ∝ d^(3/4) time scales in the lazy limit; and neither depends on N."""
    found = {}
    for d in (1000, 8000):
        model = MeanField(d=d, alpha=1e6)
        onset = FiniteSamples(model, 10**6).onset()
        assert onset.inside
        found[d] = math.log(onset.t / model.time_scale), math.log(onset.unsatisfied)
    t, n_u = (np.array(found[8000]) - np.array(found[1000])) / math.log(8.0)
    assert t == pytest.approx(0.75, abs=0.04)
    assert n_u == pytest.approx(-0.25, abs=0.01)


def test_the_onset_does_not_depend_on_the_number_of_examples():
    model = MeanField(d=20)
    few, many = (FiniteSamples(model, N).onset() for N in (1000, 4000))
    assert (few.t, few.unsatisfied) == pytest.approx((many.t, many.unsatisfied), rel=1e-12)
    assert few.test_error == pytest.approx(2.0 * many.test_error, rel=1e-12)
    assert few.t / model.time_scale == pytest.approx(3.60, abs=0.02)


def test_what_is_added_by_nodes_and_by_examples():
    """With N = ∞ it is `FiniteWidth`; with M = ∞ and large N the scaled error; of both, more than of either."""
    model = MeanField(d=20)
    t = model.time_scale * np.array([0.5, 1.0, 4.0])
    solution = model.solve(t)
    width = FiniteWidth(model, 400).generalisation_error(solution)
    np.testing.assert_allclose(FiniteSamples(model, 1e14, 400).generalisation_error(solution), width, rtol=1e-4)
    alone = FiniteSamples(model, 10**6)
    np.testing.assert_allclose(alone.generalisation_error(solution), alone.scaled_error(t) / 1e3, rtol=2e-3)
    both = FiniteSamples(model, 4000, 400).generalisation_error(solution)
    assert (both > np.maximum(width, FiniteSamples(model, 4000).generalisation_error(solution))).all()
    series = FiniteSamples(model, 4000, 400).series(np.append(0.0, t))
    assert series["test_error"].value == pytest.approx(np.append(0.5, both))
    assert "train_error" not in series


@pytest.mark.parametrize(
    ("settings", "N", "said"),
    [
        ({"loss": "logistic"}, 100, "loss='logistic' must be the hinge"),
        ({"inputs": "sphere"}, 100, "inputs='sphere' must be 'normal'"),
        ({"activation": "gelu"}, 100, "activation='gelu' must be homogeneous of degree 1"),
        ({"d": 2}, 100, "d=2 must be at least 3"),
        ({}, 0, "N=0 must be at least 1"),
    ],
)
def test_where_it_refuses(settings, N, said):
    with pytest.raises(ValueError, match=said):
        FiniteSamples(MeanField(**{"d": 10, **settings}), N)
