"""Sweeps that are killed, started again, extended; runs that fail, are interrupted, or are asked for twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mfnet.identity import identity, run_name
from mfnet.run_directory import RunDirectory, RunInUseError, RunState

SMALL = ["N=200", "d=10", "data.n_test=100", "schedule.per_decade=4", "trainer.accelerator=cpu"]
PATIENCE = 120.0


def command(*arguments):
    return [sys.executable, "-m", "mfnet", "train", *arguments]


def train(*arguments, cwd):
    return subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True, check=False)


def runs(sweep):
    """Each run's directory by its settings."""
    found = (RunDirectory(path.parent) for path in sweep.glob("*/summary.json"))
    return {(s["config"]["alpha"], s["config"]["seed"]): run for run in found for s in [run.read_summary()]}


def wait_for(condition, process):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.02)


CONFIG = {"M": 400, "N": 10000, "d": 100, "alpha": 1.0, "seed": 3, "stop": {"satisfied": 1.0, "wall_seconds": None}}
CONFIG |= {"trainer": {"precision": "auto", "devices": 1}, "ckpt": None, "data": {"flip": 0.0, "memory": 2.0}}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"alpha": 1}, True),
        ({"ckpt": "last.ckpt"}, True),
        ({"trainer": {"precision": "auto", "devices": 2}}, True),
        ({"stop": {"satisfied": 1.0, "wall_seconds": 60.0}}, True),
        ({"data": {"flip": 0.0, "memory": 0.5}}, True),
        ({"data": {"flip": 0.1, "memory": 2.0}}, False),
        ({"alpha": 1.5}, False),
        ({"seed": 4}, False),
        ({"trainer": {"precision": "float64", "devices": 1}}, False),
        ({"stop": {"satisfied": 0.9, "wall_seconds": None}}, False),
        ({"callbacks": {"closure": {"name": "kernel_closure"}}}, False),
    ],
)
def test_a_run_is_known_by_what_it_computes_and_records(change, same):
    assert (identity({**CONFIG, **change}) == identity(CONFIG)) is same
    assert (run_name({**CONFIG, **change}) == run_name(CONFIG)) is same
    assert run_name(CONFIG).startswith("M400_N10000_d100_alpha1_seed3_")


def test_a_killed_sweep_goes_on_to_the_same_runs(tmp_path):
    """SIGKILL at a random moment, twice; then every file's content is that of a sweep that was left alone."""
    settings = ["-m", "M=20", "alpha=1,1000", "seed=range(3)", *SMALL]
    assert train(*settings, "hydra.sweep.dir=whole", cwd=tmp_path).returncode == 0
    moments = random.Random(0)
    for n_before in (0, 2):
        process = subprocess.Popen(command(*settings, "hydra.sweep.dir=cut"), cwd=tmp_path, stdout=subprocess.DEVNULL)
        wait_for(lambda n=n_before: len(runs(tmp_path / "cut")) > n, process)
        time.sleep(moments.uniform(0.0, 0.5))
        process.kill()
        process.wait()
    done = {run.summary: run.summary.stat().st_mtime_ns for run in runs(tmp_path / "cut").values()}
    assert 3 <= len(done) < 6
    last = train(*settings, "hydra.sweep.dir=cut", cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    assert f"6 runs in cut: {len(done)} complete" in last.stdout
    assert "6 of 6 runs complete" in last.stdout
    assert all(summary.stat().st_mtime_ns == before for summary, before in done.items())
    whole, cut = runs(tmp_path / "whole"), runs(tmp_path / "cut")
    assert len(cut) == len(whole) == 6
    for key, run in whole.items():
        assert cut[key].history.read_bytes() == run.history.read_bytes()
        assert cut[key].path.name == run.path.name
        for name in ("nodes.npz", "examples.npz"):
            ours, theirs = np.load(cut[key].path / name), np.load(run.path / name)
            assert all(np.array_equal(ours[array], theirs[array]) for array in theirs)

    more = train("-m", "M=20", "alpha=1,10,1000", "seed=range(3)", *SMALL, "hydra.sweep.dir=cut", cwd=tmp_path)
    assert "9 runs in cut: 6 complete, 3 new" in more.stdout
    assert all(summary.stat().st_mtime_ns == before for summary, before in done.items())
    assert len(runs(tmp_path / "cut")) == 9


FAILS = """
import os
from mfnet.theory import Theory

class Fails(Theory):
    def __init__(self, seed):
        self.seed = seed
    def series(self, t):
        if str(self.seed) == os.environ.get("FAILING"):
            raise RuntimeError(f"nothing is known of seed {self.seed}")
        return {}
"""


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]])
def test_a_run_that_fails_is_named_and_does_not_stop_the_others(launcher, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(FAILS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FAILING", "1")
    theory = "theory: {_target_: mine.Fails, seed: '${seed}'}"
    overlay = "+callbacks.mine={_target_: mfnet.training.TheoryOverlay, name: mine, " + theory + "}"
    settings = ["-m", "M=10", "seed=0,1,2", *SMALL, "schedule.t_max=5", overlay, "hydra.sweep.dir=s", *launcher]
    first = train(*settings, cwd=tmp_path)
    assert first.returncode == 1
    assert "FAILED s/M10" in first.stderr  # when it happened
    assert "nothing is known of seed 1" in first.stdout  # and at the end
    assert "Traceback" not in first.stdout + first.stderr
    assert "2 of 3 runs complete" in first.stdout
    (failed,) = (tmp_path / "s").glob("*/error.log")
    assert "Traceback" in failed.read_text()
    monkeypatch.setenv("FAILING", "none")
    again = train(*settings, cwd=tmp_path)
    assert again.returncode == 0
    assert "3 runs in s: 2 complete, 1 failed" in again.stdout
    assert not failed.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_run_says_how_to_go_on(number, tmp_path):
    settings = ["M=100", "N=2000", "d=50", "data.n_test=500", "schedule.t_max=1e4", "flow=rotation", "flow.dt=0.01"]
    process = subprocess.Popen(command(*settings, "hydra.run.dir=r"), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    run = RunDirectory(tmp_path / "r")
    wait_for(lambda: run.checkpoint.exists() and len(run.read_history()["t"]) > 10, process)
    second = train("ckpt=r/checkpoints/last.ckpt", cwd=tmp_path)
    assert second.returncode == 2
    assert "another process is at work on this run" in second.stderr
    process.send_signal(number)
    told = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130
    assert "mfnet train ckpt=r/checkpoints/last.ckpt" in told
    assert "Traceback" not in told
    end, rows = run.read_summary(), run.read_history()
    assert end["stop_reason"] == "interrupted"
    assert end["t_end"] == rows["t"][-1] < 1e4
    assert run.state() is RunState.CUT_OFF
    further = f"schedule.t_max={1.1 * end['t_end']}"
    assert train("ckpt=r/checkpoints/last.ckpt", further, cwd=tmp_path).returncode == 0
    assert run.read_summary()["stop_reason"] == "t_max"
    assert run.state() is RunState.COMPLETE
    assert np.array_equal(run.read_history()["test_error_network"][: len(rows["t"])], rows["test_error_network"])


def test_a_directory_is_one_processs(tmp_path):
    first, second = RunDirectory(tmp_path), RunDirectory(tmp_path)
    with first.lock():
        assert second.in_use()
        with pytest.raises(RunInUseError, match="another process"), second.lock():
            pass
    assert not second.in_use()


@pytest.mark.parametrize(
    ("summary", "state"),
    [
        (None, RunState.NEW),
        ("", RunState.NEW),
        ("{", RunState.NEW),
        ("[]", RunState.NEW),
        (json.dumps({"stop_reason": "interrupted"}), RunState.NEW),
        (json.dumps({"stop_reason": "error: it broke"}), RunState.FAILED),
        (json.dumps({"stop_reason": "all_satisfied"}), RunState.COMPLETE),
    ],
)
def test_the_state_of_a_run_is_read_off_its_files(summary, state, tmp_path):
    run = RunDirectory(tmp_path)
    if summary is not None:
        run.summary.write_text(summary)
    assert run.state() is state
    run.checkpoint.parent.mkdir()
    run.checkpoint.touch()
    assert run.state() is (RunState.CUT_OFF if state is RunState.NEW else state)
    run.write_failure("Traceback\nRuntimeError: no")
    assert run.state() is RunState.FAILED
    assert run.failure_reason() == "RuntimeError: no"
