"""``mfnet train replicas=R``: the files of an ensemble, against the single runs that it stands for."""

from __future__ import annotations

import numpy as np
import pytest

from mfnet.record.directory import RunDirectory
from mfnet.setup.setup import Setup
from mfnet.training import Training
from mfnet.training.checkpoint import read_checkpoint
from support.command import NO_EVENTS, assert_same_files, call, columns, summary
from support.shared import made_once

pytestmark = pytest.mark.slow

SETTINGS = [
    "M=40",
    "N=200",
    "d=20",
    "data.n_test=400",
    "trainer.accelerator=cpu",
    "trainer.precision=float64",
    "schedule.per_decade=8",
    "seed=5",
]
R = 3
SERIES = ("gamma", "unsatisfied", "loss", "train_error", "test_error", "mean_force", "sliding")


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    """An ensemble to its end, and what it printed."""

    def make(cwd):
        settings = [*SETTINGS, f"replicas={R}", "hydra.run.dir=e"]
        (cwd / "printed").write_text(call("train", *settings, cwd=cwd, figures=True).ok().out)

    cwd = made_once(tmp_path_factory, "ensemble", make)
    return cwd / "e", (cwd / "printed").read_text()


@pytest.fixture(scope="module")
def singles(tmp_path_factory):
    """Runs with the seeds of its replicas, one after the other."""
    settings = [*SETTINGS[:-1], *NO_EVENTS, "theory=finite_width", "hydra.sweep.dir=s", "hydra.sweep.subdir=${seed}"]
    command = ["train", "-m", *settings, "seed=5,6,7"]
    cwd = made_once(tmp_path_factory, "singles", lambda cwd: call(*command, cwd=cwd).ok())
    return [cwd / "s" / str(seed) for seed in (5, 6, 7)]


def test_every_replica_is_the_single_run_with_its_seed(ensemble, singles):
    """All series to 10⁻⁹ at each observation, the same end; afterwards the last values are kept."""
    replicas, end = np.load(ensemble[0] / "replicas.npz"), summary(ensemble[0])
    assert replicas["seed"].tolist() == [5, 6, 7]
    assert replicas["alpha"].tolist() == [1.0] * R
    for r, directory in enumerate(singles):
        history, alone = columns(directory), summary(directory)
        assert end["stop_reasons"][r] == alone["stop_reason"] == "all_satisfied"
        assert end["t_ends"][r] == pytest.approx(alone["t_end"], rel=1e-9)
        K = len(history["t"]) - 1  # the last observation of a run is off the schedule
        assert replicas["t"][:K] == pytest.approx(history["t"][:K], rel=1e-12)
        for name in SERIES:
            values = replicas[name][:, r]
            assert values[: K + 1] == pytest.approx(history[f"{name}_network"], rel=1e-9, abs=1e-12)
            assert np.all(values[K:] == values[K])
    assert end["steps"] == sum(summary(directory)["steps"] for directory in singles)


def test_statistics_are_those_of_the_replicas(ensemble):
    history, replicas, end = columns(ensemble[0]), np.load(ensemble[0] / "replicas.npz"), summary(ensemble[0])
    for name in SERIES:
        values = replicas[name]
        assert values.shape == (len(history["t"]), R)
        std = np.sqrt(((values - values.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) / (R - 1))
        assert history[f"{name}_network"] == pytest.approx(values.mean(axis=1), rel=1e-12, abs=1e-15)
        assert history[f"{name}_network_std"] == pytest.approx(std, rel=1e-9, abs=1e-15)
        assert history[f"{name}_network_se"] == pytest.approx(std / np.sqrt(R), rel=1e-9, abs=1e-15)
        final = {"mean": values[-1].mean(), "std": std[-1], "se": std[-1] / np.sqrt(R)}
        assert end["final"][name] == pytest.approx(final, rel=1e-9, abs=1e-15)
    assert end["replicas"] == R
    assert end["stop_reason"] == "all_satisfied"
    assert end["t_end"] == max(end["t_ends"]) == history["t"][-1]
    assert "3 replicas (3 all_satisfied)" in ensemble[1]


def test_nodes_and_examples_are_those_of_the_first_replica(ensemble, singles):
    for name in ("nodes.npz", "examples.npz"):
        ours, alone = np.load(ensemble[0] / name), np.load(singles[0] / name)
        assert set(ours) == set(alone)
        for key in ("a", "w_par", "w_perp", "x_par", "t_sat"):
            if key in alone:
                n = len(alone[key]) - (name == "nodes.npz")
                assert ours[key][:n] == pytest.approx(alone[key][:n], rel=1e-6 if key == "t_sat" else 1e-9)
    K = min(len(columns(directory)["t"]) for directory in singles) - 1
    for column in ("gamma_theory", "gamma_theory_lo", "test_error_theory"):
        assert columns(ensemble[0])[column][:K] == pytest.approx(columns(singles[0])[column][:K], rel=1e-12)


def test_tensorboard_shows_the_measured_band_beside_the_predicted_one(ensemble):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = columns(ensemble[0])
    edges = {"network": ("gamma_network", "gamma_network_std"), "theory": ("gamma_theory_lo", "gamma_theory_hi")}
    for side in edges:
        events = EventAccumulator(str(ensemble[0] / "tensorboard" / side)).Reload()
        found = [[e.value for e in events.Scalars(f"curves_band/gamma_{edge}")] for edge in ("lower", "upper")]
        if side == "network":
            mean, std = (history[name] for name in edges[side])
            expected = [mean - std, mean + std]
        else:
            expected = [history[name] for name in edges[side]]
        assert found == pytest.approx(np.array(expected), rel=1e-5, abs=1e-7)
    assert {path.name for path in (ensemble[0] / "figures").iterdir()} == {"fig1.png", "errors.png"}


def train(path, times, checkpoint=None):
    """An ensemble of four, observed at these times."""
    own = {"schedule": "listed", "schedule.times": times.tolist(), "data.n_test": 200, "stop.stationary": 0.1}
    setup = Setup.of(M=20, N=100, d=10, replicas=4, theory=None, logger=[], trainer={"accelerator": "cpu"}, **own)
    path.mkdir(exist_ok=True)
    return Training(setup, RunDirectory(path), checkpoint).run()


@pytest.mark.unchecked
def test_an_ensemble_that_is_cut_goes_on_to_the_same_files(tmp_path):
    """Cut where some replicas have ended and others have not."""
    times = np.concatenate([[0.0], np.geomspace(1.0, 100.0, 30)])
    ends = train(tmp_path / "whole", times).summary["t_ends"]
    cut = int(np.searchsorted(times, np.median(ends))) + 1
    assert min(ends) < times[cut - 1] < max(ends)
    assert cut < len(columns(tmp_path / "whole")["t"])
    train(tmp_path / "cut", times[:cut])
    checkpoint = read_checkpoint(tmp_path / "cut" / "checkpoints" / "last.ckpt")
    train(tmp_path / "cut", times, checkpoint)
    assert_same_files(tmp_path / "cut", tmp_path / "whole", ["nodes.npz", "examples.npz", "replicas.npz"])
    for key in ("steps", "drive_evaluations", "stop_reason", "stop_reasons", "t_ends", "final"):
        assert summary(tmp_path / "cut")[key] == summary(tmp_path / "whole")[key]


@pytest.mark.parametrize(
    ("extra", "evaluator"),
    [
        (["flow=heun"], "batched"),
        (["flow=adaptive_rotation", "trainer.precision=tf32"], "streamed"),
        (["data=breast_cancer", "theory=none", "d=null", "N=null"], "batched"),
    ],
)
def test_replicas_go_with_every_method_precision_and_data(extra, evaluator, command, tmp_path):
    """The mean of two is that of two single runs; which evaluator was chosen is said."""
    settings = ["M=20", "N=100", "d=10", "schedule.t_max=5", "schedule.per_decade=4", "trainer.accelerator=cpu"]
    settings = [*settings, *NO_EVENTS, *extra]
    printed = command("train", *settings, "replicas=2", "seed=3", "hydra.run.dir=both").ok().out
    assert f"({evaluator}, " in printed
    assert summary(tmp_path / "both")["evaluator"] == evaluator
    for seed in (3, 4):
        command("train", *settings, f"seed={seed}", f"hydra.run.dir={seed}").ok()
    both, *singles = (columns(tmp_path / name) for name in ("both", "3", "4"))
    for name in ("gamma", "loss", "displacement"):
        mean = np.mean([single[f"{name}_network"] for single in singles], axis=0)
        assert both[f"{name}_network"] == pytest.approx(mean, rel=1e-4, abs=1e-6)


@pytest.mark.unchecked
@pytest.mark.parametrize("seed", [[], ["data.seed=0"]], ids=["each its own data", "all the same data"])
def test_replicas_that_go_on_keep_each_its_data(seed, command, tmp_path):
    small = ["M=10", "N=50", "d=5", *NO_EVENTS, "replicas=2", "schedule=listed", *seed]
    command("train", *small, "schedule.times=[1,2]", "hydra.run.dir=parts").ok()
    command("train", "ckpt=parts/checkpoints/last.ckpt", "schedule.times=[1,2,4,8]").ok()
    command("train", *small, "schedule.times=[1,2,4,8]", "hydra.run.dir=whole").ok()
    parts, whole = (np.load(tmp_path / name / "replicas.npz") for name in ("parts", "whole"))
    assert all(np.array_equal(parts[name], whole[name]) for name in whole)
