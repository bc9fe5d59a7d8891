"""Adaptive steps and force averaging: order, tolerance, what they conserve, and where they end."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from mfnet.flow import AdaptiveRotation, Averaged, Batch, Heun, Objective, Rotation, StoppingRules, StopReason
from mfnet.network.losses import loss_of
from support.problems import make_problem, margins_of

ADAPTIVE = [AdaptiveRotation, Heun, Averaged]


def make_flow(kind, problem, *, loss="hinge", h=1.0, alpha=1.0, **options):
    return kind(Objective(problem.network, loss_of(loss, h), alpha, lambda _: problem.batch, fixed=True), **options)


def parameters(problem):
    return torch.cat([problem.network.a.detach(), problem.network.w.detach().ravel()])


def displaced(problem):
    return parameters(problem) - torch.cat([problem.network.a0, problem.network.w0.ravel()])


def end_state(kind, loss, dt, **problem):
    """Parameters at t = 1.2 after equal steps: no error is too large, and none is longer than dt.

    Inputs are not centred: under spherical symmetry the drive of positive forces does not depend on the gates.
    """
    made = make_problem(**problem)
    x = made.batch.x + 1.0
    made = replace(made, batch=Batch(x, made.batch.y))
    flow = make_flow(kind, made, loss=loss, h=10.0, rtol=1e6, dt_first=dt, dt_max=dt)
    flow.step(until=1.2)
    assert flow.n_steps == round(1.2 / dt)
    assert flow.n_rejected == 0
    assert loss != "hinge" or bool((margins_of(made) < 10.0).all())
    return parameters(made)


@pytest.mark.slow
@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("kind", "activation", "loss"),
    [
        (AdaptiveRotation, "linear", "logistic"),
        (AdaptiveRotation, "leaky_relu", "hinge"),
        (Heun, "gelu", "logistic"),
        (Heun, "softplus", "hinge"),
        (Averaged, "relu", "hinge"),
        (Averaged, "gelu", "hinge"),
    ],
)
def test_error_is_of_second_order_before_the_first_example_is_satisfied(kind, activation, loss):
    """Against Richardson's extrapolation of two runs with far shorter steps; with the hinge every force is 1 here.

    Gates that open and close make the drive of a ReLU network a random walk with steps of 1/N, whose error is of first
    order: with many examples in few dimensions the second shows through, if not to a tenth.
    """
    steps = np.array([0.4, 0.2, 0.1, 0.05])
    problem = {"activation": activation, "M": 10, "d": 3, "N": 50_000 if "relu" in activation else 100}
    ends = [end_state(kind, loss, dt, **problem) for dt in [*steps, 8e-3, 4e-3]]
    reference = (4.0 * ends[-1] - ends[-2]) / 3.0
    errors = [float((end - reference).norm()) for end in ends[:-2]]
    roughness = 0.3 if "relu" in activation else 0.1
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(2.0, abs=roughness)


@pytest.mark.slow
@pytest.mark.unchecked
def test_ten_times_less_tolerance_is_ten_times_less_error():
    """Over a run in which most examples are satisfied and some slide along the margin, against 5000 fixed steps.

    Four times as many change these errors by less than 2 %.
    """
    size = {"M": 50, "N": 300, "d": 20, "activation": "linear"}
    exact = make_problem(**size)
    make_flow(Rotation, exact, dt=0.012).step(until=60.0)
    tolerances, errors = [0.03, 0.01, 0.003, 0.001], []
    for rtol in tolerances:
        problem = make_problem(**size)
        make_flow(Averaged, problem, rtol=rtol).step(until=60.0)
        errors.append(float((parameters(problem) - parameters(exact)).norm() / displaced(exact).norm()))
        assert errors[-1] < 3.0 * rtol
    assert float((margins_of(exact) >= 1.0).double().mean()) > 0.5
    assert np.polyfit(np.log(tolerances), np.log(errors), 1)[0] > 0.9


@pytest.mark.unchecked
def test_sliding_examples_cost_no_steps():
    """In the lazy regime: a third of the evaluations that instantaneous forces need at the same tolerance, or fewer."""
    evaluations = []
    for kind in (Averaged, AdaptiveRotation):
        problem = make_problem(M=100, N=400, d=20)
        flow = make_flow(kind, problem, alpha=1e3)
        flow.step(until=1000.0)
        assert flow.t == 1000.0
        evaluations.append(flow.n_evaluations)
    assert evaluations[0] < 0.3 * evaluations[1]


@pytest.mark.parametrize("kind", [AdaptiveRotation, Averaged])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_rotations_conserve_the_invariant(kind, activation):
    problem = make_problem(M=40, N=100, d=20, activation=activation)
    network = problem.network
    before = network.a.detach() ** 2 - (network.w.detach() ** 2).sum(dim=1)
    flow = make_flow(kind, problem, alpha=0.01)
    flow.step(until=10.0)
    assert flow.stop_reason is StopReason.ALL_SATISFIED
    size = network.a.detach() ** 2 + (network.w.detach() ** 2).sum(dim=1)
    assert float(size.max()) > 100.0
    after = network.a.detach() ** 2 - (network.w.detach() ** 2).sum(dim=1)
    assert float(((after - before).abs() / size).max()) < 1e-10


@pytest.mark.parametrize("kind", ADAPTIVE)
def test_a_run_that_is_cut_and_continued_is_bit_equal(kind):
    times = [0.5, 3.0, 20.0, 60.0, 80.0]
    whole = make_problem(N=300)
    flow = make_flow(kind, whole)
    for t in times:
        flow.step(until=t)
    cut = make_problem(N=300)
    first = make_flow(kind, cut)
    for t in times[:3]:
        first.step(until=t)
    state = copy.deepcopy(first.state_dict())
    second = make_flow(kind, cut)
    second.load_state_dict(state)
    for t in times[3:]:
        second.step(until=t)
    assert torch.equal(parameters(cut), parameters(whole))
    assert second.n_steps == flow.n_steps > 10
    assert second.n_rejected == flow.n_rejected
    assert second.n_evaluations >= flow.n_evaluations


@pytest.mark.parametrize("kind", ADAPTIVE)
def test_steps_land_on_the_observations(kind):
    """And the step after one is not held back by the short step before it."""
    problem = make_problem()
    flow = make_flow(kind, problem, rtol=1.0, dt_first=0.05, dt_max=0.05)
    for t in (0.11, 0.111, 0.4):
        flow.step(until=t)
        assert flow.t == t
    assert flow.n_steps == 3 + 1 + 6


@pytest.mark.parametrize("alpha", [1.0, 1000.0])
def test_the_steps_still_to_come_are_estimated(alpha):
    """Within a factor of five over the last decade of t, by the length of one step before it."""
    problem = make_problem(M=100, N=400, d=20)
    flow = make_flow(Averaged, problem, alpha=alpha)
    assert flow.steps_to(1.0) == np.inf
    end = 100.0 if alpha == 1.0 else 2000.0
    flow.step(until=end / 10.0)
    announced, before = flow.steps_to(end), flow.n_steps
    flow.step(until=end)
    assert flow.stop_reason is None
    assert 0.2 < announced / (flow.n_steps - before) < 5.0


@pytest.mark.unchecked
@pytest.mark.parametrize("kind", ADAPTIVE)
def test_overflow_rejects_the_step(kind):
    """A first step that overflows is tried again until it does not."""
    problem = make_problem()
    flow = make_flow(kind, problem, dt_first=1e5, alpha=1e-3)
    flow.step(until=1e5)
    assert flow.n_rejected > 3
    assert flow.stop_reason is StopReason.ALL_SATISFIED
    assert bool(parameters(problem).isfinite().all())


@pytest.mark.parametrize("kind", ADAPTIVE)
def test_there_is_a_shortest_step(kind):
    """The run ends, by name, where the last step that was good enough has led."""
    problem, same = make_problem(N=2000), make_problem(N=2000)
    flow = make_flow(kind, problem, rtol=1e-6, atol=0.0, dt_first=0.1, dt_min=0.02)
    flow.step(until=10.0)
    assert flow.stop_reason is StopReason.STEP_TOO_SMALL
    assert flow.t == 0.0
    assert torch.equal(parameters(problem), parameters(same))


def test_new_examples_each_step_are_refused():
    problem = make_problem()
    objective = Objective(problem.network, loss_of("hinge"), 1.0, lambda _: problem.batch, fixed=False)
    with pytest.raises(ValueError, match="fixed training set"):
        Averaged(objective)


@pytest.mark.parametrize("kind", ADAPTIVE)
def test_enough_satisfied_examples_end_the_run(kind):
    problem = make_problem(M=100, N=200, d=20)
    flow = make_flow(kind, problem)
    flow.rules = StoppingRules(satisfied=0.6)
    for t in np.arange(1.0, 1000.0):
        flow.step(until=t)
        if flow.stop_reason:
            break
    assert flow.stop_reason is StopReason.ENOUGH_SATISFIED
    satisfied = (margins_of(problem) >= 1.0).double().mean()
    assert 0.6 <= float(satisfied) < 0.8


def test_wall_time_ends_the_run():
    flow = make_flow(Averaged, make_problem())
    flow.rules = StoppingRules(wall_seconds=0.0)
    flow.step(until=1.0)
    assert flow.stop_reason is StopReason.WALL_TIME
    assert flow.t == 0.0


def test_mean_force_and_sliding_are_averages_over_the_interval():
    problem = make_problem(M=100, N=300, d=20)
    flow = make_flow(Averaged, problem)
    assert flow.observed == {"mean_force": [1.0], "sliding": [0.0]}
    flow.step(until=0.5)
    assert flow.observed == {"mean_force": [1.0], "sliding": [0.0]}
    flow.step(until=30.0)
    unsatisfied = float((margins_of(problem) < 1.0).double().mean())
    assert unsatisfied < flow.observed["mean_force"][0] < 1.0
    assert 0.0 < flow.observed["sliding"][0] < 1.0
