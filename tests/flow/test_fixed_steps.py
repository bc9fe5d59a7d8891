"""Steps: their order, what they conserve, and the discrete theory they follow."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from mfnet.compute.seeding import generator
from mfnet.data import label, sample_inputs
from mfnet.flow import Batch, Descent, Euler, Objective, Rotation, StopReason
from mfnet.flow.motion import hyperbolic_rotation, linear_motion
from mfnet.network import MeanFieldNetwork, Nodes
from mfnet.network.losses import loss_of
from mfnet.network.observables import node_projections, order_parameter
from mfnet.theory import MeanField
from support.problems import ROUNDING, make_problem


def make_flow(kind, problem, *, loss="hinge", alpha=1.0, fixed=True, **options):
    objective = Objective(problem.network, loss_of(loss), alpha, lambda _: problem.batch, fixed=fixed)
    return kind(objective, **options)


def parameters(network):
    return torch.cat([network.a.detach(), network.w.detach().ravel()])


def end_state(kind, dt, t, **problem):
    """Parameters at time t under the logistic loss, whose smoothness lets the order show."""
    made = make_problem(**problem)
    make_flow(kind, made, loss="logistic", dt=dt).step(until=t)
    return parameters(made.network)


@pytest.mark.unchecked
@pytest.mark.parametrize(("kind", "activation"), [(Euler, "gelu"), (Euler, "linear"), (Rotation, "linear")])
def test_error_is_of_first_order(kind, activation):
    steps = np.array([0.2, 0.1, 0.05, 0.025])
    ends = [end_state(kind, dt, 2.0, activation=activation) for dt in [*steps, 4e-3, 2e-3]]
    reference = 2.0 * ends[-1] - ends[-2]  # Richardson's extrapolation: its error is of second order in 0.004
    errors = [float((end - reference).norm()) for end in ends[:-2]]
    order = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert order == pytest.approx(1.0, abs=0.08)


def test_one_euler_step_is_one_sgd_step():
    """A step of Δt is gradient descent with learning rate M·Δt."""
    ours, theirs = make_problem(moved=True), make_problem(moved=True)
    make_flow(Euler, ours, dt=0.3).step(until=0.3)
    objective = Objective(theirs.network, loss_of("hinge"), 1.0, lambda _: theirs.batch, fixed=True)
    sgd = torch.optim.SGD(theirs.network.parameters(), lr=theirs.network.M * 0.3)
    objective.loss(theirs.batch)[0].backward()
    sgd.step()
    torch.testing.assert_close(parameters(ours.network), parameters(theirs.network), rtol=1e-12, atol=1e-12)


def test_a_network_in_root_scaling_is_one_in_mean_field_scaling_at_another_alpha():
    """Plain gradient descent by autograd on f' = Σ aσ(z)/√M at α, and the flow at α√M, step by step to rounding."""
    M, d, N, alpha, dt, n_steps = 50, 8, 60, 0.4, 0.5, 80
    network = MeanFieldNetwork(M, d, generator=generator(3, "network"), dtype=torch.float64)
    x = sample_inputs(N, d, "normal", generator(3, "train"))
    y = label(x, torch.eye(d, dtype=torch.float64)[0])
    a, w = (torch.tensor(p.numpy(), requires_grad=True) for p in (network.a0, network.w0))

    def root_output(a, w):
        return torch.relu(x @ w.T / math.sqrt(d)) @ a / math.sqrt(M)

    start = root_output(a, w).detach()
    batch = Batch(x, y)
    objective = Objective(network, loss_of("hinge"), alpha * math.sqrt(M), lambda _: batch, fixed=True)
    Euler(objective, dt).step(until=n_steps * dt)
    for _ in range(n_steps):
        margins = alpha * y * (root_output(a, w) - start)
        loss = torch.relu(1.0 - margins).mean() / alpha**2
        with torch.no_grad():
            for parameter, gradient in zip((a, w), torch.autograd.grad(loss, (a, w)), strict=True):
                parameter -= dt * gradient
    satisfied = float((margins > 1.0).double().mean())
    assert 0.3 < satisfied < 0.9
    torch.testing.assert_close(network.a.detach(), a.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(network.w.detach(), w.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "linear"])
def test_rotation_conserves_the_invariant_over_a_whole_run(activation):
    """a² − |w|² of every node, relative to a² + |w|², from the start until all examples are satisfied."""
    problem = make_problem(M=40, N=100, d=20, activation=activation)
    network = problem.network
    before = network.a.detach() ** 2 - (network.w.detach() ** 2).sum(dim=1)
    flow = make_flow(Rotation, problem, alpha=0.01, dt=0.005)
    flow.step(until=10.0)
    assert flow.stop_reason is StopReason.ALL_SATISFIED
    assert flow.n_steps > 100
    size = network.a.detach() ** 2 + (network.w.detach() ** 2).sum(dim=1)
    assert float(size.max()) > 100.0  # nodes have grown: conservation is not trivial
    after = network.a.detach() ** 2 - (network.w.detach() ** 2).sum(dim=1)
    assert float(((after - before).abs() / size).max()) < 1e-10


def test_rotation_solves_a_frozen_drive_exactly():
    """Two steps of ½Δt under one drive are one of Δt, and match the matrix exponential of the linear flow."""
    source = generator(0, "frozen")
    a = torch.randn(5, generator=source, dtype=torch.float64)
    w, b = (torch.randn(5, 3, generator=source, dtype=torch.float64) for _ in range(2))
    expected = []
    for i in range(5):
        matrix = torch.zeros(4, 4, dtype=torch.float64)
        matrix[0, 1:] = matrix[1:, 0] = b[i]
        expected.append(torch.linalg.matrix_exp(0.7 * matrix) @ torch.cat([a[i : i + 1], w[i]]))
    nodes = Nodes(a[None], w[None])
    for _ in range(2):
        nodes = hyperbolic_rotation(nodes, b[None], [0.35])
    found = torch.cat([nodes.a[0, :, None], nodes.w[0]], dim=1)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_each_replica_moves_for_its_own_time():
    source = generator(0, "times")
    a = torch.randn(2, 5, generator=source, dtype=torch.float64)
    w, b = (torch.randn(2, 5, 3, generator=source, dtype=torch.float64) for _ in range(2))
    together = hyperbolic_rotation(Nodes(a, w), b, [0.3, 1.1])
    straight = linear_motion(Nodes(a, w), Nodes(a, b), [0.3, 1.1])
    for r, dt in enumerate([0.3, 1.1]):
        alone = hyperbolic_rotation(Nodes(a[r : r + 1], w[r : r + 1]), b[r : r + 1], [dt])
        torch.testing.assert_close(together.w[r], alone.w[0], rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(straight.w[r], w[r] + dt * b[r], rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(straight.a[r], a[r] + dt * a[r], rtol=1e-14, atol=1e-14)


def test_nodes_without_a_drive_stay():
    start = Nodes(torch.ones(1, 2, dtype=torch.float64), torch.ones(1, 2, 3, dtype=torch.float64))
    end = hyperbolic_rotation(start, torch.zeros(1, 2, 3, dtype=torch.float64), [1.0])
    assert torch.equal(end.a, start.a)
    assert torch.equal(end.w, start.w)


@pytest.mark.slow
@pytest.mark.unchecked
@pytest.mark.parametrize(("kind", "scheme"), [(Euler, "euler"), (Rotation, "rotation")])
def test_large_steps_follow_the_discrete_theory(kind, scheme):
    """With N = 10⁵, M = 1000, d = 10 the measured γ follows the exact solution for the same steps, not the flow's.

    Fluctuations of γ: 1/√M · 0.7 late (finite nodes) and below 0.5 % (finite sample); d = 10 keeps N/d large.
    The flow itself is off by more than five times that at these steps.
    """
    d, times, dt = 10, np.arange(0.0, 41.0, 4.0), 4.0
    problem = make_problem(M=1000, N=100_000, d=d, dtype=torch.float32)
    flow = make_flow(kind, problem, dt=dt)
    measured = []
    for t in times[1:]:
        flow.step(until=float(t))
        network = problem.network
        w_par, _ = node_projections(network.w.detach(), problem.direction)
        w_par0, _ = node_projections(network.w0, problem.direction)
        measured.append(float(order_parameter(network.a.detach(), w_par, network.a0, w_par0)))
    discrete = MeanField(d=d, dt=dt, scheme=scheme).solve(times).gamma[1:]
    continuous = MeanField(d=d).solve(times).gamma[1:]
    deviation = np.abs(np.array(measured) - discrete).max()
    assert deviation < 2.0 * 0.7 / math.sqrt(1000)
    assert np.abs(discrete - continuous).max() > 2.0 * deviation


@pytest.mark.parametrize("kind", [Euler, Rotation])
def test_steps_land_on_the_times_asked_for(kind):
    problem = make_problem()
    flow = make_flow(kind, problem, dt=0.4)
    flow.step(until=1.0)
    assert flow.t == 1.0
    assert flow.n_steps == 3
    flow.step(until=1.0)
    assert flow.n_steps == 3


def test_the_steps_still_to_come_are_known():
    flow = make_flow(Rotation, make_problem(), dt=0.4)
    flow.step(until=1.0)
    announced, before = flow.steps_to(7.0), flow.n_steps
    flow.step(until=7.0)
    assert flow.n_steps - before == announced == 15
    assert flow.steps_to(7.0) == 0


@pytest.mark.parametrize("kind", [Euler, Rotation])
def test_satisfied_examples_stop_the_flow(kind):
    problem = make_problem(M=100, N=5, d=50)
    flow = make_flow(kind, problem, dt=0.05)
    flow.step(until=1e4)
    assert flow.stop_reason is StopReason.ALL_SATISFIED
    assert flow.t < 1e4
    margins = problem.batch.y * problem.network.excess(problem.batch.x)
    assert float(margins.detach().min()) >= 1.0
    rested = parameters(problem.network)
    flow.step(until=2e4)
    assert torch.equal(parameters(problem.network), rested)


@pytest.mark.parametrize("kind", [Euler, Rotation, partial(Descent, optimizer=torch.optim.SGD)])
def test_overflow_stops_the_flow(kind):
    problem = make_problem(dtype=torch.float32)
    flow = make_flow(kind, problem, loss="square", dt=1e6)
    flow.step(until=1e9)
    assert flow.stop_reason is StopReason.DIVERGED


def test_rotation_refuses_other_activations():
    with pytest.raises(ValueError, match="softplus"):
        make_flow(Rotation, make_problem(activation="softplus"), dt=0.1)


def test_full_batch_sgd_is_euler():
    ours, theirs = make_problem(), make_problem()
    make_flow(Euler, ours, dt=0.25).step(until=3.1)
    make_flow(Descent, theirs, dt=0.25, optimizer=torch.optim.SGD).step(until=3.1)
    torch.testing.assert_close(parameters(ours.network), parameters(theirs.network), rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.unchecked
def test_minibatches_average_to_the_gradient():
    """The mean displacement of 2000 minibatch steps is that of a full step, within 4 standard errors."""
    start = make_problem(moved=True)
    moved = []
    for seed in range(2000):
        problem = make_problem(moved=True)
        make_flow(Descent, problem, dt=1.0, optimizer=torch.optim.SGD, batch_size=10, seed=seed).step(until=1.0)
        moved.append(parameters(problem.network) - parameters(start.network))
    whole = make_problem(moved=True)
    make_flow(Euler, whole, dt=1.0).step(until=1.0)
    samples = torch.stack(moved)
    error = samples.mean(dim=0) - (parameters(whole.network) - parameters(start.network))
    standard_error = samples.std(dim=0) / math.sqrt(len(samples))
    # 330 components: the largest of so many standard normal variables is below 4.5 with probability 0.998
    assert float((error.abs() / standard_error).max()) < 4.5


def test_adam_lowers_the_loss():
    problem = make_problem(N=100)
    optimizer = partial(torch.optim.Adam, lr=0.02)
    flow = make_flow(Descent, problem, dt=1.0, optimizer=optimizer, batch_size=20)
    before = float(flow.objective.loss(problem.batch)[0].detach())
    flow.step(until=300.0)
    after = float(flow.objective.loss(problem.batch)[0].detach())
    assert flow.n_steps == 300
    assert after < 0.2 * before


@pytest.mark.parametrize(
    "kind",
    [
        partial(Euler, dt=0.1),
        partial(Rotation, dt=0.1),
        partial(Descent, dt=0.1, optimizer=partial(torch.optim.Adam, lr=0.01), batch_size=7),
    ],
)
def test_a_flow_goes_on_from_its_state_bit_for_bit(kind):
    whole, parts = make_problem(), make_problem()
    flow = make_flow(kind, whole)
    flow.step(until=1.0)
    flow.step(until=2.0)
    first = make_flow(kind, parts)
    first.step(until=1.0)
    second = make_flow(kind, parts)
    second.load_state_dict(first.state_dict())
    second.step(until=2.0)
    assert torch.equal(parameters(whole.network), parameters(parts.network))
    assert (second.t, second.n_steps, second.n_evaluations) == (flow.t, flow.n_steps, flow.n_evaluations)


def test_rounding_of_float32_is_what_the_table_says():
    """The rotation flow in float32 stays within 100 units in the last place of float64 over a short run."""
    ends = []
    for dtype in (torch.float32, torch.float64):
        problem = make_problem(dtype=dtype)
        make_flow(Rotation, problem, dt=0.1).step(until=1.0)
        ends.append(parameters(problem.network).double())
    assert float((ends[0] - ends[1]).norm() / ends[1].norm()) < ROUNDING[torch.float32]
