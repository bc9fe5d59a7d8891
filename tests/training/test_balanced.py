"""Balanced initial values in runs: from Python and the command, with replicas, shared nodes and checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mfnet
from mfnet.compute.processes import Processes
from mfnet.compute.seeding import generator
from mfnet.network import MeanFieldNetwork
from mfnet.setup.setup import Setup
from mfnet.training.build import Pieces
from support.command import rows

SMALL = {"M": 40, "N": 200, "d": 10, "logger": [], "network": {"init": "balanced"}}

pytestmark = pytest.mark.unchecked


def test_a_run_starts_from_balanced_nodes_and_is_laid_over_by_their_theory():
    run = mfnet.train(**SMALL, theory="finite_width", schedule={"t_max": 5.0, "per_decade": 4})
    w = run.network.w0.double()
    torch.testing.assert_close(w.T @ w / 40, torch.eye(10, dtype=torch.float64), atol=1e-6, rtol=0.0)
    assert run.theory.init == "balanced"
    assert (run.history["test_error_theory"][1:] < 1e-12).all()  # M = 4d: that of M = ∞, on infinitely many examples


def test_replicas_and_the_api_draw_what_single_runs_do():
    setup = Setup.of(**{**SMALL, "network": {}}, network__init="balanced", replicas=3)
    stacked = Pieces(setup).networks
    for r in range(3):
        single = Pieces(setup.but(replicas=1, seed=r)).networks
        assert torch.equal(stacked.w0[r], single.w0)
        assert torch.equal(stacked.a0[r], single.a0)


def test_nodes_are_drawn_whole_and_then_shared():
    def network(processes):
        return MeanFieldNetwork(40, 10, generator=generator(0, "network"), init="balanced", processes=processes)

    whole = network(Processes())
    parts = [network(Processes("nodes", rank, 3)) for rank in range(3)]
    assert torch.equal(whole.w0, torch.cat([part.w0 for part in parts]))
    assert torch.equal(whole.a0, torch.cat([part.a0 for part in parts]))


def test_the_two_ways_to_draw_are_different_runs():
    setup = Setup.of(**SMALL)
    assert setup.identity != setup.but(network__init="independent").identity


@pytest.mark.slow
def test_a_run_that_is_cut_goes_on_bit_for_bit(command, tmp_path):
    small = ["M=40", "N=200", "d=10", "network.init=balanced", "schedule=listed", "data.n_test=100"]
    command("train", *small, "schedule.times=[1,3,10,30]", "hydra.run.dir=whole").ok()
    command("train", *small, "schedule.times=[1,3]", "hydra.run.dir=cut").ok()
    command("train", "ckpt=cut/checkpoints/last.ckpt", "schedule.times=[1,3,10,30]").ok()
    cut, whole = (
        [{key: value for key, value in row.items() if key.endswith("_network")} for row in rows(tmp_path / name)]
        for name in ("cut", "whole")
    )
    assert cut == whole


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"M": 42}, "M=42: must be a multiple of 4 with network.init=balanced"),
        ({"M": 2}, "M=2: must be a multiple of 4 with network.init=balanced"),
        ({"network": {"init": "orthogonal"}}, "network.init=orthogonal: must be one of independent, balanced"),
    ],
)
def test_what_cannot_be_drawn_is_said_before_work_starts(settings, said):
    with pytest.raises(mfnet.SettingError, match=said):
        Setup.of(**{**SMALL, **settings})


def test_which_moments_are_exact_is_said_before_a_run():
    from mfnet.training.train import Training

    lines = [Training(Setup.of(**{**SMALL, "M": M})).headline for M in (40, 36)]
    assert lines[0].endswith("balanced nodes")
    assert lines[1].endswith("balanced nodes (E wwᵀ in its trace alone: M < 4d)")


def test_a_linear_network_follows_the_linear_limit_on_any_examples():
    """σ(z) = z feels the nodes through E θθᵀ alone: M = 4d balanced ones are M = ∞, on a fixed training set too."""
    from mfnet.theory import LinearClosure

    settings = {**SMALL, "network": {"init": "balanced", "activation": "linear"}, "overlay": ["linear_closure"]}
    run = mfnet.train(**settings, flow={"rtol": 1e-3}, schedule={"t_max": 60.0, "per_decade": 4})
    assert isinstance(run.theories["linear_closure"], LinearClosure)
    for name in ("gamma", "displacement", "test_error"):
        found, limit = (run.history[f"{name}_{side}"].to_numpy() for side in ("network", "linear_closure"))
        np.testing.assert_allclose(found, limit, atol=0.02 * abs(limit).max(), err_msg=name)
