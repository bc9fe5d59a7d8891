"""The command: predictions, mistakes, whole runs, runs that are cut off, sweeps."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mfnet.figures.experiments import EXPERIMENTS as WITH_FIGURES
from mfnet.run_directory import RunDirectory
from mfnet.series import SERIES

SMALL = ["M=40", "N=400", "d=20", "data.n_test=400", "trainer.accelerator=cpu"]
CONFIGURED = sorted(path.stem for path in (Path(__file__).parents[1] / "conf" / "experiment").glob("*.yaml"))
#: Those that no other test runs: tests/test_experiments.py has those with a figure, tests/test_real_runs.py real data.
EXPERIMENTS = [name for name in CONFIGURED if not name.startswith("realistic") and name not in WITH_FIGURES]


def mfnet(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "mfnet", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def succeed(*arguments, cwd):
    done = mfnet(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def history(directory):
    with (directory / "history.csv").open() as file:
        return list(csv.DictReader(file))


def summary(directory):
    return json.loads((directory / "summary.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run to its end, and what it printed."""
    cwd = tmp_path_factory.mktemp("run")
    printed = succeed("train", *SMALL, "hydra.run.dir=whole", cwd=cwd)
    return cwd / "whole", printed


def test_predict_writes_the_theory_alone(tmp_path):
    printed = succeed(
        "predict", "schedule=listed", "schedule.times=[1,10,100]", "data.flip=0.1", "hydra.run.dir=p", cwd=tmp_path
    )
    rows = history(tmp_path / "p")
    assert [float(row["t"]) for row in rows] == [0.0, 1.0, 10.0, 100.0]
    assert float(rows[3]["gamma_theory"]) == pytest.approx(2.03702533, rel=1e-6)
    assert not [name for name in rows[0] if name.endswith("_network")]
    assert float(rows[3]["gamma_theory_lo"]) < float(rows[3]["gamma_theory"]) < float(rows[3]["gamma_theory_hi"])
    assert "2.2059543" in printed  # where γ ends
    assert not (tmp_path / "p" / "summary.json").exists()


def test_a_run_leaves_every_file_of_the_contract(run):
    directory, printed = run
    for name in ("history.csv", "nodes.npz", "examples.npz", "summary.json", "checkpoints/last.ckpt"):
        assert (directory / name).stat().st_size > 0
    assert {path.name for path in (directory / "figures").iterdir()} == {"fig1.png", "errors.png"}
    assert {path.name for path in (directory / "tensorboard").iterdir()} == {"network", "theory", "final"}
    assert (directory / ".hydra" / "config.yaml").exists()
    rows = history(directory)
    for name in SERIES:
        assert {f"{name}_network", f"{name}_theory"} <= set(rows[0])
    assert [int(row["k"]) for row in rows] == list(range(len(rows)))
    assert float(rows[0]["loss_network"]) == 1.0
    assert float(rows[0]["test_error_network"]) == 0.5
    end = summary(directory)
    assert end["stop_reason"] == "all_satisfied"
    assert end["n_unsatisfied"] == 0
    assert end["t_end"] == float(rows[-1]["t"])
    assert end["config"]["M"] == 40
    assert set(end["agreement"]) == {"gamma", "unsatisfied", "loss", "train_error", "test_error", "displacement"}
    nodes = np.load(directory / "nodes.npz")
    assert nodes["a"].shape == nodes["w_perp_theory"].shape == (len(rows), 10)
    assert "smoothing=0" in printed
    assert "test_error" in printed


def test_the_displacement_is_that_of_the_last_checkpoint(run):
    saved = torch.load(run[0] / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    a, w, a0, w0 = (saved[f"network.{name}"].double() for name in ("a", "w", "a0", "w0"))
    expected = math.sqrt(((a - a0).square().sum() + (w - w0).square().sum()) / (a0.square().sum() + w0.square().sum()))
    assert float(history(run[0])[0]["displacement_network"]) == 0.0
    assert float(history(run[0])[-1]["displacement_network"]) == pytest.approx(expected, rel=1e-5)
    assert summary(run[0])["displacement"] == float(history(run[0])[-1]["displacement_network"])


def test_the_clock_follows_theory_while_all_are_unsatisfied(run):
    """At N = 400, d = 20, M = 40 the expected fluctuation of γ is of order √(d/N)/√M + 0.76/√N = 7 %."""
    rows = [row for row in history(run[0]) if float(row["unsatisfied_theory"]) > 0.99 and float(row["t"]) > 0]
    assert len(rows) > 10
    for row in rows:
        assert float(row["gamma_network"]) == pytest.approx(float(row["gamma_theory"]), rel=0.14)


def test_examples_are_satisfied_when_their_margin_says(run):
    """The number of followed examples with t_sat ≤ t is at least that of the satisfied ones, and all have one."""
    examples, rows = np.load(run[0] / "examples.npz"), history(run[0])
    assert np.isfinite(examples["t_sat"]).all()
    for row in rows:
        share = np.mean(examples["t_sat"] <= float(row["t"]) * (1 + 1e-12))
        assert share >= 1.0 - float(row["unsatisfied_network"]) - 1e-9


def test_tensorboard_holds_twin_runs(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tags = {}
    for side in ("network", "theory"):
        events = EventAccumulator(str(run[0] / "tensorboard" / side)).Reload()
        tags[side] = events.Tags()
        rows = history(run[0])
        logged = [event.value for event in events.Scalars("curves/gamma")]
        assert logged == pytest.approx([float(row[f"gamma_{side}"]) for row in rows], rel=1e-6)
        assert len(events.Scalars("node_a/3")) == len(rows)
    assert set(tags["theory"]["scalars"]) < set(tags["network"]["scalars"])
    assert "nodes/w_par" in tags["network"]["histograms"]
    assert "figures/fig1" in tags["network"]["images"]
    end = EventAccumulator(str(run[0] / "tensorboard" / "final")).Reload()
    assert end.Scalars("final/test_error")[0].value == pytest.approx(summary(run[0])["test_error"])


MISTAKES = [
    (["alpha=-1"], "alpha=-1"),
    (["alpha=inf"], "alpha=inf"),
    (["alpha=abc"], "alpha=abc"),
    (["alhpa=1"], "did you mean alpha"),
    (["+foo=1"], "foo=1"),
    (["+flow.foo=1"], "flow.foo=1"),
    (["d=1"], "d=1"),
    (["M=0"], "M=0"),
    (["M=1.5"], "M=1.5"),
    (["N=0"], "N=0"),
    (["h=0"], "h=0"),
    (["data.flip=0.5"], "data.flip=0.5"),
    (["schedule.t_max=0"], "schedule.t_max=0"),
    (["schedule=listed", "schedule.times=[0]"], "not all 0"),
    (["data=nope"], "must be one of binary, breast_cancer, "),
    (["data=radial", "data.radius.name=norm"], "data.radius"),
    (["network.activation=gelu", "flow=rotation"], "use flow=averaged"),
    (["network.activation=gelu", "flow=adaptive_rotation"], "use flow=averaged"),
    (["flow.rtol=0"], "flow.rtol=0"),
    (["network.a_std=0"], "network.a_std=0"),
    (["data=elongated", "data.stretch=-1"], "data.stretch=-1"),
    (["theory=linear_closure", "theory.resolution=0"], "resolution=0"),
    (["theory=kernel_flow", "theory.rtol=-1"], "rtol=-1"),
    (["overlay=[laziness]", "network.activation=gelu"], "homogeneous activation"),
    (["overlay=[nope]"], "must be one of"),
    (["overlay=[kernel_closure]", "trainer.devices=2", "trainer.divide=nodes"], "trainer.divide=rows"),
    (["overlay=[laziness]", "trainer.devices=2", "trainer.divide=nodes"], "trainer.divide=rows"),
    (["overlay=[baselines]", "replicas=2"], "use replicas=1"),
    (["flow.dt=1"], "flow.dt"),
    (["stop.satisfied=1.5"], "stop.satisfied=1.5"),
    (["stop.test_error_rise=0.5"], "stop.test_error_rise=0.5"),
    (["flow._target_=no.such.Flow"], "no.such.Flow"),
    (["trainer.precision=half"], "trainer.precision=half"),
    (["N=1000000000", "d=10000"], "GiB"),
    (["hydra.run.dir=taken"], "hydra.run.dir=taken"),
    (["ckpt=missing.ckpt"], "ckpt=missing.ckpt"),
    (["ckpt=taken/foreign.ckpt"], "ckpt=taken/foreign.ckpt"),
    (["alpha=1,2"], "--multirun"),
    (["-m", "alpha=1,-1"], "alpha=-1"),
    (["-m", "alpha=1,2", "hydra.sweep.dir=taken/foreign.ckpt"], "is a file"),
    (["-m", "alpha=1,1.0"], "ask for it once"),
    (["-m", "alpha=range(0)"], "the sweep is empty"),
    (["-m", "alhpa=1,2"], "did you mean alpha"),
    (["-m", "alpha=1,2", "ckpt=taken/foreign.ckpt"], "leave out ckpt"),
]


@pytest.mark.parametrize(("arguments", "expected"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_costs_one_line_and_nothing_else(arguments, expected, tmp_path, monkeypatch, capsys):
    from mfnet.cli import main

    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "foreign.ckpt").write_bytes(b"not a checkpoint")
    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments]) == 2
    printed = capsys.readouterr()
    assert expected in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "foreign.ckpt"]


def test_a_gpu_that_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    import torch

    from mfnet.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["train", "trainer.accelerator=gpu"]) == 2
    assert "trainer.accelerator=gpu" in capsys.readouterr().err


def test_an_interruption_before_a_run_has_begun_costs_one_line(tmp_path, monkeypatch, capsys):
    import mfnet.cli

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mfnet.cli, "launch", interrupt)
    assert mfnet.cli.main(["train"]) == 130
    assert capsys.readouterr().err == "mfnet: interrupted\n"


def test_help_and_unknown_commands(capsys):
    from mfnet.cli import main

    assert main(["--help"]) == 0
    assert "mfnet train -m" in capsys.readouterr().out
    assert main(["trian"]) == 2
    assert "train, predict, reproduce, collect, validate" in capsys.readouterr().err


def test_a_run_that_diverges_keeps_what_it_saw(tmp_path):
    done = mfnet("train", *SMALL, "flow=euler", "flow.dt=50", "loss=square", "hydra.run.dir=r", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert summary(tmp_path / "r")["stop_reason"] == "diverged"
    rows = history(tmp_path / "r")
    assert len(rows) > 3
    assert all(np.isfinite(float(row["loss_network"])) for row in rows)
    assert (tmp_path / "r" / "figures" / "fig1.png").exists()


@pytest.mark.parametrize(
    "flow",
    [
        ["flow=averaged", "flow.rtol=0.001", "schedule.per_decade=64"],
        ["flow=rotation", "flow.dt=0.02"],
        ["flow=adam", "flow.dt=0.02", "flow.optimizer.lr=0.001"],
    ],
)
def test_a_killed_run_goes_on_to_the_same_history(flow, tmp_path):
    """SIGKILL in the middle, then ckpt=…: history, nodes and examples are those of a run that was left alone."""
    settings = ["M=100", "N=2000", "d=50", "data.n_test=500", "schedule.t_max=60", *flow]
    succeed("train", *settings, "hydra.run.dir=whole", cwd=tmp_path)
    command = [sys.executable, "-m", "mfnet", "train", *settings, "hydra.run.dir=cut"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log, rows = tmp_path / "cut" / "history.csv", len(history(tmp_path / "whole"))
    deadline = time.monotonic() + 120.0
    while not (log.exists() and len(history(tmp_path / "cut")) > 0.7 * rows):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(history(tmp_path / "cut")) < rows
    assert not (tmp_path / "cut" / "summary.json").exists()
    succeed("train", "ckpt=cut/checkpoints/last.ckpt", cwd=tmp_path)
    assert (tmp_path / "cut" / "history.csv").read_bytes() == (tmp_path / "whole" / "history.csv").read_bytes()
    for name in ("nodes.npz", "examples.npz"):
        ours, theirs = np.load(tmp_path / "cut" / name), np.load(tmp_path / "whole" / name)
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)
    assert summary(tmp_path / "cut")["steps"] == summary(tmp_path / "whole")["steps"]


def test_an_ended_run_goes_on_only_if_it_is_extended(tmp_path):
    succeed("train", *SMALL, "schedule.t_max=2", "hydra.run.dir=r", cwd=tmp_path)
    again = mfnet("train", "ckpt=r/checkpoints/last.ckpt", cwd=tmp_path)
    assert again.returncode == 2
    assert "raise schedule.t_max" in again.stderr
    other = mfnet("train", "ckpt=r/checkpoints/last.ckpt", "alpha=2", cwd=tmp_path)
    assert other.returncode == 2
    assert "alpha=2" in other.stderr
    before = history(tmp_path / "r")
    succeed("train", "ckpt=r/checkpoints/last.ckpt", "schedule.t_max=4", cwd=tmp_path)
    rows = history(tmp_path / "r")
    assert rows[: len(before)] == before
    assert float(rows[-1]["t"]) == 4.0
    assert summary(tmp_path / "r")["stop_reason"] == "t_max"


ENDS = [
    (["stop.satisfied=0.5"], "enough_satisfied", lambda end, rows: end["n_unsatisfied"] <= 200),
    (["stop.wall_seconds=0.001"], "wall_time", lambda end, rows: end["t_end"] < 1.0),
    (
        ["data.flip=0.2", "stop.test_error_rise=1.2", "M=100"],
        "test_error_rose",
        lambda end, rows: end["test_error"] > 1.2 * min(float(row["test_error_network"]) for row in rows),
    ),
    (
        ["data.flip=0.2", "stop.stationary=0.2", "schedule.t_max=1e4"],
        "stationary",
        lambda end, rows: float(rows[-1]["gamma_network"]) == pytest.approx(float(rows[-2]["gamma_network"]), rel=0.2),
    ),
]


@pytest.mark.parametrize(("settings", "reason", "holds"), ENDS, ids=[reason for _, reason, _ in ENDS])
def test_a_run_ends_by_the_rule_it_was_given(settings, reason, holds, tmp_path):
    succeed("train", "M=40", "N=400", "d=20", "data.n_test=1000", *settings, "hydra.run.dir=r", cwd=tmp_path)
    end = summary(tmp_path / "r")
    assert end["stop_reason"] == reason
    assert holds(end, history(tmp_path / "r"))


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]])
def test_a_sweep_leaves_a_directory_for_each_run(launcher, tmp_path):
    small = ["N=200", "d=10", "data.n_test=100", "schedule.per_decade=4"]
    succeed("train", "-m", "alpha=1e-3,1,1e3", "M=10,20", *small, *launcher, "hydra.sweep.dir=sweep", cwd=tmp_path)
    runs = [path.parent for path in (tmp_path / "sweep").glob("*/summary.json")]
    assert len(runs) == 6
    found = {(summary(run)["config"]["alpha"], summary(run)["config"]["M"], summary(run)["dtype"]) for run in runs}
    expected = {(1e-3, "float32"), (1.0, "float32"), (1e3, "float64")}
    assert found == {(alpha, M, dtype) for alpha, dtype in expected for M in (10, 20)}
    assert all((run / "figures" / "fig1.png").exists() for run in runs)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs_small(experiment, tmp_path):
    small = ["schedule.t_min=null", "schedule.t_max=null", "schedule.per_decade=4"]
    succeed("train", f"experiment={experiment}", *SMALL, *small, "hydra.run.dir=r", cwd=tmp_path)
    assert summary(tmp_path / "r")["stop_reason"] in ("t_max", "all_satisfied")


CHOICES = [
    ["data=sphere", "loss=squared_hinge"],
    ["data=radial", "loss=logistic", "data.direction=axis"],
    ["flow=euler", "network.activation=gelu", "loss=square"],
    ["flow=sgd", "theory=mean_field", "data.flip=0.1"],
    ["theory=none", "trainer.tensorboard=false", "schedule=listed", "schedule.times=[0.5,2]"],
]


@pytest.mark.parametrize("choices", CHOICES, ids=" ".join)
def test_every_choice_runs(choices, tmp_path):
    short = [] if "schedule=listed" in choices else ["schedule.t_max=5", "schedule.t_min=0.5"]
    succeed("train", *SMALL, *choices, *short, "hydra.run.dir=r", cwd=tmp_path)
    end = summary(tmp_path / "r")
    assert end["stop_reason"] == "t_max"
    assert end["loss"] < 1.0


MY_THEORY = """
import numpy as np
from mfnet.theory import Curve, Theory

class Straight(Theory):
    def __init__(self, speed):
        self.speed = speed
    def series(self, t):
        return {"gamma": Curve(self.speed * np.asarray(t))}
"""


def test_a_users_own_theory_is_overlaid_beside_ours(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MY_THEORY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    theory = "{_target_: mine.Straight, speed: 0.1}"
    overlay = "+callbacks.mine={_target_: mfnet.training.TheoryOverlay, name: mine, theory: " + theory + "}"
    succeed("train", *SMALL, "schedule.t_max=1", overlay, "hydra.run.dir=r", cwd=tmp_path)
    rows = history(tmp_path / "r")
    assert float(rows[-1]["gamma_mine"]) == pytest.approx(0.1)
    assert "gamma_theory" in rows[-1]
    assert "agreement_mine" in summary(tmp_path / "r")
    assert (tmp_path / "r" / "tensorboard" / "mine").is_dir()


def test_more_theories_are_laid_over_a_run(tmp_path):
    """Each has its columns, its run in TensorBoard and its agreement; without them there is no trace of any."""
    overlay = "overlay=[realised_width,linear_closure,kernel_closure,kernel_flow,mean_field,laziness]"
    done = mfnet("train", *SMALL, overlay, "hydra.run.dir=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = ["realised_width", "linear_closure", "kernel_closure", "kernel_flow", "mean_field"]
    history, summary = RunDirectory(tmp_path / "r").read_history(), RunDirectory(tmp_path / "r").read_summary()
    for name in names:
        assert np.isfinite(history[f"test_error_{name}"]).all()
        assert "test_error" in summary[f"agreement_{name}"]
        assert (tmp_path / "r" / "tensorboard" / name).is_dir()
    assert {"kernel_change_network", "kernel_alignment_moving_kernel"} <= set(history)
    assert set(summary["trust"]) == {"mean_field", "finite_width", "linear_closure", "kernel_closure", "kernel_flow"}
    done = mfnet("train", *SMALL, "hydra.run.dir=plain", cwd=tmp_path)
    plain = RunDirectory(tmp_path / "plain").read_history()
    assert not [column for column in plain if column.endswith(tuple(names)) or column.startswith("kernel")]


def test_predict_draws_for_a_theory_of_one_run(tmp_path):
    """The very curves that a run with the same settings is given."""
    assert mfnet("predict", *SMALL, "theory=kernel_closure", "hydra.run.dir=p", cwd=tmp_path).returncode == 0
    assert mfnet("train", *SMALL, "theory=kernel_closure", "hydra.run.dir=t", cwd=tmp_path).returncode == 0
    predicted, trained = (RunDirectory(tmp_path / name).read_history() for name in "pt")
    shared = predicted["t"][:-1] < trained["t"][-1]  # the training ends where all are satisfied
    assert shared.sum() > 20
    for name in ("gamma", "loss"):
        expected = trained[f"{name}_theory"][: len(predicted["t"]) - 1][shared[: len(trained["t"])]]
        np.testing.assert_allclose(predicted[f"{name}_theory"][:-1][shared], expected, rtol=1e-3)
