"""Many networks at once: each does what it would do alone, whatever the others do."""

from __future__ import annotations

import copy

import pytest
import torch

from mfnet.data import flip_labels
from mfnet.flow import Batch
from mfnet.ensemble import Batches, EnsembleAveraged, EnsembleEuler, EnsembleRotation, Replicas
from mfnet.ensemble.drive import TILE_ELEMENTS, Nodes, rates, rates_and_outputs, velocity
from mfnet.ensemble.rows import PaddedRows
from mfnet.flow import Averaged, Euler, Objective, Rotation, StoppingRules, StopReason
from mfnet.losses import margin_loss
from mfnet.seeding import generator
from support.problems import make_problem


def make_problems(R, *, flip=0.0, **options):
    """One problem a seed; with ``flip`` replica r has r times as many reversed labels."""
    problems = [make_problem(seed=seed, **options) for seed in range(R)]
    if flip == 0.0:
        return [(problem.network, problem.batch) for problem in problems]
    flipped = [flip_labels(p.batch.y, r * flip, generator(r, "flip")) for r, p in enumerate(problems)]
    return [(p.network, Batch(p.batch.x, y, p.batch.f0)) for p, y in zip(problems, flipped, strict=True)]


def make_ensemble(kind, problems, *, loss="hinge", alpha=1.0, **options):
    networks, batches = zip(*problems, strict=True)
    stacked = Batches(*(torch.stack(part) for part in zip(*batches, strict=True)))
    scale = torch.as_tensor(alpha, dtype=torch.float64).expand(len(problems)).clone()
    return kind(Replicas(networks), margin_loss(loss), scale, lambda: stacked, **options)


def make_flow(kind, problem, *, loss="hinge", alpha=1.0, **options):
    network, batch = problem
    return kind(Objective(network, margin_loss(loss), alpha, lambda _: batch, fixed=True), **options)


def difference(ensemble, r, network):
    """Largest difference of the parameters to those of a single network, relative to its displacement."""
    moved = torch.cat([(network.a - network.a0)[:, None], network.w - network.w0], dim=1)
    others = torch.cat([ensemble.replicas.a[r, :, None], ensemble.replicas.w[r]], dim=1)
    single = torch.cat([network.a[:, None], network.w], dim=1)
    return float((others - single).norm().detach() / moved.norm().detach())


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "linear", "gelu"])
@pytest.mark.parametrize("loss", ["hinge", "logistic"])
def test_rates_are_those_of_autograd(activation, loss):
    problems = make_problems(3, activation=activation, M=8, N=50, d=6, moved=True)
    alphas = [0.3, 1.0, 5.0]
    ensemble = make_ensemble(EnsembleEuler, problems, loss=loss, alpha=alphas, dt=1.0)
    problem, nodes = ensemble.problem, Nodes(ensemble.replicas.a.detach(), ensemble.replicas.w.detach())
    margins = problem.margins(nodes)
    found, counts = problem.rates(nodes, problem.loss.force(margins))
    a, w = velocity(problem.activation, nodes, found)
    for r, (network, batch) in enumerate(problems):
        objective = Objective(network, margin_loss(loss), alphas[r], lambda _: None, fixed=True)
        value, single_margins = objective.loss(batch)
        gradient = torch.autograd.grad(value, (network.a, network.w))
        torch.testing.assert_close(margins[r], single_margins, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(a[r], -8 * gradient[0], rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(w[r], -8 * gradient[1], rtol=1e-11, atol=1e-13)
        assert int(counts[r]) == int((margin_loss(loss).force(single_margins) != 0).sum())


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.9, 1.0])
def test_rates_and_outputs_do_not_depend_on_the_way(activation, share, monkeypatch):
    """One pass or two, in tiles of a few rows or whole, against autograd of Σ φ y f(x)."""
    problems = make_problems(3, activation=activation, M=7, N=41, d=5, moved=True)
    networks = [network for network, _ in problems]
    x = torch.stack([batch.x for _, batch in problems])
    nodes = Nodes(*(torch.stack([getattr(n, name).detach() for n in networks]) for name in ("a", "w")))
    source = generator(0, "test forces")
    force = torch.randn(3, 41, generator=source, dtype=torch.float64)
    force *= torch.rand(3, 41, generator=source, dtype=torch.float64) < share
    for tile in (1 << 20, 7 * 10):
        monkeypatch.setitem(TILE_ELEMENTS, "cpu", tile)
        both, f, _ = rates_and_outputs(networks[0].activation, nodes, x, force, torch.ones(3, dtype=torch.float64))
        alone, _ = rates(networks[0].activation, nodes, x, force, torch.ones(3, dtype=torch.float64))
        torch.testing.assert_close(both, alone, rtol=1e-11, atol=1e-14)
        for r, network in enumerate(networks):
            torch.testing.assert_close(f[r], network(x[r]).detach(), rtol=1e-11, atol=1e-13)
            gradient = torch.autograd.grad(force[r] @ network(x[r]) / 41, (network.a, network.w))
            found = velocity(network.activation, Nodes(nodes.a[r : r + 1], nodes.w[r : r + 1]), both[r : r + 1])
            for part, expected in zip(found, gradient, strict=True):
                torch.testing.assert_close(part[0], 7 * expected, rtol=1e-11, atol=1e-13)


def test_rows_are_taken_in_their_order_and_put_back():
    mask = torch.tensor([[0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1]], dtype=torch.bool)
    values = torch.arange(24.0).view(3, 4, 2)
    rows = PaddedRows(mask)
    assert rows.n == 2
    assert rows.counts.tolist() == [2, 0, 2]
    assert torch.equal(rows.take(values)[0], values[0, 1:3])
    assert torch.equal(rows.take(values)[2], values[2, [0, 3]])
    assert not rows.take(values)[1].any()
    target = torch.zeros(3, 4)
    rows.put(rows.take(values[..., 0]), target)
    assert torch.equal(target, values[..., 0] * mask)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("loss", "activation", "alphas", "flip", "size", "times"),
    [
        ("hinge", "relu", [1.0, 1.0, 1.0], 0.0, {"N": 200, "d": 20}, (0.5, 3.0, 20.0, 60.0, 150.0, 400.0)),
        ("hinge", "leaky_relu", [0.1, 1.0, 1000.0], 0.03, {"N": 150, "d": 15}, (0.5, 20.0, 150.0)),
        ("logistic", "gelu", [0.1, 1.0, 10.0], 0.05, {"N": 100}, (1.0, 15.0)),
        ("square", "relu", [1.0, 10.0, 100.0], 0.05, {"N": 100}, (1.0, 15.0)),
        ("squared_hinge", "softplus", [0.5, 1.0, 2.0], 0.0, {"N": 100}, (1.0, 15.0)),
    ],
)
def test_replicas_equal_single_flows_to_their_ends(loss, activation, alphas, flip, size, times):
    """Nodes to 10⁻⁹ of their displacement, the same steps, sub-steps and evaluations, each with its own end."""
    problems = make_problems(3, flip=flip, activation=activation, **size)
    ensemble = make_ensemble(EnsembleAveraged, problems, loss=loss, alpha=alphas)
    flows = [make_flow(Averaged, p, loss=loss, alpha=alpha) for p, alpha in zip(problems, alphas, strict=True)]
    for t in times:
        ensemble.step(until=t)
        for r, flow in enumerate(flows):
            if flow.stop_reason is None:
                flow.step(until=t)
                assert ensemble.mean_force[r] == pytest.approx(flow.mean_force, rel=1e-9)
                assert ensemble.sliding[r] == pytest.approx(flow.sliding, rel=1e-9)
            assert difference(ensemble, r, problems[r][0]) < 1e-9
            assert ensemble.times[r] == pytest.approx(flow.t, rel=1e-12)
    assert ensemble.stop_reasons == [flow.stop_reason for flow in flows]
    assert ensemble.steps.tolist() == [flow.n_steps for flow in flows]
    assert ensemble.control.n_sub.tolist() == [flow.n_sub for flow in flows]
    assert ensemble.control.n_rejected.tolist() == [flow.n_rejected for flow in flows]
    assert ensemble.n_evaluations == pytest.approx(sum(flow.n_evaluations for flow in flows), rel=1e-12)
    if loss == "hinge" and flip == 0.0:
        assert ensemble.stop_reason is StopReason.ALL_SATISFIED
        assert len(set(ensemble.times.tolist())) == 3


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("kind", "single", "activation"), [(EnsembleRotation, Rotation, "relu"), (EnsembleEuler, Euler, "gelu")]
)
def test_fixed_steps_equal_single_ones(kind, single, activation):
    problems = make_problems(3, activation=activation, N=100)
    alphas = [0.1, 0.3, 1.0]
    ensemble = make_ensemble(kind, problems, alpha=alphas, dt=0.1)
    flows = [make_flow(single, p, alpha=alpha, dt=0.1) for p, alpha in zip(problems, alphas, strict=True)]
    ends = {}
    for t in (0.05, 1.0, 10.0, 30.0):
        ensemble.step(until=t)
        for r, flow in enumerate(flows):
            if flow.stop_reason is None:
                flow.step(until=t)
                ends[r] = flow.t
            assert difference(ensemble, r, problems[r][0]) < 1e-9
    assert ensemble.steps.tolist() == [flow.n_steps for flow in flows]
    assert ensemble.times.tolist() == pytest.approx([ends[r] for r in range(3)], rel=1e-12)
    assert len(set(ends.values())) > 1


@pytest.mark.unchecked
@pytest.mark.parametrize("kind", [EnsembleAveraged, EnsembleEuler])
def test_a_replica_that_is_lost_does_not_disturb_the_others(kind):
    """One whose inputs are not numbers diverges at once, and one whose scale is tiny later, if steps are fixed."""
    options = {} if kind is EnsembleAveraged else {"dt": 0.5}
    healthy = make_problems(2, N=100)
    lost, fast = make_problems(4, N=100)[2:]
    lost[1].x[3, 0] = torch.nan
    together = make_ensemble(kind, [healthy[0], lost, healthy[1], fast], alpha=[1.0, 1.0, 1.0, 1e-4], **options)
    alone = make_ensemble(kind, healthy, **options)
    for t in (1.0, 10.0, 40.0):
        together.step(until=t)
        alone.step(until=t)
    assert together.stop_reasons[1] is StopReason.DIVERGED
    assert together.times[1] == 0.0
    expected = StopReason.ALL_SATISFIED if kind is EnsembleAveraged else StopReason.DIVERGED
    assert together.stop_reasons[3] is expected
    assert together.stop_reasons[0] is together.stop_reasons[2] is None
    assert together.stop_reason is None
    for r, s in ((0, 0), (2, 1)):
        torch.testing.assert_close(together.replicas.w[r], alone.replicas.w[s], rtol=1e-9, atol=1e-12)
        assert together.steps[r] == alone.steps[s]


def test_a_step_that_would_be_too_short_ends_its_replica_alone():
    problems = make_problems(2, N=100)
    ensemble = make_ensemble(EnsembleAveraged, problems, alpha=[1.0, 1e-3], dt_min=1e-3, dt_first=0.5)
    ensemble.step(until=0.5)
    assert ensemble.stop_reasons == [None, StopReason.STEP_TOO_SMALL]
    single = make_flow(Averaged, problems[1], alpha=1e-3, dt_min=1e-3, dt_first=0.5)
    single.step(until=0.5)
    assert single.stop_reason is StopReason.STEP_TOO_SMALL
    assert float(ensemble.times[1]) == pytest.approx(single.t, rel=1e-9)


def test_rules_hold_for_each_replica():
    problems = make_problems(3, N=100)
    ensemble = make_ensemble(EnsembleAveraged, problems, alpha=[1.0, 0.1, 10.0])
    ensemble.rules = StoppingRules(satisfied=0.5)
    for t in (1.0, 5.0, 20.0):
        ensemble.step(until=t)
    assert ensemble.stop_reasons == [StopReason.ENOUGH_SATISFIED, StopReason.ENOUGH_SATISFIED, None]
    satisfied = (ensemble.margins() >= 1.0).double().mean(dim=1)
    assert bool((satisfied[:2] >= 0.5).all())
    assert float(satisfied[2]) < 0.5
    ensemble.rules = StoppingRules(wall_seconds=1e-9)
    ensemble.step(until=40.0)
    assert ensemble.stop_reason is StopReason.WALL_TIME
    assert float(ensemble.times[2]) == 20.0


@pytest.mark.unchecked
def test_replicas_that_rules_have_ended_go_on_under_others():
    """If all have ended; while others run, an end stays one."""
    first = make_ensemble(EnsembleAveraged, make_problems(2, N=100), alpha=[0.01, 1.0])
    first.rules = StoppingRules(satisfied=0.5)
    for t, reasons in ((4.0, ["enough_satisfied", None]), (100.0, [None, None])):
        first.step(until=t)
        assert first.state_dict()["replicas"]["stop_reasons"] == reasons
    assert first.stop_reason is StopReason.ENOUGH_SATISFIED
    second = make_ensemble(EnsembleAveraged, make_problems(2, N=100), alpha=[0.01, 1.0])
    second.replicas.load_state_dict(first.replicas.state_dict())
    second.load_state_dict(first.state_dict())
    second.step(until=200.0)
    assert second.stop_reason is StopReason.ALL_SATISFIED


@pytest.mark.unchecked
@pytest.mark.parametrize("kind", [EnsembleAveraged, EnsembleRotation])
def test_an_ensemble_that_is_cut_and_continued_is_bit_equal(kind):
    """At a time when one replica has ended; what only the wall time has ended goes on."""
    options = {} if kind is EnsembleAveraged else {"dt": 0.1}
    alphas = [1.0, 0.1, 10.0]
    whole = make_ensemble(kind, make_problems(3, N=100), alpha=alphas, **options)
    cut = make_ensemble(kind, make_problems(3, N=100), alpha=alphas, **options)
    for t in (1.0, 20.0, 60.0, 100.0):
        whole.step(until=t)
    for t in (1.0, 20.0):
        cut.step(until=t)
    assert [reason is None for reason in cut.stop_reasons] == [True, False, True]
    cut.rules = StoppingRules(wall_seconds=1e-9)
    cut.step(until=60.0)
    assert cut.stop_reason is StopReason.WALL_TIME
    state = copy.deepcopy(cut.state_dict())
    second = make_ensemble(kind, make_problems(3, N=100), alpha=alphas, **options)
    second.replicas.load_state_dict(cut.replicas.state_dict())
    second.load_state_dict(state)
    for t in (60.0, 100.0):
        second.step(until=t)
    assert torch.equal(second.replicas.a, whole.replicas.a)
    assert torch.equal(second.replicas.w, whole.replicas.w)
    assert second.stop_reasons == whole.stop_reasons
    assert second.n_steps == whole.n_steps
    assert second.n_evaluations == whole.n_evaluations
