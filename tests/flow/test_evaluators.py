"""What both evaluators promise: autograd's rates of every activation and loss, however they are computed."""

from __future__ import annotations

import pytest
import torch

import mfnet.flow.batched
import mfnet.network
from mfnet.compute.seeding import generator
from mfnet.compute.threads import one_thread
from mfnet.flow import Objective
from mfnet.flow.motion import velocity
from mfnet.flow.rows import PaddedRows
from mfnet.network import MeanFieldNetwork, Nodes, Replicas
from mfnet.network.activations import ACTIVATIONS
from mfnet.network.losses import LOSSES, Hinge, loss_of
from support.own import Exponential
from support.problems import ROUNDING, evaluated_by, make_problem, objective_of

HOMOGENEOUS = [name for name, activation in ACTIVATIONS.items() if activation.homogeneous]
ALPHAS = [0.3, 0.7, 5.0]
WAYS = ["streamed", "batched"]


def relative(difference, reference):
    return float(((difference - reference).norm() / reference.norm()).detach())


def problems_of(R=3, **options):
    return [make_problem(seed=seed, moved=True, **options) for seed in range(R)]


def objective_for(way, problems, loss=None, alphas=ALPHAS):
    """The loss of several problems, which ``way`` computes."""
    with evaluated_by(way):
        objective = objective_of(problems, loss or Hinge(), alphas)
        assert {evaluator.name for evaluator in objective.evaluators} == {way}
    return objective


def of_all(objective, compute, *values):
    """What ``compute`` gives of each evaluator, its nodes and its part of ``values``, as one."""
    parts, results, first = objective.parts(), [], 0
    for evaluator, nodes in parts:
        own = [value[first : first + len(nodes.a)] for value in values]
        results.append(compute(evaluator, nodes, *own))
        first += len(nodes.a)
    return [torch.cat(result) for result in zip(*results, strict=True)]


def counts(force):
    return force.count_nonzero(dim=1).tolist()


def autograd_velocity(problem, loss, alpha):
    """−M ∂L/∂θ by autograd, and the margins."""
    network = problem.network
    objective = Objective(network, loss, alpha, lambda _: problem.batch, fixed=True)
    value, margins = objective.loss(problem.batch)
    gradient = torch.autograd.grad(value, [network.a, network.w])
    return *(-network.M * part for part in gradient), margins


def present_velocity(evaluator, nodes):
    rates, margins = evaluator.present_rates_and_margins(nodes)
    return *velocity(evaluator.activation, nodes, rates), margins


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("loss", [*LOSSES, Exponential])
@pytest.mark.parametrize("activation", [*ACTIVATIONS, torch.tanh])
@pytest.mark.parametrize("way", WAYS)
def test_present_rates_are_autograds(way, activation, loss, dtype):
    problems = problems_of(N=700, activation=activation, dtype=dtype)
    objective = objective_for(way, problems, loss_of(loss))
    a, w, margins = of_all(objective, present_velocity)
    for r, (problem, alpha) in enumerate(zip(problems, ALPHAS, strict=True)):
        expected_a, expected_w, expected_margins = autograd_velocity(problem, loss_of(loss), alpha)
        assert relative(a[r], expected_a) < ROUNDING[dtype]
        assert relative(w[r], expected_w) < ROUNDING[dtype]
        assert relative(margins[r], expected_margins) < ROUNDING[dtype]


@pytest.mark.parametrize("activation", ["relu", "gelu", torch.tanh])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.9, 1.0])
@pytest.mark.parametrize("way", WAYS)
def test_rates_under_given_forces_are_autograds(way, share, activation):
    """Of Σ φ y f(x), with the margins or without, whatever part of the examples has a force; each replica's own."""
    problems = problems_of(M=7, N=41, d=5, activation=activation)
    source = generator(0, "test forces")
    force = torch.randn(3, 41, generator=source, dtype=torch.float64)
    force *= torch.rand(3, 41, generator=source, dtype=torch.float64) < share
    force[1, 20:] = 0.0
    objective = objective_for(way, problems)
    rates, margins = of_all(objective, lambda e, nodes, phi: e.rates_and_margins(nodes, phi, counts(phi)), force)
    (alone,) = of_all(objective, lambda e, nodes, phi: [e.rates(nodes, phi, counts(phi))], force)
    torch.testing.assert_close(rates, alone, rtol=1e-11, atol=1e-14)
    for r, (problem, alpha) in enumerate(zip(problems, ALPHAS, strict=True)):
        network, (x, y) = problem.network, problem.batch
        gradient = torch.autograd.grad((force[r] * y) @ network(x) / (41 * alpha), (network.a, network.w))
        own = Nodes(network.nodes.a, network.nodes.w)
        for part, expected in zip(velocity(network.activation, own, rates[r : r + 1]), gradient, strict=True):
            torch.testing.assert_close(part[0], 7 * expected, rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(margins[r], alpha * y * network.excess(x).detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_moments_and_displacement_are_averages_over_the_nodes(way):
    problems = problems_of(M=11)

    def compute(evaluator, nodes):
        squares = evaluator.mean_squares([evaluator.displacement(nodes)])[0]
        return *evaluator.second_moments(nodes), squares

    weights, a_squared, moved = of_all(objective_for(way, problems), compute)
    for r, problem in enumerate(problems):
        network = problem.network
        a, w, a0, w0 = (values.detach() for values in (network.a, network.w, network.a0, network.w0))
        torch.testing.assert_close(weights[r], torch.einsum("ij,ik->jk", w, w) / 11, rtol=1e-12, atol=1e-12)
        assert float(a_squared[r]) == pytest.approx(float((a**2).mean()), rel=1e-12)
        expected = ((a - a0) ** 2).mean() + ((w - w0) ** 2).sum(dim=1).mean()
        assert float(moved[r]) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_at_the_beginning_margins_are_exactly_zero(way):
    problems = [make_problem(seed=seed, N=2000, dtype=torch.float32) for seed in range(3)]
    objective = objective_for(way, problems)
    assert not objective.margins().any()
    assert not of_all(objective, present_velocity)[2].any()


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("activation", HOMOGENEOUS)
def test_homogeneous_nodes_move_along_their_drive(activation, dtype):
    problem = make_problem(N=2000, activation=activation, dtype=dtype, moved=True)
    (evaluator,) = objective_for("streamed", [problem], alphas=[0.7]).evaluators
    b, _ = evaluator.present_rates_and_margins(problem.network.nodes)
    expected_a, expected_w, _ = autograd_velocity(problem, Hinge(), 0.7)
    network = problem.network
    assert b.shape == (1, 30, 10)
    assert relative((network.w * b[0]).sum(dim=1), expected_a) < ROUNDING[dtype]
    assert relative(network.a[:, None] * b[0], expected_w) < ROUNDING[dtype]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("nodes", [30, 11])
def test_small_tiles_change_nothing(nodes, given, way, monkeypatch):
    """With all nodes in a tile (one pass), and with several tiles of them (outputs first)."""
    problems = problems_of()
    force = torch.rand(3, 200, generator=generator(0, "test"), dtype=torch.float64) if given else None

    def compute():
        objective = objective_for(way, problems)
        if force is None:
            return of_all(objective, lambda evaluator, nodes: evaluator.present_rates_and_margins(nodes))
        return of_all(objective, lambda e, nodes, phi: e.rates_and_margins(nodes, phi, counts(phi)), force)

    whole = compute()
    monkeypatch.setitem(mfnet.network.networks.TILE_NODES, "cpu", nodes)
    monkeypatch.setitem(mfnet.network.networks.TILE_ELEMENTS, "cpu", 7 * nodes)
    monkeypatch.setitem(mfnet.flow.batched.TILE_ELEMENTS, "cpu", 7 * nodes)
    for tiled, expected in zip(compute(), whole, strict=True):
        assert relative(tiled, expected) < ROUNDING[torch.float64]


def test_no_array_of_nodes_times_examples_is_made(monkeypatch):
    """With N·M elements far above the budget no temporary of the streamed evaluator exceeds it."""
    problem = make_problem(M=1000, N=3000, d=4)
    (evaluator,) = objective_for("streamed", [problem], alphas=[0.7]).evaluators
    monkeypatch.setitem(mfnet.network.networks.TILE_ELEMENTS, "cpu", 20_000)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    with Watch():
        evaluator.present_rates_and_margins(problem.network.nodes)
    assert 0 < largest <= 20_000


@pytest.mark.parametrize("activation", ["relu", "gelu", torch.tanh])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.usefixtures("three_threads")
def test_threads_change_nothing_but_rounding(activation, given, monkeypatch):
    problem = make_problem(activation=activation, moved=True)
    (evaluator,) = objective_for("streamed", [problem], alphas=[1.0]).evaluators
    force = torch.linspace(-0.5, 1.0, len(problem.batch.y), dtype=torch.float64).clamp_min(0.0)[None]
    nodes = problem.network.nodes

    def compute():
        if given:
            return evaluator.rates_and_margins(nodes, force, counts(force))
        return evaluator.present_rates_and_margins(nodes)

    with one_thread():
        alone = *compute(), evaluator.outputs(nodes)
    monkeypatch.setitem(mfnet.network.networks.TILE_ELEMENTS, "cpu", 5 * len(problem.network.a))
    for mine, theirs in zip((*compute(), evaluator.outputs(nodes)), alone, strict=True):
        assert relative(mine, theirs) < ROUNDING[torch.float64]


def test_reduced_precision_is_streamed_and_close():
    """tf32 rounds factors to 2⁻¹¹: rates are off by about that, and not by less than a tenth of it."""
    problem = make_problem(M=50, N=500, d=20, activation="gelu", dtype=torch.float32, moved=True)
    network = MeanFieldNetwork(50, 20, "gelu", generator=generator(0, "network"), precision="tf32")
    network.load_state_dict(problem.network.state_dict())
    exact, rounded = (
        objective_of([type(problem)(each, problem.batch, problem.direction)], Hinge(), [1.0])
        for each in (problem.network, network)
    )
    assert [evaluator.name for evaluator in rounded.evaluators] == ["streamed"]
    force = torch.ones(1, 500)
    rates = [of_all(o, lambda e, nodes, phi: [e.rates(nodes, phi, counts(phi))], force)[0] for o in (exact, rounded)]
    assert 0.1 * 2.0**-11 < relative(rates[1], rates[0]) < 2.0 * 2.0**-11


def test_margins_h_may_differ_from_replica_to_replica():
    problems = problems_of()
    together = objective_of(problems, [loss_of("square", h) for h in (0.5, 1.0, 2.0)], [1.0] * 3)
    assert [evaluator.name for evaluator in together.evaluators] == ["batched"]
    _, w, _ = of_all(together, present_velocity)
    for r, (problem, h) in enumerate(zip(problems, (0.5, 1.0, 2.0), strict=True)):
        assert relative(w[r], autograd_velocity(problem, loss_of("square", h), 1.0)[1]) < ROUNDING[torch.float64]


def test_replicas_hold_copies_of_their_networks():
    problems = problems_of()
    replicas = Replicas([problem.network for problem in problems])
    assert torch.equal(replicas.w[1], problems[1].network.w)
    assert torch.equal(replicas.w0[1], problems[1].network.w0)
    with torch.no_grad():
        replicas.w[1].zero_()
    assert problems[1].network.w.any()


def test_new_examples_are_for_one_network():
    problems = problems_of()
    with pytest.raises(ValueError, match="replicas need fixed training sets"):
        Objective(Replicas([p.network for p in problems]), Hinge(), 1.0, lambda _: [], fixed=False)


def test_rows_are_taken_in_their_order_and_put_back():
    mask = torch.tensor([[0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1]], dtype=torch.bool)
    values = torch.arange(24.0).view(3, 4, 2)
    rows = PaddedRows(mask)
    assert rows.n == 2
    assert rows.counts == [2, 0, 2]
    assert torch.equal(rows.take(values)[0], values[0, 1:3])
    assert torch.equal(rows.take(values)[2], values[2, [0, 3]])
    assert not rows.take(values)[1].any()
    assert rows.marks(values).tolist() == [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]
    target = torch.zeros(3, 4)
    rows.put(rows.take(values[..., 0]), target)
    assert torch.equal(target, values[..., 0] * mask)
