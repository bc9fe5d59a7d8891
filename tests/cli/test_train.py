"""Whole runs: what they leave, how they end, and every choice of a group."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mfnet.compute.seeding import generator
from mfnet.data import SphericalData
from mfnet.figures.experiments import EXPERIMENTS as WITH_FIGURES
from mfnet.network import MeanFieldNetwork
from mfnet.network.tangent_kernel import kernel_motion, tangent_kernel
from mfnet.record.series import SERIES
from support.command import NO_EVENTS, SMALL, call, columns, rows, summary
from support.shared import made_once

CONFIGURED = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "experiment").glob("*.yaml"))
#: Those that no other test runs: test_reproduce.py has those with a figure, test_real_data.py those on real data.
EXPERIMENTS = [name for name in CONFIGURED if not name.startswith("realistic") and name not in WITH_FIGURES]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run to its end with all that it draws, and what it printed."""

    def make(cwd):
        settings = [*SMALL, "schedule.per_decade=16", "hydra.run.dir=whole"]
        (cwd / "printed").write_text(call("train", *settings, cwd=cwd, figures=True).ok().out)

    cwd = made_once(tmp_path_factory, "run", make)
    return cwd / "whole", (cwd / "printed").read_text()


def test_a_run_leaves_every_file_of_the_contract(run):
    directory, printed = run
    for name in ("history.csv", "nodes.npz", "examples.npz", "summary.json", "checkpoints/last.ckpt"):
        assert (directory / name).stat().st_size > 0
    assert {path.name for path in (directory / "figures").iterdir()} == {"fig1.png", "errors.png"}
    assert {path.name for path in (directory / "tensorboard").iterdir()} == {"network", "theory", "final"}
    assert (directory / ".hydra" / "config.yaml").exists()
    history = rows(directory)
    for name in SERIES:
        assert {f"{name}_network", f"{name}_theory"} <= set(history[0])
    assert [row["k"] for row in history] == list(range(len(history)))
    assert history[0]["loss_network"] == 1.0
    assert history[0]["test_error_network"] == 0.5
    end = summary(directory)
    assert end["stop_reason"] == "all_satisfied"
    assert end["n_unsatisfied"] == 0
    assert end["t_end"] == history[-1]["t"]
    assert end["config"]["M"] == 40
    assert set(end["agreement"]) == {"gamma", "unsatisfied", "loss", "train_error", "test_error", "displacement"}
    nodes = np.load(directory / "nodes.npz")
    assert nodes["a"].shape == nodes["w_perp_theory"].shape == (len(history), 10)
    assert "smoothing=0" in printed
    assert "test_error" in printed


def test_the_displacement_is_that_of_the_last_checkpoint(run):
    saved = torch.load(run[0] / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    a, w, a0, w0 = (saved[f"network.{name}"].double() for name in ("a", "w", "a0", "w0"))
    expected = math.sqrt(((a - a0).square().sum() + (w - w0).square().sum()) / (a0.square().sum() + w0.square().sum()))
    displacement = columns(run[0])["displacement_network"]
    assert displacement[0] == 0.0
    assert displacement[-1] == pytest.approx(expected, rel=1e-5)
    assert summary(run[0])["displacement"] == displacement[-1]


def test_the_clock_follows_theory_while_all_are_unsatisfied(run):
    """At N = 400, d = 20, M = 40 the expected fluctuation of γ is of order √(d/N)/√M + 0.76/√N = 7 %."""
    early = [row for row in rows(run[0]) if row["unsatisfied_theory"] > 0.99 and row["t"] > 0.0]
    assert len(early) > 10
    for row in early:
        assert row["gamma_network"] == pytest.approx(row["gamma_theory"], rel=0.14)


def test_examples_are_satisfied_when_their_margin_says(run):
    """The number of followed examples with t_sat ≤ t is at least that of the satisfied ones, and all have one."""
    examples = np.load(run[0] / "examples.npz")
    assert np.isfinite(examples["t_sat"]).all()
    for row in rows(run[0]):
        share = np.mean(examples["t_sat"] <= row["t"] * (1 + 1e-12))
        assert share >= 1.0 - row["unsatisfied_network"] - 1e-9


def test_tensorboard_holds_twin_runs(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tags, history = {}, columns(run[0])
    for side in ("network", "theory"):
        events = EventAccumulator(str(run[0] / "tensorboard" / side)).Reload()
        tags[side] = events.Tags()
        logged = [event.value for event in events.Scalars("clock/gamma")]
        assert logged == pytest.approx(history[f"gamma_{side}"], rel=1e-6)
        assert len(events.Scalars("node_a/3")) == len(history["t"])
    shared = {tag for tag in tags["theory"]["scalars"] if "outside" not in tag}  # which is observed if one asks for it
    assert shared < set(tags["network"]["scalars"])
    assert "nodes/w_par" in tags["network"]["histograms"]
    assert "figures/fig1" in tags["network"]["images"]
    end = EventAccumulator(str(run[0] / "tensorboard" / "final")).Reload()
    assert end.Scalars("final/test_error")[0].value == pytest.approx(summary(run[0])["test_error"])


def test_a_run_that_diverges_keeps_what_it_saw(command, tmp_path):
    settings = [*SMALL, *NO_EVENTS, "flow=euler", "flow.dt=50", "loss=square", "hydra.run.dir=r"]
    ended = command("train", *settings, figures=True)
    assert ended.status == 1
    assert "Traceback" not in ended.err
    assert summary(tmp_path / "r")["stop_reason"] == "diverged"
    seen = rows(tmp_path / "r")
    assert len(seen) > 3
    assert all(np.isfinite(row["loss_network"]) for row in seen)
    assert (tmp_path / "r" / "figures" / "fig1.png").exists()


ENDS = [
    (["stop.satisfied=0.5"], "enough_satisfied", lambda end, rows: end["n_unsatisfied"] <= 200),
    (["stop.wall_seconds=0.001"], "wall_time", lambda end, rows: end["t_end"] < 1.0),
    (
        ["data.flip=0.2", "stop.test_error_rise=1.2", "M=100"],
        "test_error_rose",
        lambda end, rows: end["test_error"] > 1.2 * min(row["test_error_network"] for row in rows),
    ),
    (
        ["data.flip=0.2", "stop.stationary=0.2", "schedule.t_max=1e4"],
        "stationary",
        lambda end, rows: rows[-1]["gamma_network"] == pytest.approx(rows[-2]["gamma_network"], rel=0.2),
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "reason", "holds"), ENDS, ids=[reason for _, reason, _ in ENDS])
def test_a_run_ends_by_the_rule_it_was_given(settings, reason, holds, command, tmp_path):
    small = ["M=40", "N=400", "d=20", "data.n_test=1000", *NO_EVENTS]
    command("train", *small, *settings, "hydra.run.dir=r").ok()
    end = summary(tmp_path / "r")
    assert end["stop_reason"] == reason
    assert holds(end, rows(tmp_path / "r"))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs_small(experiment, command, tmp_path):
    small = [*SMALL, *NO_EVENTS, "schedule.t_min=null", "schedule.t_max=null"]
    command("train", f"experiment={experiment}", *small, "hydra.run.dir=r").ok()
    assert summary(tmp_path / "r")["stop_reason"] in ("t_max", "all_satisfied")


CHOICES = [
    ["data=sphere", "loss=squared_hinge"],
    ["data=radial", "loss=logistic", "data.direction=axis"],
    ["flow=euler", "network.activation=gelu", "loss=square"],
    ["flow=sgd", "theory=mean_field", "data.flip=0.1"],
    ["theory=none"],
]


@pytest.mark.slow
@pytest.mark.parametrize("choices", CHOICES, ids=" ".join)
def test_every_choice_runs(choices, command, tmp_path):
    short = ["schedule.t_max=5", "schedule.t_min=0.5"]
    command("train", *SMALL, *NO_EVENTS, *choices, *short, "hydra.run.dir=r", figures=True).ok()
    end = summary(tmp_path / "r")
    assert end["stop_reason"] == "t_max"
    assert end["loss"] < 1.0
    assert (tmp_path / "r" / "figures" / "fig1.png").exists()


MY_THEORY = """
import numpy as np
from mfnet.theory import Curve, Theory

class Straight(Theory):
    def __init__(self, speed):
        self.speed = speed
    def series(self, t):
        return {"gamma": Curve(self.speed * np.asarray(t))}
"""


def test_a_users_own_theory_is_overlaid_beside_ours(command, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MY_THEORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    overlay = "+overlay.mine={_target_: mine.Straight, speed: 0.1}"
    command("train", *SMALL, "schedule.t_max=1", overlay, "hydra.run.dir=r").ok()
    last = rows(tmp_path / "r")[-1]
    assert last["gamma_mine"] == pytest.approx(0.1)
    assert "gamma_theory" in last
    assert "agreement_mine" in summary(tmp_path / "r")
    assert (tmp_path / "r" / "tensorboard" / "mine").is_dir()


@pytest.mark.slow
def test_more_theories_are_laid_over_a_run(run, command, tmp_path):
    """Each has its columns, its run in TensorBoard and its agreement; without them there is no trace of any."""
    overlay = "overlay=[realised_width,linear_closure,kernel_closure,kernel_flow,mean_field,laziness]"
    command("train", *SMALL, overlay, "hydra.run.dir=r", figures=True).ok()
    names = ["realised_width", "linear_closure", "kernel_closure", "kernel_flow", "mean_field"]
    history, end = columns(tmp_path / "r"), summary(tmp_path / "r")
    for name in names:
        assert np.isfinite(history[f"test_error_{name}"]).all()
        assert "test_error" in end[f"agreement_{name}"]
        assert (tmp_path / "r" / "tensorboard" / name).is_dir()
    assert {"kernel_change_network", "kernel_alignment_moving_kernel"} <= set(history)
    widths = {"mean_field", "finite_width", "realised_width"}
    assert set(end["trust"]) == widths | {"finite_samples", "linear_closure", "kernel_closure", "kernel_flow"}
    plain = columns(run[0])
    assert not [column for column in plain if column.endswith(tuple(names)) or column.startswith("kernel")]


@pytest.mark.slow
def test_a_run_logs_its_kernel_and_goes_on(command, tmp_path):
    """Both series are in the history, also behind a resume, where K₀ comes from the checkpoint's initial nodes."""
    log = "+callbacks.kernel_log={_target_: mfnet.training.KernelLog, n: 150}"
    command("train", *SMALL, "schedule.t_max=2", log, "hydra.run.dir=r").ok()
    before = rows(tmp_path / "r")
    assert before[0]["kernel_change_network"] == 0.0
    assert before[0]["kernel_alignment_network"] == pytest.approx(1.0, abs=1e-12)
    command("train", "ckpt=r/checkpoints/last.ckpt", "schedule.t_max=4").ok()
    after = rows(tmp_path / "r")
    assert after[: len(before)] == before
    assert list((tmp_path / "r" / "tensorboard").rglob("events*"))
    saved = torch.load(tmp_path / "r" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    network = MeanFieldNetwork(40, 20, generator=generator(0, "network"))
    network.load_state_dict({name.removeprefix("network."): v for name, v in saved.items() if "network" in name})
    x = SphericalData(400, 400, 20, 0, np.array([0.0, 1.0])).draw().train.x[:150].float()
    change, alignment = kernel_motion(tangent_kernel(network, x), tangent_kernel(network, x, initial=True))
    assert after[-1]["kernel_change_network"] == pytest.approx(change, rel=1e-9)
    assert after[-1]["kernel_alignment_network"] == pytest.approx(alignment, rel=1e-9)
    assert 0.01 < change < 1.0
