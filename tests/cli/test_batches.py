"""Sweeps whose runs are trained together: what each leaves, and what becomes of those that are cut off."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import psutil
import pytest

import mfnet
import mfnet.cli.sweep
from mfnet.cli.jobs import Job
from mfnet.cli.parts import Plan, at_a_time
from mfnet.record.directory import RunDirectory
from mfnet.setup.setup import Setup
from support.command import NO_EVENTS, summary
from support.processes import PATIENCE, Started, cold, started

TINY = [
    "M=20",
    "N=80",
    "d=6",
    "data.n_test=100",
    "schedule.per_decade=4",
    "schedule.t_max=5",
    "trainer.accelerator=cpu",
]
TINY += ["trainer.precision=float64", *NO_EVENTS]
SWEPT = ["alpha=0.3,10", "seed=range(3)", "data.flip=0,0.1"]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def assert_same_sweep(ours, theirs):
    """That two directories hold the same runs, whose numbers agree to what rounding becomes on the way."""
    names = [sorted(path.name for path in root.iterdir() if path.is_dir()) for root in (ours, theirs)]
    assert names[0] == names[1]
    for name in names[0]:
        files = [sorted(str(p.relative_to(root / name)) for p in (root / name).rglob("*")) for root in (ours, theirs)]
        assert files[0] == files[1]
        found, expected = (RunDirectory(root / name).read() for root in (ours, theirs))
        assert list(found.history) == list(expected.history)
        for column, values in expected.history.items():
            assert found.history[column] == pytest.approx(values, rel=1e-7, abs=1e-9, nan_ok=True), column
        for key in ("identity", "stop_reason", "config"):
            assert found.summary[key] == expected.summary[key]


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """A sweep of the same runs, one after the other."""
    from support.command import call

    cwd = tmp_path_factory.mktemp("apart")
    call("train", "-m", *TINY, *SWEPT, "batch=false", "hydra.sweep.dir=s", cwd=cwd).ok()
    return cwd / "s"


def test_a_sweep_is_a_batch_and_leaves_what_single_runs_leave(apart, command, tmp_path):
    done = command("train", "-m", *TINY, *SWEPT, "hydra.sweep.dir=s").ok()
    first, *_, last, _ = done.out.splitlines()
    assert first.startswith("12 runs in s: 12 new; 12 side by side in one batch; about ")
    assert last == "12 of 12 runs complete in s"
    assert done.out.count("ended by") == 12
    assert_same_sweep(tmp_path / "s", apart)
    again = command("train", "-m", *TINY, *SWEPT, "hydra.sweep.dir=s").ok()
    assert again.out.splitlines()[0] == "12 runs in s: 12 complete"


def test_what_does_not_fit_is_started_alone(command):
    out = command("train", "-m", *TINY, "seed=0,1", "M=20,24", "flow=averaged,sgd", "flow.dt=null").out
    assert out == ""  # a setting that only one of the flows takes
    out = command("train", "-m", *TINY, "seed=0,1", "M=20,24", "flow=averaged,sgd").ok().out
    assert out.startswith("8 runs in multirun: 8 new; 4 side by side in 2 batches, 4 alone; about ")
    assert out.count("2 runs side by side") == 2
    out = command("train", "-m", *TINY, "seed=2,3", "objective=test_error").ok().out
    assert out.startswith("2 runs in multirun: 2 new; about ")
    assert "side by side" not in out


def test_a_run_that_another_process_works_at_is_left_to_it(command, tmp_path):
    settings = ["train", "-m", *TINY, "seed=0,1,2", "hydra.sweep.dir=s"]
    command(*settings[:-1], "hydra.sweep.dir=names").ok()
    names = sorted(path.name for path in (tmp_path / "names").iterdir() if path.is_dir())
    taken = RunDirectory(tmp_path / "s" / names[1])
    taken.path.mkdir(parents=True)
    with taken.lock():
        ended = command(*settings)
    assert ended.status == 1
    assert ended.err.count("another process is at work on this run") == 1
    assert "2 of 3 runs complete in s" in ended.out
    assert not taken.history.exists()
    assert "3 of 3 runs complete" in command(*settings).ok().out


def test_a_failure_is_told_and_kept_and_tried_again(command, tmp_path):
    settings = ["train", "-m", *TINY, "seed=0,1,2"]
    write = RunDirectory.write_arrays

    def full(directory, name, arrays):
        if "seed1" in str(directory.path):
            raise OSError(28, "No space left on device")
        write(directory, name, arrays)

    with mock.patch.object(RunDirectory, "write_arrays", full):
        ended = command(*settings)
    assert ended.status == 1
    assert ended.err.count("mfnet: FAILED multirun/") == 1
    assert "2 of 3 runs complete" in ended.out
    assert "No space left" in ended.out
    (log,) = (tmp_path / "multirun").glob("*/error.log")
    assert "Traceback" in log.read_text()
    again = command(*settings).ok()
    assert again.out.startswith("3 runs in multirun: 2 complete, 1 failed; about ")
    assert not log.exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_batch_goes_on_to_the_table_of_one_that_was_left_alone(seed, apart, tmp_path):
    """SIGKILL at a random moment, three times."""
    settings = ["train", "-m", *TINY, *SWEPT, "hydra.sweep.dir=s"]
    moments, begun = random.Random(seed), time.monotonic()
    for n in range(3):
        sweep = Started(*settings, cwd=tmp_path, environment={"OMP_NUM_THREADS": "1"})
        sweep.wait_for(lambda n=n: len(list(tmp_path.glob("s/*/checkpoints/last.ckpt"))) > 2 * n)
        time.sleep(moments.uniform(0.0, 0.1 * (time.monotonic() - begun) / (n + 1)))
        sweep.send(signal.SIGKILL)
        sweep.end()
    done = started(*settings, cwd=tmp_path).ok()
    assert "12 of 12 runs complete" in done.out
    assert_same_sweep(tmp_path / "s", apart)
    ours, theirs = (mfnet.collect(root).history for root in (tmp_path / "s", apart))
    assert len(ours) == len(theirs)


@pytest.mark.slow
def test_batches_are_shared_out_by_a_launcher(apart, tmp_path):
    done = cold("train", "-m", *TINY, *SWEPT, *JOBLIB, "hydra.sweep.dir=s", cwd=tmp_path).ok()
    assert done.out.startswith("12 runs in s: 12 new; 12 side by side in 2 batches, 2 at a time; about ")
    assert_same_sweep(tmp_path / "s", apart)


# ---------------------------------------------------------------- processes of this machine

TWO = {"OMP_NUM_THREADS": "2"}

two_cores = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="this machine has one core, or is no Linux"
)


@pytest.mark.slow
@two_cores
def test_batches_are_shared_out_among_cores(apart, tmp_path):
    done = cold("train", "-m", *TINY, *SWEPT, "hydra.sweep.dir=s", cwd=tmp_path, environment=TWO).ok()
    assert "12 side by side in 2 batches, 2 at a time" in done.out
    assert done.out.count("6 runs side by side") == 2
    assert done.out.count("ended by") == 12
    assert_same_sweep(tmp_path / "s", apart)


@pytest.mark.slow
@two_cores
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_copies_end_with_the_process_that_has_made_them(number, status, tmp_path):
    """However it ends; they keep what they have seen, and the same command goes on."""
    long = [*TINY[:-1], "schedule.t_max=1e5", "schedule.per_decade=30", "data.flip=0.2", "flow=rotation", "flow.dt=0.1"]
    settings = ["train", "-m", *long, *NO_EVENTS, "seed=range(12)", "hydra.sweep.dir=s"]
    words = [sys.executable, "-m", "mfnet", *settings]
    deadline = time.monotonic() + PATIENCE
    with subprocess.Popen(words, cwd=tmp_path, env={**os.environ, **TWO}, stdout=subprocess.DEVNULL) as sweep:
        while len(list(tmp_path.glob("s/*/checkpoints/last.ckpt"))) < 12:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (copy,) = psutil.Process(sweep.pid).children()
        sweep.send_signal(number)
        assert sweep.wait(PATIENCE) == status
    while copy.is_running() and copy.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ends = [summary(path.parent)["stop_reason"] for path in tmp_path.glob("s/*/summary.json")]
    assert set(ends) == {"interrupted"}
    assert len(ends) == (12 if number == signal.SIGTERM else 6)
    assert not list(tmp_path.glob("s/*/error.log"))


@pytest.mark.slow
@two_cores
def test_runs_alone_are_shared_out_among_cores(apart, tmp_path):
    done = cold("train", "-m", *TINY, *SWEPT, "batch=false", "hydra.sweep.dir=s", cwd=tmp_path, environment=TWO).ok()
    assert done.out.startswith("12 runs in s: 12 new; 2 at a time; about ")
    assert done.out.count("ended by") == 12
    assert "side by side" not in done.out
    assert_same_sweep(tmp_path / "s", apart)


@pytest.mark.slow
@two_cores
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_runs_alone_that_are_cut_off_go_on(number, apart, tmp_path):
    settings = ["train", "-m", *TINY, *SWEPT, "batch=false", "hydra.sweep.dir=s"]
    sweep = Started(*settings, cwd=tmp_path, environment=TWO)
    sweep.wait_for(lambda: len(list(tmp_path.glob("s/*/checkpoints/last.ckpt"))) > 3)
    sweep.send(number)
    sweep.end()
    done = cold(*settings, cwd=tmp_path, environment=TWO).ok()
    assert "12 of 12 runs complete" in done.out
    assert_same_sweep(tmp_path / "s", apart)


LARGE, SMALL = {"N": 3000, "M": 200, "d": 80}, {"N": 80, "M": 20, "d": 6}


@pytest.mark.parametrize(
    ("alone", "batches", "workers", "expected"),
    [
        (SMALL, [], 1, 1),
        (SMALL, [], 16, 3),
        (LARGE, [], 2, 2),
        (LARGE, [], 4, 1),
        (LARGE, [4, 4], 4, 4),
        (None, [4, 4], 16, 2),
        ({"N": 10**9, "M": 20, "d": 400}, [4, 4], 4, 1),
    ],
)
def test_as_many_parts_are_started_at_a_time_as_there_is_room_for(alone, batches, workers, expected):
    """Three runs alone, or none, and batches; few large runs take all cores, one after the other."""

    def plan(settings):
        setup = dataclasses.replace(Setup.of(**SMALL), **settings)
        return Plan(Job([], dict, setup, Path(), Path()), None, 10, 30.0)

    parts = [[plan(SMALL)] * n for n in batches] + ([[plan(alone)]] * 3 if alone else [])
    assert at_a_time(parts, workers) == expected


# ---------------------------------------------------------------- more runs than are composed at once


def test_of_very_many_runs_some_are_composed_at_a_time(command, monkeypatch, tmp_path):
    monkeypatch.setattr(mfnet.cli.sweep, "AT_ONCE", 4)
    out = command("train", "-m", *TINY, "seed=range(3)", "alpha=1,2").ok().out
    assert out.startswith("6 runs in multirun: 4 at a time are composed, checked and started\n")
    assert [line for line in out.splitlines() if line.startswith("runs ")] == ["runs 1 to 4 of 6", "runs 5 to 6 of 6"]
    assert out.splitlines()[-1] == "6 runs in multirun: 6 complete"
    assert len(list((tmp_path / "multirun").glob("*/summary.json"))) == 6
    again = command("train", "-m", *TINY, "alpha=1,2", "seed=range(3)").ok().out  # ends of settings are among the first
    assert again.splitlines()[-1] == "6 runs in multirun: 6 complete"


@pytest.mark.parametrize("wrong", ["seed=0,1,2,3,4,-1", "alpha=1,2,3,4,5,-1", "M=10,11,12,-1"])
def test_a_mistake_at_the_end_of_very_many_is_told_before_any_starts(wrong, command, monkeypatch, tmp_path):
    monkeypatch.setattr(mfnet.cli.sweep, "AT_ONCE", 4)
    ended = command("train", "-m", *TINY, "h=range(1,4)", wrong)
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert "=-1: must be" in ended.err
    assert not list(tmp_path.iterdir())


def test_a_million_runs_are_said_at_once(command, monkeypatch):
    """Nothing is made of each before that."""
    monkeypatch.setattr(mfnet.cli.sweep, "planned", mock.Mock(side_effect=KeyboardInterrupt))
    out = command("train", "-m", *TINY, "seed=range(1000000)").out
    assert out == "1000000 runs in multirun: 1000 at a time are composed, checked and started\n"
