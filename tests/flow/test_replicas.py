"""Many networks at once: each does what it would do alone, whatever the others do, and however it is computed."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch

from mfnet.compute.seeding import generator
from mfnet.data import flip_labels
from mfnet.flow import AdaptiveRotation, Averaged, Batch, Descent, Euler, Heun, Rotation, StoppingRules, StopReason
from mfnet.network.activations import ACTIVATIONS
from mfnet.network.losses import LOSSES, loss_of
from support.problems import Problem, evaluated_by, make_problem, objective_of

METHODS = {
    "euler": partial(Euler, dt=0.1),
    "rotation": partial(Rotation, dt=0.1),
    "heun": Heun,
    "adaptive_rotation": AdaptiveRotation,
    "averaged": Averaged,
}
TURNING = ("rotation", "adaptive_rotation")
CASES = [
    (method, activation, loss)
    for method in METHODS
    for activation in ACTIVATIONS
    for loss in LOSSES
    if ACTIVATIONS[activation].homogeneous or method not in TURNING
]


def make_problems(R, *, flip=0.0, **options):
    """One problem a seed; with ``flip`` replica r has r times as many reversed labels."""
    problems = [make_problem(seed=seed, **options) for seed in range(R)]
    if flip == 0.0:
        return problems
    flipped = [flip_labels(p.batch.y, r * flip, generator(r, "flip")) for r, p in enumerate(problems)]
    return [Problem(p.network, Batch(p.batch.x, y), p.direction) for p, y in zip(problems, flipped, strict=True)]


def make_flow(kind, problems, *, loss="hinge", alpha=1.0, by="batched", **options):
    flow = kind(objective_of(problems, loss_of(loss), alpha), **options)
    with evaluated_by(by):
        assert {evaluator.name for evaluator in flow.objective.evaluators} == {by}
    return flow


def difference(flow, other, r=slice(None), s=slice(None)):
    """Largest difference of the parameters of replicas of two flows, relative to their displacement."""
    (a, w), (a0, w0) = flow.objective.networks.nodes, flow.objective.networks.initial_nodes
    other_a, other_w = other.objective.networks.nodes
    moved = torch.cat([(a - a0)[r].flatten(), (w - w0)[r].flatten()]).norm()
    apart = torch.cat([(a[r] - other_a[s]).flatten(), (w[r] - other_w[s]).flatten()]).norm()
    return float(apart / moved)


def reasons(flow):
    return [p.stop_reason for p in flow.progress]


def steps(flow):
    return [(p.n_steps, p.n_rejected, p.n_sub) for p in flow.progress]


@pytest.mark.unchecked
@pytest.mark.parametrize(("method", "activation", "loss"), CASES)
def test_batched_runs_are_streamed_ones(method, activation, loss):
    """Of three replicas with scales of their own: nodes to 10⁻¹² of their displacement, with the same steps."""
    flows = []
    for by in ("batched", "streamed"):
        problems = make_problems(3, M=20, N=60, d=8, activation=activation)
        flow = make_flow(METHODS[method], problems, loss=loss, alpha=[0.5, 1.0, 10.0], by=by)
        for t in (0.5, 4.0, 12.0):
            flow.step(until=t)
        flows.append(flow)
    batched, streamed = flows
    assert difference(batched, streamed) < 1e-12
    assert steps(batched) == steps(streamed)
    assert [p.t for p in batched.progress] == [p.t for p in streamed.progress]
    assert batched.n_evaluations == pytest.approx(streamed.n_evaluations, rel=1e-12)


@pytest.mark.unchecked
@pytest.mark.parametrize("by", ["batched", "streamed"])
@pytest.mark.parametrize(
    ("loss", "activation", "alphas", "flip", "size", "times"),
    [
        ("hinge", "relu", [1.0, 1.0, 1.0], 0.0, {"N": 200, "d": 20}, (0.5, 3.0, 20.0, 60.0, 150.0, 400.0)),
        ("hinge", "relu", [1e-3, 1.0, 1000.0], 0.0, {"N": 150, "d": 15}, (0.05, 0.3, 20.0, 150.0)),
        ("hinge", "leaky_relu", [0.1, 1.0, 1000.0], 0.03, {"N": 150, "d": 15}, (0.5, 20.0, 150.0)),
        ("logistic", "gelu", [0.1, 1.0, 10.0], 0.05, {"N": 100}, (1.0, 15.0)),
        ("square", "relu", [1.0, 10.0, 100.0], 0.05, {"N": 100}, (1.0, 15.0)),
        ("squared_hinge", "softplus", [0.5, 1.0, 2.0], 0.0, {"N": 100}, (1.0, 15.0)),
    ],
)
def test_replicas_equal_single_flows_to_their_ends(loss, activation, alphas, flip, size, times, by):
    """Nodes to 10⁻⁹ of their displacement, the same steps, sub-steps and evaluations, each with its own end."""
    problems = make_problems(3, flip=flip, activation=activation, **size)
    together = make_flow(Averaged, problems, loss=loss, alpha=alphas, by=by)
    flows = [make_flow(Averaged, [p], loss=loss, alpha=a, by=by) for p, a in zip(problems, alphas, strict=True)]
    for t in times:
        together.step(until=t)
        for r, flow in enumerate(flows):
            if flow.stop_reason is None:
                flow.step(until=t)
                for name, values in flow.observed.items():
                    assert together.observed[name][r] == pytest.approx(values[0], rel=1e-9)
            assert difference(together, flow, r, 0) < 1e-9
            assert together.progress[r].t == pytest.approx(flow.t, rel=1e-12)
    assert reasons(together) == [flow.stop_reason for flow in flows]
    assert steps(together) == [steps(flow)[0] for flow in flows]
    assert together.n_evaluations == pytest.approx(sum(flow.n_evaluations for flow in flows), rel=1e-12)
    if loss == "hinge" and flip == 0.0 and alphas[0] == 1.0:
        assert together.stop_reason is StopReason.ALL_SATISFIED
        assert len({p.t for p in together.progress}) == 3


@pytest.mark.unchecked
@pytest.mark.parametrize("method", ["euler", "rotation", "heun", "adaptive_rotation"])
def test_other_methods_equal_single_ones(method):
    """Each ends where it would alone, at a time of its own."""
    alphas = [0.1, 0.3, 1.0]
    problems = make_problems(3, N=100, activation="relu")
    together = make_flow(METHODS[method], problems, alpha=alphas)
    flows = [make_flow(METHODS[method], [p], alpha=alpha) for p, alpha in zip(problems, alphas, strict=True)]
    for t in (0.05, 1.0, 10.0, 30.0):
        together.step(until=t)
        for r, flow in enumerate(flows):
            flow.step(until=t)
            assert difference(together, flow, r, 0) < 1e-9
    assert steps(together) == [steps(flow)[0] for flow in flows]
    assert [p.t for p in together.progress] == pytest.approx([flow.t for flow in flows], rel=1e-12)
    assert len({p.t for p in together.progress}) > 1


def test_margins_variances_and_noise_may_differ_from_replica_to_replica():
    """One flow of networks with their own h, initial variances and reversed labels, against one flow for each."""
    hs, scales = [0.5, 1.0, 2.0], [0.5, 1.0, 2.0]
    problems = make_problems(3, flip=0.1, N=80)
    with torch.no_grad():
        for problem, scale in zip(problems, scales, strict=True):
            for values in (problem.network.w, problem.network.w0):
                values.mul_(scale)
    losses = [loss_of("hinge", h) for h in hs]
    together = Averaged(objective_of(problems, losses, 1.0))
    flows = [Averaged(objective_of([p], loss, 1.0)) for p, loss in zip(problems, losses, strict=True)]
    for t in (2.0, 15.0):
        together.step(until=t)
        for r, flow in enumerate(flows):
            flow.step(until=t)
            assert difference(together, flow, r, 0) < 1e-9
    assert steps(together) == [steps(flow)[0] for flow in flows]
    assert together.observed["mean_force"].shape == (3,)


@pytest.mark.unchecked
@pytest.mark.parametrize("by", ["batched", "streamed"])
@pytest.mark.parametrize("method", ["averaged", "euler"])
def test_a_replica_that_is_lost_does_not_disturb_the_others(method, by):
    """One whose inputs are not numbers diverges at once, and one whose scale is tiny later, if steps are fixed."""
    kind = Averaged if method == "averaged" else partial(Euler, dt=0.5)
    healthy = make_problems(2, N=100)
    lost, fast = make_problems(4, N=100)[2:]
    lost.batch.x[3, 0] = torch.nan
    together = make_flow(kind, [healthy[0], lost, healthy[1], fast], alpha=[1.0, 1.0, 1.0, 1e-4], by=by)
    alone = make_flow(kind, healthy, by=by)
    for t in (1.0, 10.0, 40.0):
        together.step(until=t)
        alone.step(until=t)
    assert reasons(together)[1] is StopReason.DIVERGED
    assert together.progress[1].t == 0.0
    expected = StopReason.ALL_SATISFIED if method == "averaged" else StopReason.DIVERGED
    assert reasons(together)[3] is expected
    assert reasons(together)[0] is reasons(together)[2] is None
    assert together.stop_reason is None
    for r, s in ((0, 0), (2, 1)):
        assert difference(together, alone, r, s) < 1e-9
        assert steps(together)[r] == steps(alone)[s]


def test_a_step_that_would_be_too_short_ends_its_replica_alone():
    problems = make_problems(2, N=100)
    together = make_flow(Averaged, problems, alpha=[1.0, 1e-3], dt_min=1e-3, dt_first=0.5)
    together.step(until=0.5)
    assert reasons(together) == [None, StopReason.STEP_TOO_SMALL]
    single = make_flow(Averaged, problems[1:], alpha=1e-3, dt_min=1e-3, dt_first=0.5)
    single.step(until=0.5)
    assert single.stop_reason is StopReason.STEP_TOO_SMALL
    assert together.progress[1].t == pytest.approx(single.t, rel=1e-9)


def test_rules_hold_for_each_replica():
    together = make_flow(Averaged, make_problems(3, N=100), alpha=[1.0, 0.1, 10.0])
    together.rules = StoppingRules(satisfied=0.5)
    for t in (1.0, 5.0, 20.0):
        together.step(until=t)
    assert reasons(together) == [StopReason.ENOUGH_SATISFIED, StopReason.ENOUGH_SATISFIED, None]
    satisfied = (together.margins() >= 1.0).double().mean(dim=1)
    assert bool((satisfied[:2] >= 0.5).all())
    assert float(satisfied[2]) < 0.5
    together.rules = StoppingRules(wall_seconds=1e-9)
    together.step(until=40.0)
    assert together.stop_reason is StopReason.WALL_TIME
    assert together.progress[2].t == 20.0


def continued(flow, problems, **options):
    """A flow that goes on from another's state."""
    second = make_flow(type(flow), problems, **options)
    second.objective.networks.load_state_dict(flow.objective.networks.state_dict())
    second.load_state_dict(copy.deepcopy(flow.state_dict()))
    return second


@pytest.mark.unchecked
def test_replicas_that_rules_have_ended_go_on_under_others():
    """If all have ended; while others run, an end stays one."""
    first = make_flow(Averaged, make_problems(2, N=100), alpha=[0.01, 1.0])
    first.rules = StoppingRules(satisfied=0.5)
    for t, expected in ((4.0, ["enough_satisfied", None]), (100.0, [None, None])):
        first.step(until=t)
        assert [p["stop_reason"] for p in first.state_dict()["flow"]["progress"]] == expected
    assert first.stop_reason is StopReason.ENOUGH_SATISFIED
    second = continued(first, make_problems(2, N=100), alpha=[0.01, 1.0])
    second.step(until=200.0)
    assert second.stop_reason is StopReason.ALL_SATISFIED


@pytest.mark.unchecked
@pytest.mark.parametrize("by", ["batched", "streamed"])
@pytest.mark.parametrize("method", METHODS)
def test_replicas_that_are_cut_and_continued_are_bit_equal(method, by):
    """At a time when one replica has ended; what only the wall time has ended goes on."""
    options = {"dt": 0.1} if method in ("euler", "rotation") else {}
    kind = getattr(METHODS[method], "func", METHODS[method])
    options |= {"alpha": [1.0, 0.1, 10.0], "by": by}
    whole, cut = (make_flow(kind, make_problems(3, N=100), **options) for _ in range(2))
    for t in (1.0, 20.0, 60.0, 100.0):
        whole.step(until=t)
    for t in (1.0, 20.0):
        cut.step(until=t)
    assert [reason is None for reason in reasons(cut)] == [True, False, True]
    cut.rules = StoppingRules(wall_seconds=1e-9)
    cut.step(until=60.0)
    assert cut.stop_reason is StopReason.WALL_TIME
    second = continued(cut, make_problems(3, N=100), **options)
    for t in (60.0, 100.0):
        second.step(until=t)
    for mine, theirs in zip(second.objective.networks.nodes, whole.objective.networks.nodes, strict=True):
        assert torch.equal(mine, theirs)
    assert second.progress == whole.progress


def test_a_flow_that_goes_on_by_the_other_evaluator_is_close():
    """What is saved does not depend on how it was computed."""
    first = make_flow(Averaged, make_problems(3, N=100), alpha=[1.0, 0.1, 10.0])
    first.step(until=5.0)
    second = continued(first, make_problems(3, N=100), alpha=[1.0, 0.1, 10.0], by="streamed")
    for flow in (first, second):
        flow.step(until=15.0)
    assert difference(first, second) < 1e-11
    assert steps(first) == steps(second)


def test_an_optimizer_of_torchs_is_for_one_network():
    with pytest.raises(ValueError, match="one state for all"):
        make_flow(Descent, make_problems(2), dt=0.1, optimizer=torch.optim.SGD)
