"""Closures for finite training sets: against exact limits, dense references and networks trained in numpy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from mfnet.theory import MeanField
from mfnet.theory.activations import ACTIVATIONS, WITH_LINEAR_ODD_PART
from mfnet.theory.closures import KernelClosure, LinearClosure
from mfnet.theory.losses import LOSSES
from mfnet.theory.node_kernel import even_moments, kernel_parts
from mfnet.theory.onset import first_minimum, onset
from mfnet.theory.overlay import Nodes
from mfnet.theory.prediction import Prediction
from mfnet.theory.sliding import HINGE_WIDTH, Kernel, implicit_step
from support.draws import make_draw


def train(draw, model, times, dt):
    """(γ, unsatisfied, train error, test error), final a and w of a real network: Heun's method, in numpy.

    ReLU or linear. ``unsatisfied`` counts margins below 0.98 h, because examples chatter about h.
    """
    relu, loss = model.activation == "relu", LOSSES[model.loss]
    root_d, (N, _), M = math.sqrt(model.d), draw.x.shape, len(draw.a0)

    def layer(x, w):
        z = x @ w.T / root_d
        return np.maximum(z, 0.0) if relu else z

    start, start_test = layer(draw.x, draw.w0) @ draw.a0, layer(draw.x_test, draw.w0) @ draw.a0

    def rates(a, w):
        z = layer(draw.x, w)
        m = model.alpha * draw.y * (z @ a - start) / M
        signed = loss.force(m, model.h) * draw.y / (model.alpha * N)
        gate = (z > 0.0) * signed[:, None] if relu else np.repeat(signed[:, None], M, axis=1)
        return z.T @ signed, a[:, None] * (gate.T @ draw.x) / root_d, m

    a, w, now, rows = draw.a0.copy(), draw.w0.copy(), 0.0, []
    for time in times:
        n = math.ceil((time - now) / dt - 1e-9)
        step = (time - now) / max(n, 1)
        for _ in range(n):
            da, dw, _ = rates(a, w)
            da2, dw2, _ = rates(a + step * da, w + step * dw)
            a, w = a + step / 2.0 * (da + da2), w + step / 2.0 * (dw + dw2)
        now, m = time, rates(a, w)[2]
        u, v, u0, v0 = a + w[:, 0], a - w[:, 0], draw.a0 + draw.w0[:, 0], draw.a0 - draw.w0[:, 0]
        gamma = math.asinh((u @ u0 / (u0 @ u0) - v @ v0 / (v0 @ v0)) / 2.0)
        test = draw.y_test * (layer(draw.x_test, w) @ a - start_test)
        rows.append((gamma, np.mean(m < 0.98 * model.h), np.mean(m < 0.0), np.mean(test < 0.0)))
    return np.array(rows).T, a, w


def series(theory, draw, t):
    curves = theory.of_draw(lambda: draw).series(t)
    return np.array([curves[name].value for name in ("gamma", "unsatisfied", "train_error", "test_error")])


# ---------------------------------------------------------------- the implicit step


def random_kernel(rng, N, k, kappa):
    root = rng.normal(size=(k, k))
    return Kernel(rng.normal(size=(N, k)), root @ root.T, kappa * rng.uniform(0.5, 1.5, size=N))


@pytest.mark.parametrize(("N", "k", "kappa", "tau"), [(40, 5, 1.0, 0.1), (40, 5, 1.0, 10.0), (60, 30, 0.1, 1.0)])
def test_hinge_step_is_the_minimum_of_a_quadratic_form_in_a_box(N, k, kappa, tau):
    """Its forces minimise ½φ·(τK̂ + width)φ + (m − h)·φ over 0 ≤ φ ≤ 1: found by L-BFGS-B on the dense matrix."""
    rng = np.random.default_rng(3)
    kernel = random_kernel(rng, N, k, kappa)
    margins = rng.normal(size=N)
    step = implicit_step(kernel, LOSSES["hinge"], 1.0, margins, tau, np.zeros(k))
    dense = tau * (kernel.features @ kernel.blend @ kernel.features.T + np.diag(kernel.kappa)) + HINGE_WIDTH * np.eye(N)

    def energy(phi):
        return 0.5 * phi @ dense @ phi + (margins - 1.0) @ phi, dense @ phi + margins - 1.0

    options = {"maxiter": 50_000, "maxfun": 200_000, "ftol": 1e-15, "gtol": 1e-10}
    reference = minimize(energy, np.full(N, 0.5), jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * N, options=options)
    assert energy(step.force)[0] <= reference.fun + 1e-6 * abs(reference.fun)
    np.testing.assert_allclose(dense @ step.force, dense @ reference.x, atol=2e-3)
    np.testing.assert_allclose(step.features, kernel.features.T @ step.force, atol=1e-3)


@pytest.mark.parametrize("name", ["logistic", "square", "squared_hinge"])
def test_smooth_step_solves_its_equation(name):
    rng = np.random.default_rng(4)
    kernel, margins, loss = random_kernel(rng, 50, 6, 0.5), rng.normal(size=50), LOSSES[name]
    step = implicit_step(kernel, loss, 1.0, margins, 3.0, np.zeros(6))
    reached = margins + 3.0 * (kernel.features @ (kernel.blend @ step.features) + kernel.kappa * step.force)
    np.testing.assert_allclose(loss.force(reached, 1.0), step.force, atol=2e-5)


# ---------------------------------------------------------------- the kernel of normal nodes


def test_kernel_parts_are_those_of_drawn_nodes():
    """4·10⁵ nodes on six inputs: diagonal and off-diagonal against the sum of the parts (ReLU, before any motion)."""
    rng = np.random.default_rng(5)
    d, M = 60, 400_000
    x = rng.normal(size=(6, d))
    kernel = np.zeros((6, 6))
    for _ in range(8):
        a, w = rng.normal(size=M // 8), rng.normal(size=(M // 8, d))
        z = x @ w.T / math.sqrt(d)
        kernel += (np.maximum(z, 0.0) @ np.maximum(z, 0.0).T + (x @ x.T / d) * ((z > 0.0) * a**2 @ (z > 0.0).T)) / M
    parts, r = kernel_parts(ACTIVATIONS["relu"], x, np.eye(d + 1), 1.0), x @ x.T / d
    model = 0.5 * r + np.outer(parts.even, parts.even) + np.outer(parts.curved, parts.curved) * r**2
    np.fill_diagonal(model, 0.5 * np.diag(r) + parts.even**2 + parts.own)
    np.testing.assert_allclose(kernel, model, atol=8e-3)  # r⁴/(48π) and Monte Carlo, both a few 10⁻³ at most
    assert np.abs(kernel - 0.5 * r).max() > 0.3  # what the parts beyond the linear one explain


def test_even_moments_by_quadrature_and_in_closed_form():
    """Softplus, GELU and SiLU against direct integration."""
    z, dz = np.linspace(-12.0, 12.0, 240_001, retstep=True)
    density = np.exp(-(z**2) / 2.0) / math.sqrt(2.0 * math.pi) * dz
    s = np.array([0.7, 1.0, 1.9])
    for name in ("gelu", "silu", "softplus"):
        even = ACTIVATIONS[name].even
        moments = even_moments(ACTIVATIONS[name], s)
        for k, scale in enumerate(s):
            value = even(scale * z)
            slope = np.gradient(value, scale * (z[1] - z[0]))
            expected = (value @ density, np.gradient(slope, scale * (z[1] - z[0])) @ density)
            expected += (value**2 @ density, slope**2 @ density)
            np.testing.assert_allclose([m[k] for m in moments], expected, rtol=2e-4)


# ---------------------------------------------------------------- the linear closure


def test_linear_network_is_solved_exactly():
    """A linear network's output depends on its nodes through ⟨θθᵀ⟩ alone, so the closure is exact for any M and N.

    Logistic loss (no jumps): the deviation is that of implicit Euler steps, and falls with their length.
    """
    draw = make_draw(80, 12, 6, 0)
    model = MeanField(d=6, alpha=0.7, activation="linear", loss="logistic")
    t = np.array([1.0, 4.0, 12.0, 30.0])
    network, a, w = train(draw, model, t, 0.01)
    deviations = []
    for resolution in (0.02, 0.005):
        closure = LinearClosure(model, "actual", resolution).of_draw(lambda: draw)
        solution = closure.solve(t)
        deviations.append(np.abs(solution.gamma - network[0]).max())
        np.testing.assert_allclose(solution.train_error, network[2], atol=1.5 / 80)
    assert deviations[0] < 0.02
    assert deviations[1] < 0.35 * deviations[0]
    w_perp0 = np.linalg.norm(draw.w0[:, 1:], axis=1)
    nodes = closure.nodes(t, draw.a0[:5], draw.w0[:5, 0], w_perp0[:5])
    np.testing.assert_allclose(nodes.a[-1], a[:5], atol=0.02)
    np.testing.assert_allclose(nodes.w_par[-1], w[:5, 0], atol=0.02)
    np.testing.assert_allclose(nodes.w_perp[-1], np.linalg.norm(w[:5, 1:], axis=1), atol=0.02)
    moved = w - draw.w0
    assert solution.outside[-1] == pytest.approx(np.sum(moved[:, 1:] ** 2) / np.sum(moved**2), rel=0.03)
    assert closure.nodes(t, np.array([9.0]), np.array([0.0]), np.array([1.0])) is None


def test_linear_network_under_the_hinge():
    """Examples slide along the margin; 3000 Heun steps chatter, the implicit ones do not."""
    draw = make_draw(60, 10, 8, 1)
    model = MeanField(d=8, activation="linear")
    t = np.array([2.0, 6.0, 15.0, 30.0])
    network, *_ = train(draw, model, t, 0.01)
    closure = series(LinearClosure(model, "actual", 0.005), draw, t)
    np.testing.assert_allclose(closure[0], network[0], rtol=0.01)
    np.testing.assert_allclose(closure[1:3], network[1:3], atol=2.5 / 60)
    np.testing.assert_allclose(closure[3], network[3], atol=0.01)


def test_many_examples_are_the_mean_field():
    """N = 40 000, d = 4: γ within 2 %, the unsatisfied fraction within 0.01, which is √(d/N)."""
    draw = make_draw(40_000, 1, 4, 2)
    t = np.array([0.5, 3.0, 10.0, 40.0])
    model = MeanField(d=4)
    closure, solution = series(LinearClosure(model), draw, t), model.solve(t)
    np.testing.assert_allclose(closure[0], solution.gamma, rtol=0.02)
    np.testing.assert_allclose(closure[1], solution.unsatisfied, atol=0.01)


# ---------------------------------------------------------------- the kernel closure


def lazy_kernel(x, x2):
    """The initial ReLU kernel at M = ∞ (theory.md, 4)."""
    d, n, n2 = x.shape[1], np.linalg.norm(x, axis=1)[:, None], np.linalg.norm(x2, axis=1)
    cosine = np.clip(x @ x2.T / (n * n2), -1.0, 1.0)
    theta = np.arccos(cosine)
    return n * n2 / (2.0 * math.pi * d) * (np.sin(theta) + 2.0 * (math.pi - theta) * cosine)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_lazy_limit_is_that_of_the_full_kernel(seed):
    """α = 10⁴, N = 500, d = 30: the flow of the dense kernel, explicitly in steps of 0.05, is followed to its end.

    The kernel's parts of third and higher order are left out, 2 % of its off-diagonal.
    """
    draw = make_draw(500, 1, 30, seed)
    t = np.array([10.0, 60.0, 200.0, 600.0])
    gram, cross = lazy_kernel(draw.x, draw.x), lazy_kernel(draw.x_test, draw.x)
    gram *= np.outer(draw.y, draw.y) / 500
    m, impulse, reference = np.zeros(500), np.zeros(500), []
    for step in range(round(t[-1] / 0.05)):
        force = (m < 1.0) * 0.05
        impulse += force
        m += gram @ force
        if np.isclose((step + 1) * 0.05, t).any():
            test = draw.y_test * (cross @ (draw.y * impulse))
            reference.append((np.mean(m < 0.98), np.mean(m < 0.0), np.mean(test < 0.0)))
    closure = series(KernelClosure(MeanField(d=30, alpha=1e4)), draw, t)[1:]
    np.testing.assert_allclose(closure, np.array(reference).T, atol=0.015)


@pytest.mark.slow
@pytest.mark.unchecked
@pytest.mark.parametrize(("alpha", "flip", "t_end"), [(1.0, 0.0, 100.0), (100.0, 0.0, 400.0), (1.0, 0.05, 60.0)])
def test_real_networks(alpha, flip, t_end):
    """N = 500, M = 400, d = 20, ReLU: along three runs, at all times.

    Unsatisfied fractions within 0.05 (of the network those below 0.98 h, so that some that slide are missed), training
    and test errors within 0.02, and within 0.01 on average over the runs (one training example is 0.002).
    """
    model = MeanField(d=20, alpha=alpha, flip=flip)
    t = t_end * np.array([0.01, 0.1, 0.3, 0.6, 1.0])
    deviations = []
    for seed in range(3):
        draw = make_draw(500, 400, 20, seed, flip=flip)
        network, *_ = train(draw, model, t, 0.4 if alpha == 1.0 else 4.0)
        deviations.append(series(KernelClosure(model, "actual"), draw, t) - network)
    unsatisfied, *errors = np.array(deviations).transpose(1, 0, 2)[1:]
    assert np.abs(unsatisfied).max() < 0.05
    for deviation in errors:
        assert np.abs(deviation).max() < 0.02
        assert np.abs(deviation.mean(axis=0)).max() < 0.01


@pytest.mark.slow
def test_shorter_steps_change_little():
    """Implicit Euler steps are of first order: the default is within 0.01 of four times shorter ones."""
    draw = make_draw(600, 200, 20, 3, flip=0.05)
    t = np.array([3.0, 10.0, 30.0, 100.0, 200.0])
    model = MeanField(d=20)
    coarse, fine, finest = (
        series(KernelClosure(model, "actual", resolution), draw, t) for resolution in (0.04, 0.02, 0.005)
    )
    assert np.abs(fine - finest)[1:].max() < 0.01
    assert np.abs(fine - finest)[0].max() < 0.7 * np.abs(coarse - finest)[0].max()


@pytest.mark.slow
@pytest.mark.parametrize("activation", WITH_LINEAR_ODD_PART)
@pytest.mark.parametrize("loss", ["hinge", "logistic", "square"])
def test_every_activation_and_loss_runs(activation, loss):
    """The loss falls, and errors with it, to what a separable set allows."""
    draw = make_draw(200, 50, 10, 4, n_test=500)
    t = np.array([0.0, 1.0, 5.0, 20.0, 60.0])
    model = MeanField(d=10, activation=activation, loss=loss)
    curves = KernelClosure(model).of_draw(lambda: draw).series(t)
    assert (np.diff(curves["loss"].value) < 1e-9).all()
    assert curves["test_error"].value[0] == 0.5
    assert curves["train_error"].value[-1] < 0.08
    assert 0.0 < curves["test_error"].value[-1] < 0.25


@pytest.mark.parametrize("start", ["mean", "actual"])
def test_initial_variances_are_a_change_of_units(start):
    """For ReLU and A = B the run is that of unit variances with α → αA², t → A²t, exactly, and F is F/A² there."""
    draw, A = make_draw(300, 40, 10, 5), 1.6
    wide = draw._replace(a0=A * draw.a0, w0=A * draw.w0)
    t = np.array([0.0, 1.0, 6.0, 25.0])
    model, unit = MeanField(d=10, alpha=0.8, a_std=A, w_std=A), MeanField(d=10, alpha=0.8 * A**2)
    run, reference = series(KernelClosure(model, start), wide, t), series(KernelClosure(unit, start), draw, A**2 * t)
    np.testing.assert_allclose(run[0], reference[0], rtol=1e-4)
    np.testing.assert_allclose(run[1:], reference[1:], atol=0.004)  # one training example


@pytest.mark.slow
def test_unequal_initial_variances_are_those_of_many_nodes():
    """A = 1.5, B = 0.5: moments of 10⁵ drawn nodes, up to their noise."""
    model = MeanField(d=10, a_std=1.5, w_std=0.5)
    draw = make_draw(300, 100_000, 10, 6)
    draw = draw._replace(a0=1.5 * draw.a0, w0=0.5 * draw.w0)
    t = np.array([1.0, 6.0, 25.0])
    mean, actual = (series(KernelClosure(model, start), draw, t) for start in ("mean", "actual"))
    np.testing.assert_allclose(mean[0], actual[0], rtol=0.01)
    np.testing.assert_allclose(mean[1:], actual[1:], atol=0.02)


def test_a_draw_is_needed():
    model = MeanField(d=10)
    with pytest.raises(ValueError, match="of_draw"):
        KernelClosure(model).series(np.array([1.0]))
    closure = LinearClosure(model).of_draw(lambda: make_draw(20, 5, 10, 0))
    with pytest.raises(ValueError, match="increase"):
        closure.series(np.array([2.0, 1.0]))


# ---------------------------------------------------------------- onset


def test_onset_of_a_noisy_minimum():
    """A parabola in ln t with noise as of 10⁴ test examples: no bias, and less spread than the lowest point has."""
    rng = np.random.default_rng(6)
    t = np.geomspace(1.0, 1e4, 65)
    truth = 0.02 + 0.004 * np.log(t / 300.0) ** 2
    unsatisfied = t**-0.5
    found, lowest = [], []
    for _ in range(200):
        error = truth + rng.normal(size=65) * 0.0005
        result = onset(np.append(0.0, t), np.append(0.5, error), np.append(1.0, unsatisfied))
        assert result.inside
        found.append(result)
        lowest.append(t[error.argmin()])
    log_t = np.log([f.t for f in found])
    assert abs(np.exp(log_t.mean()) / 300.0 - 1.0) < 0.03
    assert log_t.std() < 0.7 * np.log(lowest).std()
    assert np.mean([f.test_error for f in found]) == pytest.approx(0.02, abs=1e-4)
    assert found[0].unsatisfied == pytest.approx(found[0].t ** -0.5, rel=0.01)


def test_onset_at_the_end():
    t = np.geomspace(1.0, 100.0, 20)
    result = onset(t, 1.0 / t, t**-0.5)
    assert not result.inside
    assert result.t == pytest.approx(100.0)
    with pytest.raises(ValueError, match="four times"):
        onset(t[:3], t[:3], t[:3])


def test_the_first_minimum_of_a_smooth_error():
    """Of two, the one that comes first; and none where the error only falls."""
    t = np.geomspace(1.0, 1e4, 161)
    error = 0.02 + 0.004 * np.cos(np.log(t / 20.0)) * np.exp(-0.1 * np.log(t))
    found = first_minimum(t, error, t**-0.5)
    assert found.inside
    assert found.t == pytest.approx(20.0 * math.exp(math.pi - math.atan(0.1)), rel=1e-3)
    assert found.unsatisfied == pytest.approx(found.t**-0.5, rel=1e-3)
    assert not first_minimum(t, 1.0 / t, t**-0.5).inside


def test_what_was_solved_is_gone_on_with():
    """Bit for bit what is solved at once, also for a run that ends between its observations; other times begin anew."""
    draw, model = make_draw(400, 50, 10, 3), MeanField(d=10)
    t = np.concatenate([[0.0], np.geomspace(0.5, 100.0, 12)])
    closure, alone = (KernelClosure(model, start="actual").of_draw(lambda: draw) for _ in range(2))
    for k in range(1, 9):
        part = closure.solve(t[:k])
    assert part.t.tolist() == t[:8].tolist()
    early = np.append(t[:8], 0.4 * t[7] + 0.6 * t[8])
    for times in (early, early[:3], t):
        found, expected = closure.solve(times), replace(alone, draw=draw).solve(times)
        for name in ("gamma", "unsatisfied", "loss", "test_error", "a_row"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_a_run_asks_for_a_closure_as_it_goes():
    """Nothing is solved beyond the observation that is asked for, and no time twice."""
    draw, t = make_draw(100, 20, 10, 0), np.array([0.0, 1.0, 2.0, 4.0, 8.0])
    prediction = Prediction("theory", KernelClosure(MeanField(d=10), start="actual"), t, lambda: draw)
    assert prediction.series(1, 1.0)["gamma"].value.shape == (2,)
    done = prediction.theory._done
    assert done.t.values.tolist() == [0.0, 1.0]
    start = Nodes(*(np.stack([v, v]) for v in (draw.a0[:3], draw.w0[:3, 0], np.linalg.norm(draw.w0[:3, 1:], axis=1))))
    assert prediction.nodes(2, 2.0, start).a.shape == (3, 3)
    flow = done.flow
    prediction.series(3, 3.5)
    assert done.t.values.tolist() == [0.0, 1.0, 2.0, 3.5]
    assert done.flow is flow
