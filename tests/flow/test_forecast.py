"""The surrogate of the tangent kernel, and the forces that it predicts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import mfnet.flow.surrogate
from mfnet.compute.processes import ALONE
from mfnet.flow.forecast import forecast
from mfnet.flow.motion import velocity
from mfnet.flow.rows import PaddedRows
from mfnet.flow.surrogate import Rows, Surrogate, quadratic_forms
from mfnet.network.losses import Hinge, loss_of
from support.problems import make_problem, margins_of, objective_of

#: Relative differences of sums in float64.
ROUNDING = 1e-12
LOGISTIC = loss_of("logistic")


@pytest.fixture(params=[0, 2**20], ids=["by open rows", "written out"])
def way(request, monkeypatch):
    """Forecasts that look at the rows whose force may change, and those that follow all."""
    monkeypatch.setitem(mfnet.flow.surrogate.WRITTEN_OUT, "cpu", request.param)


def surrogate_of(*problems):
    """K̂ in float64, as smooth losses have it."""
    networks = objective_of(problems, LOGISTIC, 1.0)
    (evaluator,) = networks.evaluators
    return Surrogate.of(evaluator, networks.networks.nodes)


def random_forces(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def assert_speed(problem, force, tolerance):
    """dm/dt under K̂ against the change of the margins along the velocity, by a central difference."""
    alpha, network = 1.3, problem.network
    (evaluator,) = objective_of([problem], LOGISTIC, alpha).evaluators
    nodes = network.nodes
    a, w = velocity(network.activation, nodes, evaluator.rates(nodes, force[None], [int(force.count_nonzero())]))
    ends = []
    for dt in (1e-4, -2e-4, 1e-4):
        with torch.no_grad():
            network.a.add_(a[0], alpha=dt)
            network.w.add_(w[0], alpha=dt)
        ends.append(margins_of(problem, alpha))
    expected = (ends[0] - ends[1]) / 2e-4
    surrogate = surrogate_of(problem)
    speed = surrogate.speed(surrogate.of_all(force[None]))[0]
    assert float((speed - expected).norm() / expected.norm()) < tolerance


@pytest.mark.usefixtures("way")
def test_the_surrogate_is_the_tangent_kernel_of_a_linear_network():
    problem = make_problem(activation="linear", moved=True)
    assert_speed(problem, random_forces(200), tolerance=1e-7)


@pytest.mark.parametrize(("activation", "tolerance"), [("relu", 0.06), (torch.tanh, 0.09)])
def test_the_surrogate_is_close_to_the_tangent_kernel_of_a_wide_network(activation, tolerance):
    """Forces on one side, so that constant and linear parts count: what is left is of higher order in x, 1/d."""
    problem = make_problem(M=20_000, N=300, d=50, activation=activation)
    assert_speed(problem, torch.ones(300, dtype=torch.float64), tolerance)
    assert_speed(problem, (problem.batch.y > 0).double(), tolerance)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu"])
def test_the_surrogate_knows_the_constant_that_aligned_nodes_make(activation):
    """Rich and late, γ = 2.5, near the boundary: a force on one side alone moves F by a constant before all else.

    Half of it is made by w, and grows with ⟨a²⟩ from 1/d of the other half at the start.
    """
    problem = make_problem(M=20_000, N=300, d=50, activation=activation)
    network, direction = problem.network, problem.direction
    with torch.no_grad():
        a, w_par = network.a0, network.w0 @ direction
        cosh, sinh = math.cosh(2.5), math.sinh(2.5)
        network.a.copy_(cosh * a + sinh * w_par)
        network.w.add_(torch.outer((cosh - 1.0) * w_par + sinh * a, direction))
    x = problem.batch.x - 0.9 * torch.outer(problem.batch.x @ direction, direction)
    problem = replace(problem, batch=problem.batch._replace(x=x))
    assert_speed(problem, (problem.batch.y > 0).double(), tolerance=0.15)


@pytest.mark.usefixtures("way")
def test_some_rows_have_the_kernel_of_all():
    """Of three replicas, as many rows as each has, the rest padded."""
    surrogate = surrogate_of(*(make_problem(seed=seed, moved=True) for seed in range(3)))
    mask, force = torch.zeros(3, 200, dtype=torch.bool), random_forces(3, 200)
    mask[0, [2, 7, 11]] = mask[2, 5] = True
    rows, forces = PaddedRows(mask), surrogate.of_all(force)
    some = surrogate.rows(rows)
    found = torch.zeros_like(force)
    rows.put(some.speed(rows.take(force), forces.features), found)
    assert torch.allclose(found, surrogate.speed(forces) * mask, rtol=ROUNDING, atol=ROUNDING)
    assert torch.allclose(some.sums(rows.take(force)), surrogate.of_all(force * mask).features, rtol=ROUNDING, atol=0.0)
    part = surrogate.select([2, 0])
    assert torch.allclose(part.speed(part.of_all(force[[2, 0]])), surrogate.speed(forces)[[2, 0]], rtol=ROUNDING)


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_features_follow_what_has_changed(share):
    surrogate = surrogate_of(make_problem(moved=True))
    before = surrogate.of_all(random_forces(1, 200))
    after = before.force + (torch.arange(200) < 200 * share)
    found = surrogate.changed(before, after)
    assert torch.equal(found.force, after)
    assert torch.allclose(found.features, surrogate.of_all(after).features, rtol=ROUNDING, atol=ROUNDING)


def test_tiled_quadratic_forms_are_those_at_once(monkeypatch):
    monkeypatch.setattr("mfnet.flow.surrogate.ROWS", 7)
    source = torch.Generator().manual_seed(0)
    x, matrix = (torch.randn(2, n, 5, generator=source, dtype=torch.float64) for n in (30, 5))
    assert torch.allclose(quadratic_forms(x, matrix), torch.einsum("rni,rij,rnj->rn", x, matrix, x), rtol=ROUNDING)


@pytest.mark.usefixtures("way")
def test_sub_steps_are_eulers_under_the_dense_kernel():
    """Of two replicas in one batch; no force of the logistic loss is constant, and eight sub-steps are one block."""
    problems = [make_problem(seed=seed, N=50, moved=True) for seed in range(2)]
    surrogate, dt = surrogate_of(*problems), [0.4, 2.0]
    margins, residual = torch.randn(2, 2, 50, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ahead = forecast(surrogate, LOGISTIC, margins, residual, dt, resolution=1e9)
    assert ahead.n_sub == [8, 8]
    for r in range(2):
        one = surrogate.select([r])
        unit = torch.eye(50, dtype=torch.float64)
        dense = torch.cat([one.speed(one.of_all(unit[n : n + 1])) for n in range(50)]).T
        m, total = margins[r], torch.zeros(50, dtype=torch.float64)
        for _ in range(8):
            total += LOGISTIC.force(m)
            m = m + dt[r] / 8 * (dense @ LOGISTIC.force(m) + residual[r])
        assert torch.allclose(ahead.force[r], total / 8, rtol=1e-11)
        assert torch.allclose(ahead.margins[r], m, rtol=1e-10, atol=1e-11)


@pytest.mark.usefixtures("way")
def test_each_replica_takes_its_own_sub_steps():
    """In one batch as alone; their numbers differ by far more than a block."""
    problems = [make_problem(seed=seed, moved=True) for seed in range(3)]
    surrogate, dt = surrogate_of(*problems), [0.03, 3.0, 20.0]
    margins, residual = torch.randn(2, 3, 200, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    together = forecast(surrogate, Hinge(), margins, residual, dt, resolution=0.005)
    assert together.n_sub[0] < 16 < together.n_sub[1] < together.n_sub[2]
    for r in range(3):
        one = surrogate.select([r])
        alone = forecast(one, Hinge(), margins[r : r + 1], residual[r : r + 1], dt[r : r + 1], resolution=0.005)
        assert alone.n_sub == together.n_sub[r : r + 1]
        assert torch.allclose(alone.force[0], together.force[r], rtol=ROUNDING)
        assert torch.allclose(alone.margins[0], together.margins[r], rtol=1e-10)


@pytest.mark.parametrize("written_out", [False, True])
def test_averaged_forces_hold_sliding_examples_at_the_margin(written_out):
    """Of two examples that push each other, one slides: its mean force keeps dm/dt = 0, in closed form."""
    one, kappa = torch.ones(1, 2, dtype=torch.float64), torch.full((1, 2), 0.5, dtype=torch.float64)
    y = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    kernel = torch.zeros(1, 3, 3, dtype=torch.float64)
    kernel[0, 1, 1] = 1.0
    surrogate = Surrogate(torch.zeros(1, 2, 1, dtype=torch.float64), y, one, kernel, kappa, ALONE)
    if written_out:
        surrogate = replace(surrogate, all_rows=surrogate.rows(None))
        assert isinstance(surrogate.all_rows, Rows)
    # dm₁/dt = 1.5 φ₁ − φ₂ and dm₂/dt = 1.5 φ₂ − φ₁; the second, far below the margin, has φ₂ = 1: φ₁ = 2/3
    margins = torch.tensor([[1.0, -50.0]], dtype=torch.float64)
    ahead = forecast(surrogate, Hinge(), margins, torch.zeros_like(margins), dt=[10.0], resolution=0.01)
    assert ahead.n_sub == [256]
    assert float(ahead.force[0, 0]) == pytest.approx(2.0 / 3.0, abs=2.0 / 256)
    assert float(ahead.force[0, 1]) == 1.0
    assert float(ahead.margins[0, 0]) == pytest.approx(1.0, abs=1.5 * 10.0 / 256)
    expected = -50.0 + 10.0 * (1.5 - float(ahead.force[0, 0]))
    assert float(ahead.margins[0, 1]) == pytest.approx(expected, rel=ROUNDING)
