"""Activations and losses of one's own, given as records: against quadrature, drawn nodes and independent solvers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq
from scipy.special import ndtr

from mfnet.theory import (
    Activation,
    AsymptoticLaws,
    Draw,
    FiniteWidth,
    KernelClosure,
    KernelFlow,
    LimitKernel,
    LinearClosure,
    Loss,
    MeanField,
    MovingKernel,
    RealisedWidth,
    realised_starting_error,
    starting_error,
)
from mfnet.theory.activations import ACTIVATIONS
from mfnet.theory.losses import LOSSES
from mfnet.theory.node_kernel import kernel_parts
from mfnet.theory.sliding import Kernel, _solve_each, implicit_step

LOG_COSH = Activation("log_cosh", 0.5, lambda z: np.logaddexp(z, -z) - math.log(2.0), np.tanh)
WELL = Activation("well", 0.7, lambda z: 0.4 * (1.0 - np.exp(-(z**2) / 2.0)), lambda z: 0.4 * z * np.exp(-(z**2) / 2.0))
ODD_ONLY = Activation("odd_only", 0.5)

EXPONENTIAL = Loss("exponential", *[lambda m, h: np.exp(-m)] * 3)
HUBER = Loss(  # of width h/2, the force 1 below it
    "huber",
    lambda m, h: np.where(m < h / 2, 0.75 * h - m, np.maximum(h - m, 0.0) ** 2 / h),
    lambda m, h: np.clip(2.0 * (h - m) / h, 0.0, 1.0),
    lambda m, h: np.where((m > h / 2) & (m < h), 2.0 / h, 0.0),
)
JUMP = Loss(  # from 1 to 0 at h, and growing below
    "jump",
    lambda m, h: np.where(m < h, (h - m) + (h - m) ** 2 / 2.0, 0.0),
    lambda m, h: np.where(m < h, 1.0 + h - m, 0.0),
    None,
)
SIGMOID = Loss(
    "sigmoid",
    lambda m, h: 1.0 / (1.0 + np.exp(m)),
    lambda m, h: 0.25 / np.cosh(m / 2.0) ** 2,
    lambda m, h: 0.25 * np.tanh(m / 2.0) / np.cosh(m / 2.0) ** 2,
)


def make_draw(N=40, M=10, d=5, seed=0, flip=0.0):
    rng = np.random.default_rng(seed)
    x, x_test = rng.normal(size=(N, d)), rng.normal(size=(200, d))
    y, y_test = np.sign(x[:, 0]), np.sign(x_test[:, 0])
    y[: round(flip * N)] *= -1.0
    return Draw(rng.normal(size=M), rng.normal(size=(M, d)), x, y, x_test, y_test, np.eye(d)[0])


# ---------------------------------------------------------------- single examples


def root_of(loss, h, reached, own):
    """m with m − own φ(m) = reached, by bisection between bounds found by doubling."""

    def missing(m):
        return m - own * float(loss.force(np.array(m), h)) - reached

    width, sign = 1.0, -math.copysign(1.0, missing(reached))
    while missing(reached + sign * width) * sign < 0.0:
        width *= 2.0
    ends = sorted((reached, reached + sign * width))
    while not math.isfinite(missing(ends[0])):  # the exponential of a large number
        ends[0] = (ends[0] + ends[1]) / 2.0 if missing((ends[0] + ends[1]) / 2.0) < 0.0 else ends[0] / 2.0
    return brentq(missing, *ends, xtol=1e-14, rtol=1e-14)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("h", [1.0, 0.01])
@pytest.mark.parametrize(
    "loss",
    [EXPONENTIAL, HUBER, *(LOSSES[name] for name in ("logistic", "squared_hinge", "square"))],
    ids=lambda loss: loss.name,
)
def test_the_force_of_a_single_example(loss, h):
    """Margins that solve their equation to 10⁻¹⁰, and forces to what that is worth, for self-terms of all sizes."""
    near = np.array([0.0, 1e-3, 0.3, 0.49, 0.51, 0.75, 0.99, 1.01, 3.0, 40.0])
    reached, own = (
        grid.ravel()
        for grid in np.meshgrid(
            [*(-h * near), *(h * near), -300.0, -700.0, -2000.0, 300.0], [1e-8, 1e-3, 0.1, 1.0, 30.0, 1e4, 1e8]
        )
    )
    force, softness = _solve_each(loss, h, reached, own)
    roots = np.array([root_of(loss, h, *case) for case in zip(reached, own, strict=True)])
    expected, slope = loss.force(roots, h), loss.curvature(roots, h)
    shift = 2e-10 * np.maximum(h, np.abs(roots)) + 1e-14 * np.abs(reached)
    steepest = np.maximum(loss.curvature(roots - shift, h), loss.curvature(roots + shift, h))
    assert (np.abs(force - expected) <= shift * steepest + 1e-12 * np.abs(expected)).all()
    smooth = loss.curvature(roots - shift, h) - loss.curvature(roots + shift, h) <= 1e-6 * steepest
    assert smooth.sum() > 0.7 * len(roots)
    np.testing.assert_allclose(softness[smooth], (slope / (1.0 + own * slope))[smooth], rtol=1e-6)


def test_the_softness_is_the_derivative_of_the_force():
    reached, own, step = np.linspace(-5.0, 5.0, 21), np.full(21, 2.0), 1e-5
    _, softness = _solve_each(EXPONENTIAL, 1.0, reached, own)
    ahead, behind = (_solve_each(EXPONENTIAL, 1.0, reached + sign * step, own)[0] for sign in (1.0, -1.0))
    np.testing.assert_allclose(softness, (behind - ahead) / (2.0 * step), rtol=1e-6)


def test_an_example_without_a_self_term_has_the_force_of_its_margin():
    reached = np.array([-800.0, -2.0, 0.0, 5.0])
    force, softness = _solve_each(EXPONENTIAL, 1.0, reached[1:], np.zeros(3))
    np.testing.assert_array_equal(force, np.exp(-reached[1:]))
    np.testing.assert_array_equal(softness, np.exp(-reached[1:]))


@pytest.mark.parametrize("loss", [EXPONENTIAL, HUBER], ids=lambda loss: loss.name)
@pytest.mark.parametrize("tau", [0.01, 3.0, 100.0])
def test_an_implicit_step_solves_its_equation(loss, tau):
    """Margins are off by at most 10⁻⁵, and forces by that times their slope."""
    rng = np.random.default_rng(4)
    root = rng.normal(size=(6, 6))
    kernel = Kernel(rng.normal(size=(50, 6)), root @ root.T, 0.5 * rng.uniform(0.5, 1.5, size=50))
    margins = 3.0 * rng.normal(size=50)
    step = implicit_step(kernel, loss, 1.0, margins, tau, np.zeros(6))
    reached = margins + tau * (kernel.features @ (kernel.blend @ step.features) + kernel.kappa * step.force)
    error = 3e-5 * np.maximum(loss.curvature(reached - 3e-5, 1.0), loss.curvature(reached + 3e-5, 1.0))
    assert (np.abs(loss.force(reached, 1.0) - step.force) <= error + 1e-12).all()


def test_what_an_implicit_step_cannot_follow():
    kernel = Kernel(np.ones((3, 1)), np.eye(1), np.ones(3))
    with pytest.raises(ValueError, match=r"implicit step cannot follow the loss 'jump', whose force jumps"):
        implicit_step(kernel, JUMP, 1.0, np.zeros(3), 1.0, np.zeros(1))
    with pytest.raises(ValueError, match="force of the loss 'sigmoid' grows with the margin"):
        implicit_step(kernel, SIGMOID, 1.0, -np.ones(3), 1.0, np.zeros(1))


# ---------------------------------------------------------------- own activations


def test_a_record_is_the_name_under_which_it_is_registered(monkeypatch):
    """Every theory gives the same numbers for the record as for a name of the package's own."""
    draw, t = make_draw(), np.array([0.0, 2.0, 15.0])
    monkeypatch.setitem(ACTIVATIONS, "well", WELL)
    monkeypatch.setitem(LOSSES, "exponential", EXPONENTIAL)
    records, names = MeanField(5, 0.8, 1.0, WELL, EXPONENTIAL), MeanField(5, 0.8, 1.0, "well", "exponential")
    for make in (
        lambda model: model,
        lambda model: FiniteWidth(model, 30),
        RealisedWidth,
        LinearClosure,
        KernelClosure,
        KernelFlow,
        lambda model: KernelFlow(model, "actual"),
    ):
        one, other = (make(model).of_draw(lambda: draw).series(t) for model in (records, names))
        for name in one:
            np.testing.assert_array_equal(one[name].value, other[name].value)
    assert starting_error(records, 100, 50) == starting_error(names, 100, 50)
    relu = MeanField(5, 0.8, 1.0, "relu", EXPONENTIAL)
    assert MeanField(5, 0.8, 1.0, ODD_ONLY, EXPONENTIAL).solve(3.0).gamma == relu.solve(3.0).gamma


@pytest.mark.parametrize("activation", [LOG_COSH, WELL], ids=lambda activation: activation.name)
def test_the_spread_over_initial_draws_of_an_own_activation(activation):
    """σ_M²M is the variance of aσ(z) − a₀σ(z₀) over 4·10⁵ drawn nodes, within 4 standard errors."""
    rng, d, M, gamma = np.random.default_rng(1), 6, 400_000, 0.6
    x = np.array([1.2, -1.0, 1.0, 1.0, -1.0, 1.0])  # |x⊥|² = d − 1, its mean
    a0, w0 = rng.normal(size=M), rng.normal(size=(M, d))
    cosh, sinh, w = np.cosh(gamma), np.sinh(gamma), w0.copy()
    a, w[:, 0] = cosh * a0 + sinh * w0[:, 0], cosh * w0[:, 0] + sinh * a0
    z, z0, c = w @ x / math.sqrt(d), w0 @ x / math.sqrt(d), activation.odd_slope
    sample = a * (c * z + activation.even(z)) - a0 * (c * z0 + activation.even(z0))
    squares = (sample - sample.mean()) ** 2
    std = float(FiniteWidth(MeanField(d, activation=activation), 1).output_std(np.array(x[0]), cosh, sinh))
    assert abs(std**2 - squares.mean()) < 4.0 * squares.std() / math.sqrt(M)


def test_the_limit_kernel_of_an_own_activation():
    """K = ⟨σσ′⟩ + A²⟨σ̇σ̇′⟩ x·x′/d by Gauss–Hermite quadrature in the plane of the two inputs."""
    x, x2, A, B = np.array([1.0, 0.5, -2.0]), np.array([0.3, 1.4, -0.2]), 1.3, 0.8
    xi, weight = np.polynomial.hermite_e.hermegauss(80)
    weight = np.multiply.outer(weight, weight) / (2.0 * math.pi)
    one, two = np.meshgrid(xi, xi, indexing="ij")
    s, s2, gram = (float(value) / 3.0 for value in (x @ x, x2 @ x2, x @ x2))
    z = B * math.sqrt(s) * one
    z2 = B * (gram / math.sqrt(s) * one + math.sqrt(s2 - gram**2 / s) * two)
    c = WELL.odd_slope
    values = (c * z + WELL.even(z)) * (c * z2 + WELL.even(z2))
    slopes = (c + WELL.even_slope(z)) * (c + WELL.even_slope(z2))
    expected = np.sum(weight * (values + A**2 * gram * slopes))
    assert LimitKernel(WELL, A, B)(x[None], x2[None])[0, 0] == pytest.approx(expected, rel=1e-8)


def test_a_kink_says_what_the_even_part_is():
    """σ(z) = z above 0, z/5 below."""
    activation, z = Activation("own", 0.6, kink=0.4), np.linspace(-2.0, 2.0, 5)
    assert activation.even is not None
    assert activation.even_slope is not None
    np.testing.assert_allclose(0.6 * z + activation.even(z), np.where(z > 0.0, z, z / 5.0))
    np.testing.assert_allclose((0.6 + activation.even_slope(z))[[0, 1, 3, 4]], [0.2, 0.2, 1.0, 1.0])
    own, known = MeanField(5, activation=Activation("own", 0.505, kink=0.495)), MeanField(5, activation="leaky_relu")
    for make in (lambda model: MovingKernel(model, 10), RealisedWidth, lambda model: KernelFlow(model, "actual")):
        one, other = (make(model).of_draw(make_draw).series(np.array([5.0])) for model in (own, known))
        for name in one:
            np.testing.assert_array_equal(one[name].value, other[name].value)


def test_parts_that_an_activation_does_not_give():
    model, draw = MeanField(5, activation=ODD_ONLY), make_draw()
    for make, what in (
        (lambda: FiniteWidth(model, 10), "FiniteWidth needs 'even' of the activation, which 'odd_only' does not give"),
        (lambda: RealisedWidth(model), "RealisedWidth needs 'even'"),
        (lambda: KernelClosure(model), "KernelClosure needs 'even'"),
        (lambda: KernelFlow(model), "KernelFlow needs 'even'"),
        (lambda: MovingKernel(model), "MovingKernel needs a homogeneous activation, and 'odd_only' has no 'kink'"),
        (lambda: starting_error(model, 100), "starting error needs 'even'"),
        (lambda: realised_starting_error(model, draw), "starting error needs 'even'"),
        (lambda: LimitKernel(ODD_ONLY)(draw.x, draw.x), "tangent kernel needs 'even'"),
    ):
        with pytest.raises(ValueError, match=what):
            make()
    with pytest.raises(ValueError, match="KernelFlow needs 'even_slope'"):
        KernelFlow(MeanField(5, activation=Activation("own", 0.5, even=np.abs)))
    gamma = LinearClosure(model).of_draw(lambda: draw).series(np.array([3.0]))["gamma"].value
    assert gamma == LinearClosure(MeanField(5)).of_draw(lambda: draw).series(np.array([3.0]))["gamma"].value


def test_what_no_activation_or_loss_is():
    for settings, what in (
        ({"activation": "tan"}, "activation='tan' must be one of relu, .*, or an Activation"),
        ({"activation": "tanh"}, "'tanh' has an odd part that is not linear, .* use Hydrodynamic"),
        ({"loss": "huber"}, "loss='huber' must be one of hinge, .*, or a Loss"),
        ({"activation": Activation("even", 0.0, np.abs, np.sign)}, "odd_slope=0.0 of the activation 'even'"),
        ({"loss": Loss("flat", np.abs, lambda m, h: np.zeros_like(m), None)}, "force of the loss 'flat' .* at m=0"),
    ):
        with pytest.raises(ValueError, match=what):
            MeanField(5, **settings)


# ---------------------------------------------------------------- own losses


@pytest.mark.parametrize("flip", [0.0, 0.1])
@pytest.mark.parametrize("alpha", [0.05, 1.0, 50.0])
def test_the_clock_of_an_own_loss(alpha, flip):
    """γ̇ = cJ/(α√d) with J = ⟨e^{−αsζ} ζ⟩ by quadrature, and L = ⟨e^{−αsζ}⟩/α² = 2e^{u²/2}Φ(−u)/α², u = αs."""
    d = 20

    def drive(gamma):
        u = alpha * 0.5 * math.sinh(2.0 * gamma) / math.sqrt(d)

        def density(z):
            rest = (1.0 - flip) * math.exp(-u * z - z**2 / 2.0) - flip * math.exp(u * z - z**2 / 2.0)
            return math.sqrt(2.0 / math.pi) * z * rest

        return 0.5 / (alpha * math.sqrt(d)) * quad(density, 0.0, 40.0, epsabs=1e-13, epsrel=1e-11, limit=200)[0]

    model = MeanField(d, alpha, loss=EXPONENTIAL, flip=flip)
    t = model.time_scale * np.array([0.1, 1.0, 5.0])
    options = {"rtol": 1e-9, "atol": 1e-14, "method": "LSODA"}
    reference = solve_ivp(lambda _, y: [drive(y[0])], (0.0, t[-1]), [0.0], t_eval=t, **options).y[0]
    solution = model.solve(t)
    np.testing.assert_allclose(solution.gamma, reference, rtol=1e-7)
    u = alpha * 0.5 * np.sinh(2.0 * reference) / math.sqrt(d)
    loss = (1.0 - flip) * 2.0 * np.exp(u**2 / 2.0) * ndtr(-u) + flip * 2.0 * np.exp(u**2 / 2.0) * ndtr(u)
    np.testing.assert_allclose(solution.loss, loss / alpha**2, rtol=1e-6)
    if flip:
        assert drive(model.gamma_star) == pytest.approx(0.0, abs=1e-9 * drive(0.0))


def test_an_own_force_that_jumps_at_h():
    """J = ⟨(1 + h − αsζ) ζ 1[αsζ < h]⟩ by quadrature; not that of the hinge."""
    d, alpha, h = 20, 0.7, 1.3
    model, hinge = MeanField(d, alpha, h, loss=JUMP), MeanField(d, alpha, h)
    for slope in (0.5, 2.0, 30.0):
        expected, _ = quad(
            lambda z: (1.0 + h - alpha * slope * z) * z * math.sqrt(2.0 / math.pi) * math.exp(-(z**2) / 2.0),  # noqa: B023
            0.0,
            min(h / (alpha * slope), 40.0),
            epsabs=0.0,
            epsrel=1e-12,
        )
        assert model.force(slope) == pytest.approx(expected, rel=1e-10)
        assert abs(model.force(slope) / hinge.force(slope) - 1.0) > 0.1


@pytest.mark.parametrize("theory", [LinearClosure, KernelClosure, KernelFlow])
def test_losses_that_a_theory_cannot_follow(theory):
    with pytest.raises(ValueError, match=f"{theory.__name__} cannot follow the loss 'jump', whose force jumps"):
        theory(MeanField(5, loss=JUMP))
    with pytest.raises(ValueError, match=f"{theory.__name__} needs a convex loss, and the force of 'sigmoid' grows"):
        theory(MeanField(5, loss=SIGMOID))
    theory(MeanField(5, loss="hinge"))


def test_laws_of_the_hinge_alone():
    for loss in (EXPONENTIAL, "logistic"):
        with pytest.raises(ValueError, match="AsymptoticLaws are those of the loss 'hinge'"):
            AsymptoticLaws(MeanField(5, loss=loss))
    for make in (
        lambda: MeanField(5, loss=JUMP, inputs="empirical"),
        lambda: MeanField(5, loss=JUMP, inputs=MeanField(5, inputs="empirical").of_draw(make_draw).law),
    ):
        with pytest.raises(ValueError, match="MeanField with inputs='empirical' cannot follow the loss 'jump'"):
            make()


@pytest.mark.parametrize("loss", [EXPONENTIAL, HUBER], ids=lambda loss: loss.name)
def test_a_linear_network_under_an_own_loss(loss):
    """The linear closure is exact for it, but for implicit steps of first order; the network by LSODA."""
    draw, d, M, N, alpha = make_draw(flip=0.1), 5, 10, 40, 0.7
    theta0, root_d = np.column_stack([draw.a0, draw.w0]), math.sqrt(d)
    f0 = draw.x @ draw.w0.T @ draw.a0 / (M * root_d)

    def rates(_, flat):
        theta = flat.reshape(M, d + 1)
        f = draw.x @ theta[:, 1:].T @ theta[:, 0] / (M * root_d)
        pull = (loss.force(alpha * draw.y * (f - f0), 1.0) * draw.y) @ draw.x / (alpha * N * root_d)
        return np.column_stack([theta[:, 1:] @ pull, np.outer(theta[:, 0], pull)]).ravel()

    t = np.array([1.0, 4.0, 12.0, 30.0])
    options = {"rtol": 1e-9, "atol": 1e-10, "method": "LSODA"}
    theta = solve_ivp(rates, (0.0, 30.0), theta0.ravel(), t_eval=t, **options).y.T.reshape(4, M, d + 1)
    u0, v0 = (theta0[:, 0] + sign * theta0[:, 1] for sign in (1.0, -1.0))
    u, v = (theta[:, :, 0] + sign * theta[:, :, 1] for sign in (1.0, -1.0))
    gamma = np.arcsinh((u @ u0 / (u0 @ u0) - v @ v0 / (v0 @ v0)) / 2.0)
    model, errors = MeanField(d, alpha, activation="linear", loss=loss), []
    for resolution in (0.02, 0.005):
        series = LinearClosure(model, "actual", resolution).of_draw(lambda: draw).series(t)
        errors.append(np.abs(series["gamma"].value - gamma).max())
    assert errors[0] < 0.02
    assert errors[1] < 0.35 * errors[0]


@pytest.mark.parametrize("loss", [EXPONENTIAL, HUBER], ids=lambda loss: loss.name)
def test_the_kernel_flow_of_an_own_loss(loss):
    """dm/dt = Qφ(m)/N by LSODA, for an own activation; margins within 5·10⁻³ at the default tolerance."""
    draw, t = make_draw(80, d=10, flip=0.05), np.array([1.0, 30.0, 100.0, 1000.0])
    Q = LimitKernel(WELL)(draw.x, draw.x) * np.outer(draw.y, draw.y)
    options = {"rtol": 1e-9, "atol": 1e-10, "method": "LSODA"}
    reference = solve_ivp(lambda _, m: Q @ loss.force(m, 1.0) / 80, (0.0, 1000.0), np.zeros(80), t_eval=t, **options)
    flow = KernelFlow(MeanField(10, 1e3, activation=WELL, loss=loss)).of_draw(lambda: draw)
    np.testing.assert_allclose(flow.solve(t)[2], reference.y.T, atol=5e-3)
    value = np.mean(loss.value(reference.y, 1.0), axis=0) / 1e6
    np.testing.assert_allclose(flow.series(t)["loss"].value, value, rtol=2e-3, atol=1e-10)


def test_a_kernel_flow_that_cannot_go_on_says_so():
    """A force that is not a number beyond m = ½."""
    broken = Loss("broken", lambda m, h: -m, lambda m, h: np.where(m < 0.5, 1.0, np.nan), lambda m, h: np.zeros_like(m))
    flow = KernelFlow(MeanField(5, loss=broken)).of_draw(make_draw)
    assert flow.series(np.array([1.0]))["loss"].value[0] < 0.0
    with pytest.raises(RuntimeError, match="is the force of the loss a number"):
        flow.series(np.array([1000.0]))


@pytest.mark.parametrize("loss", [EXPONENTIAL, HUBER], ids=lambda loss: loss.name)
def test_the_kernel_closure_of_an_own_loss(loss):
    """Lazy, its kernel stays: dm/dt = K̂φ/N by LSODA on the dense matrix; steps are of first order."""
    draw, d, N = make_draw(60, d=6), 6, 60
    t, alpha = np.array([3.0, 20.0, 100.0]), 1e4
    q = draw.y @ draw.x
    across = draw.x - np.outer(draw.x @ q, q) / (q @ q)
    parts = kernel_parts(WELL, draw.x, np.eye(d + 1), 1.0)
    kernel = 2.0 * WELL.odd_slope**2 * draw.x @ draw.x.T / d + np.outer(parts.even, parts.even)
    quadratic = np.outer(parts.curved, parts.curved) * (across @ across.T / d) ** 2
    np.fill_diagonal(quadratic, parts.own)
    Q = (kernel + quadratic) * np.outer(draw.y, draw.y)
    options = {"rtol": 1e-9, "atol": 1e-10, "method": "LSODA"}
    m = solve_ivp(lambda _, m: Q @ loss.force(m, 1.0) / N, (0.0, 100.0), np.zeros(N), t_eval=t, **options).y
    value, errors = np.mean(loss.value(m, 1.0), axis=0), []
    for resolution in (0.02, 0.005):
        closure = KernelClosure(MeanField(d, alpha, activation=WELL, loss=loss), "mean", resolution)
        series = closure.of_draw(lambda: draw).series(t)
        errors.append(np.abs(alpha**2 * series["loss"].value - value).max())
    assert errors[0] < 0.01
    assert errors[1] < 0.35 * errors[0]
