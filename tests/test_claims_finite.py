"""The claims of finite samples, lazy networks and other data: their simulations, and that they can fail."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from mfnet.claims import CLAIMS, Effort, Verdict
from mfnet.claims import finite_samples as finite_samples_claims
from mfnet.claims.lazy import Prediction, _fall, _within_spread
from mfnet.claims.simulation import Record, Setup, draw_of, final_nodes, nodes_at, population, train
from mfnet.flow import Euler, Rotation
from mfnet.theory import ActualKernel, MeanField
from mfnet.theory import closures as closures_module
from mfnet.theory import moving_kernel as moving_kernel_module
from mfnet.theory import projections as projections_module

SETUP = Setup(40, 6, 80, n_test=300, double=True)

#: Those whose quick form does not depend on the luck of a few seeds.
SURE = ("starting-error-samples", "closure", "laziness", "other-data")


def failing(name):
    return [row.case for row in CLAIMS[name].check(Effort(quick=True)).rows if row.verdict is Verdict.FAILS]


@pytest.mark.parametrize("name", SURE)
def test_quick_claims_hold(name):
    evidence = CLAIMS[name].check(Effort(quick=True))
    assert [row.case for row in evidence.rows if row.verdict is Verdict.FAILS] == []
    assert any(row.verdict is Verdict.HOLDS for row in evidence.rows)
    assert len({row.case for row in evidence.rows}) == len(evidence.rows)


# ---------------------------------------------------------------- wrong theories


def test_a_starting_error_that_is_too_large_is_refuted(monkeypatch):
    right = finite_samples_claims.starting_error_of
    monkeypatch.setattr(finite_samples_claims, "starting_error_of", lambda *sizes: 1.6 * right(*sizes))
    assert len([case for case in failing("starting-error-samples") if case.endswith("ε₀")]) == 2


def test_the_linear_closure_is_refuted(monkeypatch):
    """It has no memory of single examples, and is too optimistic late (theory.md, 4)."""
    monkeypatch.setattr(closures_module.KernelClosure, "_memory", False)
    assert len(failing("closure")) == 2


def test_a_kernel_that_does_not_move_is_refuted(monkeypatch):
    right = moving_kernel_module.moved_kernel
    monkeypatch.setattr(
        moving_kernel_module,
        "moved_kernel",
        lambda model, x, x_par, cosh, sinh: right(model, x, x_par, 1.0, 0.8 * sinh),
    )
    assert len(failing("laziness")) >= 4


def test_a_law_without_its_stretch_is_refuted(monkeypatch):
    monkeypatch.setattr(projections_module, "Elongated", lambda d, stretch: projections_module.Normal(d))
    cases = failing("other-data")
    assert {case.split(",")[0] for case in cases} == {"stretch 0.5", "stretch 2"}


# ---------------------------------------------------------------- rules


def test_within_the_spread_of_the_seeds():
    """Means 0.5 ± 0.1 (spread of the seeds): 0.55 is within it, 0.65 is not."""
    predicted = np.array([[0.4], [0.5], [0.6]])
    for shift, verdict, share in ((0.05, "holds", 1.0), (0.15, "fails", 0.0)):
        mean, runs = _within_spread("c", "s", np.array([1.0]), predicted, predicted + shift, 1000)
        assert mean.verdict == verdict
        assert runs.measured == share
        assert runs.verdict is Verdict.NOT_CLAIMED


def test_the_exponent_of_a_distance():
    """αF off by M^{−1/2} has that exponent; and a test error off by the same at all M does not fall."""
    rng = np.random.default_rng(0)
    limit = [Prediction(np.full(3, 0.1), np.ones(3), rng.normal(size=(3, 50))) for _ in range(4)]
    zero, noise = np.zeros(3), rng.normal(size=(4, 3, 50))
    runs = {
        M: [
            Record(
                zero,
                zero,
                zero,
                zero,
                zero,
                flow.test_error + 0.01,
                (flow.output + noise[i] / math.sqrt(M)) / 1e3,
                1,
                1.0,
                1.0,
            )
            for i, flow in enumerate(limit)
        ]
        for M in (100, 400, 1600)
    }
    row = _fall(runs, limit, "excess", "αF", 0.1, "s")
    assert row.measured == pytest.approx(-0.5, abs=1e-9)
    assert row.verdict is Verdict.HOLDS
    level = _fall(runs, limit, "test_error", "ε_g", None, "s")
    assert level.measured == pytest.approx(0.0, abs=1e-9)


# ---------------------------------------------------------------- simulations


def test_the_draw_is_that_of_the_run():
    """F after a short step is the kernel of the drawn nodes, summed over the drawn examples; to O(t²)."""
    draw, probes, t = draw_of(replace(SETUP, flip=0.1)), np.random.default_rng(1).normal(size=(5, 6)), 1e-4
    record = train(replace(SETUP, flip=0.1), [t], partial(Rotation, dt=t), probes)
    first = ActualKernel("relu", draw.a0, draw.w0)(probes, draw.x) @ draw.y * t / len(draw.y)
    np.testing.assert_allclose(record.excess[0], first, rtol=1e-3, atol=1e-3 * np.abs(first).max())
    assert np.mean(draw.y != np.sign(draw.x @ draw.direction)) == pytest.approx(0.1)
    assert np.array_equal(draw.y_test, np.sign(draw.x_test @ draw.direction))


def test_nodes_at_several_times_are_those_of_one_run():
    method = partial(Rotation, dt=0.25)
    nodes = nodes_at(SETUP, [0.5, 1.0, 2.0], method)
    assert np.array_equal(nodes[-1], final_nodes(SETUP, 2.0, method))
    assert np.array_equal(nodes[0], final_nodes(SETUP, 0.5, method))


@pytest.mark.parametrize(
    ("settings", "along", "across"),
    [
        ({}, 1.0, 1.0),
        ({"inputs": "elongated", "stretch": 2.0}, 2.0, 1.0),
        (
            {"inputs": "radial", "radius": {"name": "uniform", "loc": 2.9, "scale": 0.2}},
            math.sqrt(9.0 / 6),
            math.sqrt(9.0 / 6),
        ),
    ],
)
def test_the_inputs_have_the_law_of_the_setup(settings, along, across):
    """Standard deviations along and across ŵ*, of a fixed training set and, by the first drive, of fresh examples."""
    setup = Setup(2000, 6, 20_000, n_test=1000, a_std=0.5, w_std=1.5, **settings)
    draw = draw_of(setup)
    assert draw.x[:, 0].std() == pytest.approx(along, rel=0.02)
    assert draw.x[:, 1:].std() == pytest.approx(across, rel=0.02)
    assert draw.a0.std() == pytest.approx(0.5, rel=0.05)
    assert draw.w0.std() == pytest.approx(1.5, rel=0.05)
    model = MeanField(d=6, a_std=0.5, w_std=1.5, **settings)
    record = population(setup, [0.1], partial(Euler, dt=0.1))
    fixed = train(setup, [0.1], partial(Euler, dt=0.1))
    expected = 0.1 * model.odd_slope * model.law.m1 / math.sqrt(6)
    for run in (record, fixed):
        assert run.gamma[0] == pytest.approx(expected, rel=0.03)


def test_a_variance_scales_the_same_draw():
    network, wide = Setup(10, 3, 10).network(), Setup(10, 3, 10, a_std=2.0).network()
    assert torch.equal(network.w0, wide.w0)
    assert torch.equal(2.0 * network.a0, wide.a0)
