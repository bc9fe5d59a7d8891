"""A flow, a loss and an activation of one's own, and what classes of flows say that they cannot do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mfnet.compute.processes import Processes
from mfnet.compute.seeding import generator
from mfnet.data import label, sample_inputs
from mfnet.flow import AdaptiveRotation, Averaged, Batch, Descent, Euler, FixedStepFlow, Heun, Objective, Rotation
from mfnet.network import LOSSES, MarginLoss, Nodes, loss_of
from mfnet.network.losses import Hinge
from support.own import Exponential, Midpoint
from support.problems import ROUNDING, evaluated_by, make_problem, objective_of

FLOWS = [AdaptiveRotation, Averaged, Descent, Euler, Heun, Rotation]
SIZE = {"M": 50, "N": 300, "d": 20}


def contradictory(n=60, **options):
    """A problem of which ``n`` labels are reversed."""
    problem = make_problem(**{**SIZE, **options})
    y = problem.batch.y.clone()
    y[:n] *= -1.0
    return replace(problem, batch=Batch(problem.batch.x, y))


def make_flow(kind, problem, loss, *, alpha=1.0, **options):
    return kind(Objective(problem.network, loss, alpha, lambda _: problem.batch, fixed=True), **options)


def parameters(problem):
    network = problem.network
    return torch.cat([network.a.detach(), network.w.detach().ravel()])


def displaced(problem):
    return parameters(problem) - torch.cat([problem.network.a0, problem.network.w0.ravel()])


@pytest.mark.unchecked
@pytest.mark.parametrize("activation", ["gelu", "linear", torch.tanh])
def test_a_flow_with_one_method_is_of_the_order_of_its_formula(activation):
    """Of a midpoint rule, two, with the logistic loss; by Richardson's extrapolation."""
    steps, ends = np.array([0.4, 0.2, 0.1, 0.05]), []
    for dt in [*steps, 8e-3, 4e-3]:
        problem = make_problem(M=10, N=60, d=3, activation=activation)
        flow = make_flow(Midpoint, problem, loss_of("logistic"), dt=dt)
        flow.step(until=2.0)
        ends.append(parameters(problem))
        assert flow.n_evaluations == 1 + 2 * flow.n_steps
    reference = (4.0 * ends[-1] - ends[-2]) / 3.0
    errors = [float((end - reference).norm()) for end in ends[:-2]]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("by", ["streamed", "batched"])
def test_a_flow_of_ones_own_moves_replicas_each_as_alone(by):
    def flow_of(problems):
        flow = Midpoint(objective_of(problems, Exponential(), 0.7), dt=0.3)
        with evaluated_by(by):
            flow.step(until=2.0)
        return flow.objective.networks.nodes

    a, w = flow_of([make_problem(seed=seed) for seed in range(3)])
    for r in range(3):
        alone = flow_of([make_problem(seed=r)])
        torch.testing.assert_close(a[r], alone.a[0], rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(w[r], alone.w[0], rtol=1e-11, atol=1e-12)


def test_a_flow_of_ones_own_goes_on_from_its_state_bit_for_bit():
    whole, parts = make_problem(activation=torch.tanh), make_problem(activation=torch.tanh)
    flow, first = (make_flow(Midpoint, problem, Exponential(), dt=0.1) for problem in (whole, parts))
    flow.step(until=1.0)
    flow.step(until=2.0)
    first.step(until=1.0)
    second = make_flow(Midpoint, parts, Exponential(), dt=0.1)
    second.load_state_dict(first.state_dict())
    second.step(until=2.0)
    assert torch.equal(parameters(whole), parameters(parts))


def test_a_step_sees_the_examples_of_its_rates():
    """Where each step sees new ones."""
    problem, seen = make_problem(), []

    def source(step):
        x = sample_inputs(40, 10, "normal", generator(0, "train", step))
        return Batch(x, label(x, problem.direction))

    class Watching(FixedStepFlow):
        def moved(self, evaluator, nodes, rates, dt):
            seen.append(torch.equal(evaluator.x[0], source(len(seen)).x))
            assert torch.equal(evaluator.present_rates_and_margins(nodes)[0], rates)
            return Nodes(nodes.a + 0.1, nodes.w)

    Watching(Objective(problem.network, Exponential(), 1.0, source, fixed=False), dt=0.5).step(until=2.0)
    assert seen == [True] * 4


def test_a_flow_without_its_method_says_so():
    class Idle(FixedStepFlow):
        pass

    with pytest.raises(NotImplementedError, match=r"Idle must say in moved\(\)"):
        make_flow(Idle, make_problem(), Exponential(), dt=0.5).step(until=1.0)


def test_classes_say_what_they_cannot_do():
    assert {kind for kind in FLOWS if kind.only_homogeneous} == {AdaptiveRotation, Rotation}
    assert {kind for kind in FLOWS if kind.only_one_network} == {Descent}
    assert {kind for kind in FLOWS if kind.only_one_process} == {Descent}
    assert {kind for kind in FLOWS if kind.only_fixed} == {AdaptiveRotation, Averaged, Heun}


@pytest.mark.parametrize("kind", [AdaptiveRotation, Rotation])
def test_what_cannot_turn_is_refused(kind):
    with pytest.raises(ValueError, match="rotation steps need a positively homogeneous activation, and tanh is not"):
        make_flow(kind, make_problem(activation=torch.tanh), Hinge(), **({"dt": 0.1} if kind is Rotation else {}))


def test_an_optimizer_of_torchs_is_for_one_process():
    problem = make_problem(processes=Processes("nodes", 0, 2))
    with pytest.raises(ValueError, match="one process"):
        make_flow(Descent, problem, Hinge(), dt=0.1, optimizer=torch.optim.SGD)


@pytest.mark.unchecked
@pytest.mark.parametrize(("activation", "alpha"), [("linear", 1.0), (torch.tanh, 1.0), ("linear", 0.1)])
def test_force_averaging_converges_with_its_tolerance_for_a_loss_of_ones_own(activation, alpha):
    """Exponential, whose force has no bound and goes past 1 here; against 1000 midpoint steps."""
    until = 20.0 * min(alpha, 1.0)
    exact = contradictory(activation=activation)
    flow = make_flow(Midpoint, exact, Exponential(), alpha=alpha, dt=until / 1000.0)
    flow.step(until=until)
    assert float(Exponential().force(flow.margins()).max()) > 2.0
    tolerances, errors = [0.03, 0.01, 0.003, 0.001], []
    for rtol in tolerances:
        problem = contradictory(activation=activation)
        make_flow(Averaged, problem, Exponential(), alpha=alpha, rtol=rtol).step(until=until)
        errors.append(float((parameters(problem) - parameters(exact)).norm() / displaced(exact).norm()))
        assert errors[-1] < 3.0 * rtol
    assert np.polyfit(np.log(tolerances), np.log(errors), 1)[0] > 0.9


class Scaled(MarginLoss):
    """0.3 of the hinge, which takes 1/0.3 of its time."""

    jumps = True

    def __call__(self, m):
        return 0.3 * torch.relu(self.h - m)


@pytest.mark.unchecked
@pytest.mark.parametrize("dtype", ROUNDING)
def test_forces_that_jump_need_not_be_0_or_1(dtype):
    """In as many steps, with as many sliding examples: a mean that differs by rounding is no change of a force."""
    flows, ends = [], []
    for loss, until in ((Hinge(), 20.0), (Scaled(), 20.0 / 0.3)):
        problem = contradictory(activation="linear", dtype=dtype)
        flows.append(make_flow(Averaged, problem, loss, rtol=0.003))
        flows[-1].step(until=until)
        ends.append(displaced(problem))
    hinge, scaled = flows
    assert float((ends[1] - ends[0]).norm() / ends[0].norm()) < 0.02
    assert scaled.n_evaluations < 1.3 * hinge.n_evaluations
    assert 0.0 < scaled.observed["sliding"][0] < 2.0 * hinge.observed["sliding"][0]
    assert scaled.observed["mean_force"][0] == pytest.approx(0.3 * hinge.observed["mean_force"][0], rel=0.1)


def test_force_averaging_refuses_a_loss_that_can_be_negative():
    class Correlation(MarginLoss):
        def __call__(self, m):
            return -m

    class Shifted(MarginLoss):
        def __call__(self, m):
            return 2.0 - m

    for loss in (Correlation, Shifted):
        made = loss_of(loss)
        with pytest.raises(ValueError, match="ℓ ≥ 0"):
            make_flow(Averaged, make_problem(), made)
        make_flow(Heun, make_problem(), made).step(until=0.5)


def test_replicas_have_one_loss():
    problems = [make_problem(seed=seed) for seed in range(2)]
    with pytest.raises(ValueError, match="differ in h alone"):
        objective_of(problems, [LOSSES["hinge"](1.0), LOSSES["square"](1.0)], 1.0)


def test_inputs_of_another_dimension_are_refused_by_name():
    problem = make_problem()
    batch = Batch(problem.batch.x[:, :7], problem.batch.y)
    objective = Objective(problem.network, Hinge(), 1.0, lambda _: batch, fixed=True)
    with pytest.raises(ValueError, match=r"inputs of the shape \(N, 10\).* shapes \(200, 7\)"):
        objective.margins()
