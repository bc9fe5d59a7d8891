"""The hydrodynamic equation against closed forms, conservation laws, symmetries, and its own convergence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erfc
from scipy.stats import norm

from mfnet.theory import Activation, Hydrodynamic, Loss, MeanField
from mfnet.theory.characteristics import Flow


@pytest.mark.parametrize(
    ("settings", "times"),
    [
        ({"alpha": 1.0}, [1.0, 10.0, 50.0, 100.0, 300.0]),
        ({"alpha": 1e3}, [10.0, 300.0, 1000.0]),
        ({"alpha": 1e-2, "flip": 0.1}, [0.1, 0.3, 0.6, 1.2]),
        ({"alpha": 1.0, "loss": "logistic", "flip": 0.05}, [1.0, 10.0, 50.0, 200.0]),
        ({"alpha": 1.0, "loss": "squared_hinge", "activation": "leaky_relu"}, [1.0, 10.0, 50.0, 200.0]),
        ({"alpha": 1.0, "loss": "square", "a_std": 0.7, "w_std": 1.3}, [1.0, 10.0, 50.0, 200.0]),
        ({"alpha": 1.0, "inputs": "mixture", "separation": 1.2}, [1.0, 10.0, 50.0, 200.0]),
        ({"alpha": 1.0, "activation": "softplus"}, [1.0, 20.0, 100.0]),
    ],
)
def test_it_is_the_mean_field_solution_where_that_holds(settings, times):
    """To 1e-6 in the clock, the unsatisfied fraction and the loss: panels and steps are that accurate.

    The closed form has second moments of the nodes alone, of which few points are exact.
    """
    given = {"d": 100, **settings}
    found = Hydrodynamic(**given, rtol=1e-6, points=3).solve(times)
    exact = MeanField(**given).solve(times)
    np.testing.assert_allclose(found.gamma, exact.gamma, rtol=1e-6)
    np.testing.assert_allclose(found.unsatisfied, exact.unsatisfied, atol=1e-6)
    np.testing.assert_allclose(found.loss, exact.loss, rtol=2e-6)
    np.testing.assert_allclose(found.displacement, exact.displacement, rtol=1e-6)
    np.testing.assert_allclose(found.test_error, exact.test_error, atol=1e-9)
    np.testing.assert_allclose(found.train_error, exact.train_error, atol=1e-9)


def test_nodes_that_are_carried_along_are_on_the_hyperbolas():
    t = np.array([0.0, 20.0, 80.0])
    a0, w_par0, w_perp0 = np.array([-1.2, 0.3, 2.0]), np.array([0.7, -2.0, 0.1]), np.array([9.0, 10.0, 11.0])
    found = Hydrodynamic(d=100, rtol=1e-6, points=3).nodes(t, a0, w_par0, w_perp0)
    exact = MeanField(d=100).nodes(t, a0, w_par0, w_perp0)
    for values, expected in zip(found, exact, strict=True):
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    t = np.array([0.0, 30.0, 80.0])
    crossing = Hydrodynamic(d=100, rtol=1e-6, points=3).satisfaction(t)
    np.testing.assert_allclose(crossing.value, MeanField(d=100).satisfaction(t).value, rtol=1e-5)


CASES = [
    ("tanh", "threshold", "hinge", [20.0, 40.0]),
    ("relu", "shell", "hinge", [60.0, 100.0]),
    ("sigmoid", "sign", "logistic", [20.0, 40.0]),
    ("erf", "sign", "squared_hinge", [5.0, 15.0]),
    ("relu_squared", "xor", "square", [2.0]),
]


@pytest.mark.unchecked
@pytest.mark.parametrize(("activation", "rule", "loss", "times"), CASES)
def test_the_loss_falls_by_the_square_of_the_velocity(activation, rule, loss, times):
    """dL/dt = −E_nodes|θ̇|² of a gradient flow: forces, gradients and observables belong to one loss.

    The hinge's force has a ramp, whose loss differs from the hinge by at most a 10⁻⁶ of h.
    """
    model = Hydrodynamic(
        d=20, activation=activation, inputs="latent", rule=rule, loss=loss, flip=0.05, rtol=1e-5, points=4
    )
    step = 0.05
    for t in times:
        theta, measure, _ = model.initial()
        flow = Flow(model.equation(measure), theta, model.rtol)
        flow.advance_to(t)
        speed = measure @ (flow.field.velocity**2).sum(axis=1)
        fall = -np.diff(model.solve([t - step, t + step]).loss)[0] / (2.0 * step)
        assert fall == pytest.approx(speed, rel=2e-3)


@pytest.mark.unchecked
def test_velocity_is_minus_the_gradient_of_the_loss():
    """By differences in each kind of parameter, in the middle of a run."""
    model = Hydrodynamic(d=12, activation="tanh", inputs="latent", rule="xor", loss="logistic", points=4)
    theta, measure, _ = model.initial()
    theta = theta + 0.1 * np.random.default_rng(0).normal(size=theta.shape)
    equation = model.equation(measure)

    def loss(theta):
        field = equation.field(theta)
        right = 0.5 * (1.0 + field.points.mean_label)
        values = [equation.loss.value(side * model.alpha * field.output, model.h) for side in (1.0, -1.0)]
        return field.points.weights @ (right * values[0] + (1.0 - right) * values[1]) / model.alpha**2

    velocity = equation.field(theta).velocity
    for node, component in [(0, 0), (17, 1), (40, 2), (90, 3)]:
        change = np.zeros_like(theta)
        change[node, component] = 1e-4
        slope = (loss(theta + change) - loss(theta - change)) / 2e-4
        assert velocity[node, component] == pytest.approx(-slope / measure[node], rel=1e-4, abs=1e-9)


@pytest.mark.unchecked
@pytest.mark.parametrize("loss", ["hinge", "logistic"])
def test_steps_are_of_fourth_order(loss):
    """From the same state, half the step leaves a 1/32 of the error of one step, less what is near the kink."""
    model = Hydrodynamic(d=30, activation="erf", loss=loss, points=6)
    theta, measure, _ = model.initial()
    flow = Flow(model.equation(measure), theta, 1e-7)
    flow.advance_to(20.0)
    start = flow.theta, flow.field
    step = 1.5
    flow.advance_to(20.0 + step)
    exact = flow.theta

    def error(parts):
        flow.theta, flow.field = start
        for _ in range(parts):
            flow.theta = flow.attempt(step / parts)[0]
            flow.field = flow.equation.field(flow.theta, gradient=True)
        return np.abs(flow.theta - exact).max()

    whole, halves = error(1), error(2)
    assert halves < whole / 11.0


@pytest.mark.unchecked
def test_more_nodes_change_little():
    """Quadrature over nodes converges also where they do not move linearly, and some turn to one side or the other."""
    for settings, t, few, many in [
        ({"activation": "erf", "d": 30}, 60.0, 8, 16),
        ({"activation": "relu", "inputs": "latent", "rule": "shell", "d": 30}, 100.0, 16, 22),
    ]:
        coarse, fine = (Hydrodynamic(**settings, points=points, rtol=1e-4).solve([t]) for points in (few, many))
        assert coarse.unsatisfied == pytest.approx(fine.unsatisfied, abs=4e-3)
        assert coarse.displacement == pytest.approx(fine.displacement, rel=3e-3)


@pytest.mark.parametrize("t", [5.0, 60.0])
def test_an_odd_network_cannot_learn_an_offset(t):
    """F stays odd, so that the inputs between 0 and the threshold are on the wrong side at all times."""
    model = Hydrodynamic(d=30, activation="tanh", inputs="latent", rule="threshold", at=0.3, points=4)
    solution = model.solve([t])
    assert solution.test_error[0] == pytest.approx(norm.cdf(0.3) - 0.5, abs=1e-9)
    u = np.linspace(0.1, 3.0, 7)[:, None]
    np.testing.assert_allclose(solution.output(u), -solution.output(-u), atol=1e-12)


@pytest.mark.parametrize("rule", ["shell", "xor", "clusters"])
def test_an_odd_activation_learns_nothing_of_even_labels(rule):
    solution = Hydrodynamic(d=20, activation="tanh", inputs="latent", rule=rule, points=4).solve([0.0, 50.0])
    assert solution.displacement[1] < 1e-12
    np.testing.assert_allclose(solution.test_error, 0.5, atol=1e-6)
    np.testing.assert_allclose(solution.unsatisfied, 1.0, atol=1e-6)


@pytest.mark.unchecked
def test_xor_is_learnt_and_keeps_its_symmetry():
    solution = Hydrodynamic(d=20, inputs="latent", rule="xor", points=4, rtol=1e-3).solve([40.0, 120.0])
    assert solution.test_error[1] < 1e-6
    u = np.array([[0.4, 0.9], [1.5, -0.2]])
    found = solution.output(u)
    np.testing.assert_allclose(found, solution.output(u[:, ::-1]), rtol=1e-6)
    np.testing.assert_allclose(found, -solution.output(u * [1.0, -1.0]), rtol=1e-6)
    for a_v in (lambda a, v, r: a * v[:, 0], lambda a, v, r: a * v[:, 0] ** 2, lambda a, v, r: a):
        np.testing.assert_allclose(solution.mean(a_v), 0.0, atol=1e-6)


def test_nodes_that_are_carried_along_go_where_their_like_go():
    """Implicit stages included, of a smooth loss and of the hinge."""
    model = Hydrodynamic(d=12, activation="sigmoid", inputs="latent", rule="xor", loss="logistic", points=3)
    times = np.array([0.0, 3.0, 10.0, 30.0])
    theta, _, _ = model.initial()
    np.testing.assert_allclose(model.carried(times, theta[5:20]), model.solve(times).theta[:, 5:20], atol=1e-12)
    np.testing.assert_array_equal(model.carried([3.0], theta[:4])[0], model.carried(times, theta[:4])[1])
    for hinge, t in [
        (Hydrodynamic(d=12, inputs="latent", rule="shell", points=6), 80.0),
        (Hydrodynamic(d=12, activation="tanh", points=3), 10.0),  # from before any input is at the margin
    ]:
        theta, _, _ = hinge.initial()
        np.testing.assert_allclose(hinge.carried([t], theta), hinge.solve([t]).theta, rtol=1e-10)


def test_own_activation_loss_and_rule():
    """Under other names they are the same; erf of one's own is summed over ξ."""
    given = {"d": 30, "inputs": "latent", "points": 4}
    known = Hydrodynamic(activation="erf", rule="threshold", loss="logistic", **given).solve([10.0])
    own = Hydrodynamic(
        activation=Activation("mine", value=lambda z: 1.0 - erfc(z)),
        rule=lambda u: np.where(u[:, 0] > 0.3, 1.0, -1.0),
        k=1,
        loss=Loss(
            "mine",
            lambda m, h: np.log1p(np.exp(-m)),
            lambda m, h: 1.0 / (1.0 + np.exp(m)),
            lambda m, h: np.exp(m) / (1.0 + np.exp(m)) ** 2,
        ),
        **given,
    ).solve([10.0])
    assert own.loss == pytest.approx(known.loss, rel=1e-6)
    assert own.displacement == pytest.approx(known.displacement, rel=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"activation": Activation("mine", 0.5)}, "needs 'value' of the activation"),
        ({"inputs": "sphere"}, "inputs='sphere' must be one of normal, mixture, latent"),
        ({"d": 2, "inputs": "latent", "rule": "xor"}, "d=2 must be above the number of latent directions, 2"),
        ({"rtol": 0.0}, "rtol=0.0 must be above 0"),
        ({"points": 1}, "points=1 must be at least 2"),
        ({"loss": Loss("steps", *[lambda m, h: (m < h) * 1.0] * 2, None)}, "whose force jumps"),
    ],
)
def test_what_it_cannot_solve_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Hydrodynamic(**{"d": 30, **given})


def test_times_must_increase():
    with pytest.raises(ValueError, match="must be finite, not negative, and increase"):
        Hydrodynamic(d=30).solve([2.0, 1.0])


def test_curves_end_where_the_largest_nodes_run_away():
    """ReLU² grows faster than linearly: nodes that start large reach infinity at a time that falls with their size."""
    model = Hydrodynamic(d=20, activation="relu_squared", rule="sign")
    t = np.array([0.5, 1.0, 6.0])
    solution, series = model.solve(t), model.series(t)
    assert solution.tail[0] < 2e-3
    assert np.isfinite(series["unsatisfied"].value[:2]).all()
    assert all(np.isnan(curve.value[2]) for curve in series.values())
    for values in (solution.mean(lambda a, v, r: a * v[:, 0]), solution.output(np.ones((1, 1)))[:, 0]):
        assert np.isfinite(values[:2]).all()
        assert np.isnan(values[2])


def test_density_is_that_of_the_mean_field_solution():
    t = [0.0, 30.0]
    found, exact = Hydrodynamic(d=100, rtol=1e-6, points=3).density(t, points=9), MeanField(d=100).solve(t)
    for k in range(2):
        np.testing.assert_allclose(found.value[k], exact.density(found.a[k], found.v[k], k), rtol=1e-5)


@pytest.mark.unchecked
def test_density_keeps_its_mass_where_nodes_do_not_move_linearly():
    """Its integral over the mesh is the share of nodes that started in the square."""
    reach = 3.0
    a, v, value = Hydrodynamic(d=30, activation="erf", points=8).density([25.0], reach=reach, points=41)
    cells = value[0, :-1, :-1] + value[0, 1:, :-1] + value[0, :-1, 1:] + value[0, 1:, 1:]
    p, q = np.diff(a[0], axis=0)[:, :-1], np.diff(v[0], axis=1)[:-1]
    r, s = np.diff(a[0], axis=1)[:-1], np.diff(v[0], axis=0)[:, :-1]
    inside = (norm.cdf(reach) - norm.cdf(-reach)) ** 2
    assert (cells / 4.0 * np.abs(p * q - r * s)).sum() == pytest.approx(inside, rel=5e-3)


def test_density_is_of_one_direction():
    with pytest.raises(ValueError, match="is that of one latent direction, and there are 2"):
        Hydrodynamic(d=20, inputs="latent", rule="xor").density([1.0])
