"""Sweeps: a directory a run, whatever is killed, started again, extended, or fails."""

from __future__ import annotations

import random
import signal
import time

import pytest

from mfnet.record.directory import RunDirectory
from support.command import NO_EVENTS, assert_same_files, summary
from support.processes import Started, cold, started

SMALL = ["N=200", "d=10", "data.n_test=100", "schedule.per_decade=2", "trainer.accelerator=cpu"]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def runs(sweep):
    """Each complete run's directory by its settings."""
    found = [(path.parent, summary(path.parent)["config"]) for path in sweep.glob("*/summary.json")]
    return {(config["alpha"], config["seed"]): RunDirectory(path) for path, config in found}


@pytest.mark.slow
def test_a_sweep_leaves_a_directory_for_each_run(command, tmp_path):
    """With the type of numbers that its own α calls for: no run sees what another has set."""
    settings = [*SMALL, *NO_EVENTS, "hydra.sweep.dir=sweep"]
    command("train", "-m", "M=10,20", "alpha=1e-3,1e3", *settings, figures=True).ok()
    paths = [path.parent for path in (tmp_path / "sweep").glob("*/summary.json")]
    assert len(paths) == 4
    ends = [summary(path) for path in paths]
    found = {(end["config"]["alpha"], end["config"]["M"], end["dtype"]) for end in ends}
    expected = {(1e-3, "float32"), (1e3, "float64")}
    assert found == {(alpha, M, dtype) for alpha, dtype in expected for M in (10, 20)}
    assert not any((path / "figures").exists() for path in paths)


@pytest.mark.slow
def test_figures_of_a_sweep_are_drawn_on_demand(command, tmp_path):
    """From the files alone they are those that a run draws at its end, byte for byte."""
    settings = ["M=10", *SMALL, *NO_EVENTS]
    command("train", "-m", "seed=0,1", *settings, "hydra.sweep.dir=sweep", figures=True).ok()
    command("train", *settings, "hydra.run.dir=alone", figures=True).ok()
    first, second = (run.figures for _, run in sorted(runs(tmp_path / "sweep").items()))
    assert not first.exists()
    said = command("figures", "alone", "sweep").ok().out.splitlines()
    assert [line.partition("  ")[2] for line in said] == ["fig1.png, errors.png"] * 3
    at_its_end = {path.name: path.read_bytes() for path in (tmp_path / "alone" / "figures").iterdir()}
    assert {path.name: path.read_bytes() for path in first.iterdir()} == at_its_end
    assert {path.name for path in second.iterdir()} == set(at_its_end)
    command("train", "-m", "seed=0,1", *settings, "hydra.sweep.dir=drawn", "figures=true", figures=True).ok()
    assert all(run.figures.exists() for run in runs(tmp_path / "drawn").values())
    command("train", *settings, "hydra.run.dir=bare", "figures=false", figures=True).ok()
    assert not (tmp_path / "bare" / "figures").exists()


def test_figures_of_nothing_are_a_mistake_and_of_damaged_files_a_failure(command, tmp_path):
    ended = command("figures", "nowhere")
    assert (ended.status, ended.err) == (2, "mfnet figures: error: nowhere: holds no run that has ended\n")
    damaged = tmp_path / "r"
    damaged.mkdir()
    (damaged / "history.csv").write_text("k,t\n0,0.0\n")
    (damaged / "summary.json").write_text("{")
    ended = command("figures", "r")
    assert ended.status == 1
    assert ended.err.startswith("mfnet figures: r: is damaged: ")
    assert "Traceback" not in ended.err


@pytest.mark.slow
def test_a_killed_sweep_goes_on_to_the_same_runs(command, tmp_path):
    """SIGKILL at a random moment, twice; then every file's content is that of a sweep that was left alone."""
    settings = ["train", "-m", "M=20", "seed=0,1", *SMALL, *NO_EVENTS]
    command(*settings, "alpha=1,1000", "hydra.sweep.dir=whole").ok()
    moments = random.Random(0)
    for n_before in (0, 1):
        sweep = Started(*settings, "alpha=1,1000", "hydra.sweep.dir=cut", cwd=tmp_path)
        sweep.wait_for(lambda n=n_before: len(runs(tmp_path / "cut")) > n)
        time.sleep(moments.uniform(0.0, 0.5))
        sweep.send(signal.SIGKILL)
        assert sweep.end().status == -signal.SIGKILL
    done = {run.summary: run.summary.stat().st_mtime_ns for run in runs(tmp_path / "cut").values()}
    assert 2 <= len(done) < 4
    last = started(*settings, "alpha=1,1000", "hydra.sweep.dir=cut", cwd=tmp_path).ok()
    assert f"4 runs in cut: {len(done)} complete" in last.out
    assert "4 of 4 runs complete" in last.out
    assert all(path.stat().st_mtime_ns == before for path, before in done.items())
    whole, cut = runs(tmp_path / "whole"), runs(tmp_path / "cut")
    assert len(cut) == len(whole) == 4
    for key, run in whole.items():
        assert cut[key].path.name == run.path.name
        assert_same_files(cut[key].path, run.path)

    more = command(*settings, "alpha=1,10,1000", "hydra.sweep.dir=cut").ok()
    assert "6 runs in cut: 4 complete, 2 new" in more.out
    assert all(path.stat().st_mtime_ns == before for path, before in done.items())
    assert len(runs(tmp_path / "cut")) == 6


FAILS = """
import os
from lightning.pytorch import Callback

class Fails(Callback):
    def __init__(self, seed):
        self.seed = seed
    def on_train_start(self, trainer, pl_module):
        if str(self.seed) == os.environ.get("FAILING"):
            raise RuntimeError(f"nothing is known of seed {self.seed}")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "start"), [([], started), (JOBLIB, cold)], ids=["basic", "joblib"])
def test_a_run_that_fails_is_named_and_does_not_stop_the_others(launcher, start, tmp_path):
    """Typed again it tries what has failed, by whatever launcher; and no run sees what another has set."""
    (tmp_path / "mine.py").write_text(FAILS)
    fails = "+callbacks.mine={_target_: mine.Fails, seed: '${seed}'}"
    settings = ["-m", "seed=0,1", "alpha=1e3,1", "hydra.sweep.dir=s"]
    settings += ["M=10", *SMALL, *NO_EVENTS, "schedule.t_max=5", fails]
    environment = {"PYTHONPATH": str(tmp_path), "FAILING": "1"}
    first = start("train", *settings, *launcher, cwd=tmp_path, environment=environment)
    assert first.status == 1
    assert "FAILED s/M10" in first.err  # when it happened
    assert "nothing is known of seed 1" in first.out  # and at the end
    assert "Traceback" not in first.out + first.err
    assert "2 of 4 runs complete" in first.out
    failed = list((tmp_path / "s").glob("*/error.log"))
    assert ["Traceback" in path.read_text() for path in failed] == [True, True]
    again = started("train", *settings, cwd=tmp_path, environment=environment | {"FAILING": "none"}).ok()
    assert "4 runs in s: 2 complete, 2 failed" in again.out
    assert not any(path.exists() for path in failed)
    found = {(*key, run.read_summary()["dtype"]) for key, run in runs(tmp_path / "s").items()}
    assert found == {(1e3, 0, "float64"), (1e3, 1, "float64"), (1.0, 0, "float32"), (1.0, 1, "float32")}
