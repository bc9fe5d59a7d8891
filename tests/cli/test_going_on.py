"""Runs that are killed, interrupted or ended, and go on."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import torch

from mfnet.record.directory import RunDirectory, RunState
from support.command import NO_EVENTS, SMALL, assert_same_files, rows, summary
from support.processes import Started, started


@pytest.mark.slow
@pytest.mark.parametrize(
    "flow",
    [
        ["flow=averaged", "flow.rtol=0.001", "schedule.per_decade=32"],
        ["flow=rotation", "flow.dt=0.04"],
        ["flow=adam", "flow.dt=0.04", "flow.optimizer.lr=0.001"],
        [
            "data=latent",
            "data.rule=shell",
            "network.init=balanced",
            "flow=euler",
            "flow.dt=0.04",
            "hydrodynamic.points=4",
        ],
    ],
)
def test_a_killed_run_goes_on_to_the_same_history(flow, command, tmp_path):
    """SIGKILL in the middle, then ckpt=…: history, nodes and examples are those of a run that was left alone."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = ["M=100", "N=600", "d=50", "data.n_test=500", "schedule.t_max=50", *NO_EVENTS, *flow]
    command("train", *settings, "hydra.run.dir=whole").ok()
    run, n_rows = Started("train", *settings, "hydra.run.dir=cut", cwd=tmp_path), len(rows(whole))
    run.wait_for(lambda: (cut / "history.csv").exists() and len(rows(cut)) > 0.7 * n_rows)
    run.send(signal.SIGKILL)
    assert run.end().status == -signal.SIGKILL
    assert len(rows(cut)) < n_rows
    assert not (cut / "summary.json").exists()
    started("train", "ckpt=cut/checkpoints/last.ckpt", cwd=tmp_path).ok()
    assert_same_files(cut, whole, [file.name for file in whole.glob("*.npz")])
    assert summary(cut)["steps"] == summary(whole)["steps"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_run_says_how_to_go_on(number, command, tmp_path):
    settings = ["M=100", "N=2000", "d=50", "data.n_test=500", "schedule.t_max=1e4", "flow=rotation", "flow.dt=0.01"]
    first = Started("train", *settings, *NO_EVENTS, "hydra.run.dir=r", cwd=tmp_path)
    run = RunDirectory(tmp_path / "r")
    first.wait_for(lambda: run.checkpoint.exists() and len(rows(run.path)) > 10)
    second = command("train", "ckpt=r/checkpoints/last.ckpt")
    assert second.status == 2
    assert "another process is at work on this run" in second.err
    first.send(number)
    ended = first.end()
    assert ended.status == 130
    assert "mfnet train ckpt=r/checkpoints/last.ckpt" in ended.err
    assert "Traceback" not in ended.err
    end, seen = run.read_summary(), run.read_history()
    assert end["stop_reason"] == "interrupted"
    assert end["t_end"] == seen["t"][-1] < 1e4
    assert run.state() is RunState.CUT_OFF
    command("train", "ckpt=r/checkpoints/last.ckpt", f"schedule.t_max={1.1 * end['t_end']}").ok()
    assert run.read_summary()["stop_reason"] == "t_max"
    assert run.state() is RunState.COMPLETE
    assert np.array_equal(run.read_history()["test_error_network"][: len(seen["t"])], seen["test_error_network"])


def test_an_ended_run_goes_on_only_if_it_is_extended(command, tmp_path):
    command("train", *SMALL, *NO_EVENTS, "schedule.t_max=2", "hydra.run.dir=r").ok()
    again = command("train", "ckpt=r/checkpoints/last.ckpt")
    assert again.status == 2
    assert "raise schedule.t_max" in again.err
    other = command("train", "ckpt=r/checkpoints/last.ckpt", "alpha=2")
    assert other.status == 2
    assert "alpha=2" in other.err
    before = rows(tmp_path / "r")
    command("train", "ckpt=r/checkpoints/last.ckpt", "schedule.t_max=4").ok()
    after = rows(tmp_path / "r")
    assert after[: len(before)] == before
    assert after[-1]["t"] == 4.0
    assert summary(tmp_path / "r")["stop_reason"] == "t_max"


def test_a_checkpoint_of_an_earlier_version_is_refused_in_one_line(command, tmp_path):
    command("train", *SMALL, "hydra.run.dir=r").ok()
    path = tmp_path / "r" / "checkpoints" / "last.ckpt"
    saved = torch.load(path, weights_only=True)
    del saved["mfnet"]["format"]
    torch.save(saved, path)
    before = path.read_bytes()
    ended = command("train", "ckpt=r/checkpoints/last.ckpt", "schedule.t_max=50")
    assert ended.status == 2
    assert "earlier version of mfnet" in ended.err
    assert ended.err.count("\n") == 1
    assert path.read_bytes() == before
