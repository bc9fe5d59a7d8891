"""`mfnet collect`: hand-made runs with known numbers, damaged ones, and what the command leaves."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

import mfnet.cli.collect
from mfnet.cli.collect import main
from mfnet.collection import collect, curves, finals
from mfnet.collection.settings import settings, varied
from mfnet.record.directory import RunDirectory
from mfnet.setup.setup import Setup

CONFIG = {
    **{"M": 40, "N": 400, "d": 20, "alpha": 1.0, "h": 1.0, "seed": 0, "ckpt": None},
    "mean_field": {"_target_": "mfnet.theory.MeanField", "d": 20, "alpha": 1.0, "flip": 0.0, "dt": None},
    "data": {"_target_": "mfnet.data.SphericalData", "n_train": 400, "d": 20, "seed": 0, "flip": 0.0},
    "network": {"activation": "relu"},
    "loss": {"name": "hinge"},
    "flow": {"_target_": "mfnet.flow.Averaged", "_partial_": True, "rtol": 0.01, "dt_max": None},
    "theory": {"_target_": "mfnet.theory.FiniteWidth", "mean_field": {"alpha": 1.0}, "M": 40},
    "schedule": {"_target_": "mfnet.record.schedule.listed", "times": [1.0, 10.0, 100.0]},
    "callbacks": {"node_log": {"n": 10}},
    "trainer": {"tensorboard": True, "precision": "auto"},
}


def config(**settings):
    """The config of a run with other settings by dotted name; what follows a symbol follows it."""
    result = copy.deepcopy(CONFIG)
    for key, value in settings.items():
        *groups, leaf = key.split(".")
        inner = result
        for group in groups:
            inner = inner[group]
        inner[leaf] = value
    result["data"] |= {"n_train": result["N"], "d": result["d"]}
    result["data"]["seed"] = settings.get("data.seed", result["seed"])
    result["mean_field"] |= {"alpha": result["alpha"], "flip": result["data"]["flip"]}
    return result


def write_run(path, t=(0.0, 1.0, 10.0, 100.0), reason="t_max", series=None, identity=None, **settings):
    """A run that has observed ``series`` (name: values) at ``t``; without a reason it has no summary."""
    directory = RunDirectory(path)
    series = {"gamma": np.arange(len(t)), "test_error": 0.5 / (1.0 + np.arange(len(t)))} | (series or {})
    series.setdefault("unsatisfied", np.linspace(1.0, 0.0 if reason == "all_satisfied" else 0.25, len(t)))
    columns = {"k": range(len(t)), "t": t}
    for name, values in series.items():
        columns[f"{name}_network"] = values
        columns[f"{name}_theory"] = 0.9 * np.asarray(values)
    directory.write_history([{name: column[k] for name, column in columns.items()} for k in range(len(t))])
    resolved = config(**settings)
    (path / ".hydra").mkdir()
    unresolved = copy.deepcopy(resolved) | {"mean_field": {"_target_": "mfnet.theory.MeanField", "alpha": "${alpha}"}}
    unresolved["data"] |= {"n_train": "${N}", "d": "${d}", "seed": "${seed}"}
    (path / ".hydra" / "config.yaml").write_text(yaml.safe_dump(unresolved))
    if reason is not None:
        summary = {"config": resolved, "version": "0", "device": "cpu", "stop_reason": reason, "t_end": t[-1]}
        summary |= {"wall_seconds": 2.0, "drive_evaluations": 30.5, "steps": 8}
        summary |= {"n_unsatisfied": round(400 * series["unsatisfied"][-1])}
        summary |= {name: float(values[-1]) for name, values in series.items() if name != "unsatisfied"}
        summary |= {"agreement": {"gamma": {"within_until": 10.0, "measure": "relative"}}}
        directory.write_summary(summary | ({"identity": identity} if identity else {}))
    return directory


def status(capsys, *arguments):
    """Exit status of the command, and what it printed on either stream."""
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


# ---------------------------------------------------------------- tables


def test_a_row_a_run_with_what_varied(tmp_path):
    for alpha in (0.1, 1):
        for seed in (0, 1):
            write_run(tmp_path / f"sweep/{alpha}_{seed}", alpha=alpha, seed=seed, **{"trainer.tensorboard": seed == 0})
    collection = collect(tmp_path)
    assert collection.varied == ["alpha", "seed"]
    runs = collection.runs
    assert list(runs["run"]) == ["sweep/0.1_0", "sweep/0.1_1", "sweep/1_0", "sweep/1_1"]
    assert list(runs.columns[:6]) == ["run", "identity", "alpha", "seed", "state", "stop_reason"]
    assert runs["alpha"].dtype == "float64"
    assert runs["seed"].dtype == "int64"
    assert set(runs["gamma"]) == {3.0}
    assert set(runs["gamma_theory"]) == {2.7}
    assert set(runs["n_unsatisfied"]) == {100}
    assert set(runs["agreement.gamma.within_until"]) == {10.0}
    assert runs["identity"].isna().all()
    history = collection.history
    assert list(history.columns[:6]) == ["run", "alpha", "seed", "k", "t", "gamma_network"]
    assert len(history) == 16
    assert list(history["t"][:4]) == [0.0, 1.0, 10.0, 100.0]


VARIED = [
    ({"loss.name": "logistic"}, ["loss.name"]),
    ({"flow": {"_target_": "mfnet.flow.Euler", "dt": 0.5}}, ["flow"]),
    ({"flow.dt_max": 2.0}, ["flow.dt_max"]),
    ({"data.flip": 0.1}, ["data.flip"]),
    ({"data.seed": 3}, ["data.seed"]),
    ({"N": 800, "d": 30}, ["N", "d"]),
    ({"mean_field.dt": 0.5}, ["mean_field.dt"]),
    ({"schedule.times": [1.0, 2.0]}, ["schedule.times"]),
    ({"theory": {"_target_": "mfnet.theory.MeanField", "alpha": 1.0, "flip": 0.3}}, ["theory"]),
    ({"callbacks": {}, "ckpt": "last.ckpt"}, []),
    ({"trainer": {"tensorboard": False, "precision": "auto", "accelerator": "gpu", "devices": 2}}, []),
    ({"trainer.precision": "float64"}, ["trainer.precision"]),
]


@pytest.mark.parametrize(("other", "expected"), VARIED, ids=lambda value: ",".join(value))
def test_what_varied_has_its_name_of_the_command_line(tmp_path, other, expected):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", **other)
    assert collect(tmp_path).varied == expected


def test_a_callback_that_only_some_runs_have_tells_them_apart(tmp_path):
    """It may do anything to a run; its own settings, and other pieces that are not everywhere, do not count alone."""
    for seed in range(2):
        write_run(tmp_path / f"plain{seed}", seed=seed)
        write_run(tmp_path / f"noisy{seed}", seed=seed, **{"callbacks.noise": {"_target_": "own.Noise", "size": 0.1}})
    collection = collect(tmp_path)
    assert collection.varied == ["seed", "callbacks.noise"]
    assert not collection.duplicates
    table = finals(collection)
    assert list(table["n"]) == [2, 2]
    assert set(table["callbacks.noise"].fillna("")) == {"", "Noise"}


def test_finals_are_averages_over_seeds(tmp_path):
    errors = {0.1: [0.02, 0.03, 0.07], 1.0: [0.1]}
    for alpha, values in errors.items():
        for seed, error in enumerate(values):
            series = {"test_error": [0.5, 0.4, 0.3, error]}
            write_run(tmp_path / f"{alpha}_{seed}", alpha=alpha, seed=seed, series=series)
    write_run(tmp_path / "cut", alpha=1.0, seed=1, t=(0.0, 1.0), reason="interrupted")
    write_run(tmp_path / "cut_short", alpha=1.0, seed=2, t=(0.0, 1.0), reason="wall_time")
    write_run(tmp_path / "lost", alpha=1.0, seed=3, t=(0.0, 1.0), reason="diverged")
    table = finals(collect(tmp_path))
    assert list(table["alpha"]) == [0.1, 1.0]
    assert list(table["n"]) == [3, 1]
    assert list(table["unfinished"]) == [0, 2]
    assert list(table["failed"]) == [0, 1]
    assert table["stop_reasons"][0] == "t_max 3"
    row = table.iloc[0]
    assert row["test_error_mean"] == pytest.approx(np.mean(errors[0.1]))
    assert row["test_error_std"] == pytest.approx(np.std(errors[0.1], ddof=1))
    assert row["test_error_se"] == pytest.approx(np.std(errors[0.1], ddof=1) / 3**0.5)
    assert table["test_error_mean"][1] == 0.1
    assert np.isnan(table["test_error_se"][1])
    pooled = finals(collect(tmp_path), by=[])
    assert pooled["test_error_mean"].item() == pytest.approx(np.mean([*errors[0.1], *errors[1.0]]))


def curve(collection, name, **options):
    table = curves(collection, **options)
    return dict(zip(table["t"], table[name], strict=True))


def test_a_run_at_rest_keeps_its_values(tmp_path):
    """One run ends satisfied at t = 20, off the schedule; the other goes on."""
    force = {"mean_force": [1.0, 0.8, 0.6, 0.4]}
    write_run(tmp_path / "a", seed=0, series={"gamma": [0.0, 1.0, 2.0, 5.0]} | force)
    early = {"gamma": [0.0, 1.0, 3.0, 3.5]} | force
    write_run(tmp_path / "b", (0.0, 1.0, 10.0, 20.0), "all_satisfied", early, seed=1)
    collection = collect(tmp_path)
    assert curve(collection, "gamma_network_mean") == {0.0: 0.0, 1.0: 1.0, 10.0: 2.5, 100.0: 4.25}
    assert curve(collection, "gamma_network_std")[100.0] == pytest.approx(1.5 / 2**0.5)
    assert curve(collection, "gamma_network_se")[100.0] == pytest.approx(0.75)
    assert curve(collection, "n") == {0.0: 2, 1.0: 2, 10.0: 2, 100.0: 2}
    assert curve(collection, "mean_force_network_mean")[100.0] == 0.2
    assert curve(collection, "unsatisfied_network_mean")[100.0] == 0.125
    assert curve(collection, "gamma_theory_mean")[100.0] == 0.9 * 5.0  # predictions end with their run


@pytest.mark.parametrize(("reason", "loss"), [("wall_time", "hinge"), ("all_satisfied", "logistic"), (None, "hinge")])
def test_a_run_that_could_move_on_counts_no_longer_than_it_was_observed(tmp_path, reason, loss):
    write_run(tmp_path / "a", seed=0, **{"loss.name": loss})
    write_run(tmp_path / "b", (0.0, 1.0, 10.0), reason, {"gamma": [0.0, 3.0, 4.0]}, seed=1, **{"loss.name": loss})
    collection = collect(tmp_path)
    assert curve(collection, "n") == {0.0: 2, 1.0: 2, 10.0: 2, 100.0: 1}
    assert curve(collection, "gamma_network_mean") == {0.0: 0.0, 1.0: 2.0, 10.0: 3.0, 100.0: 3.0}


def test_all_runs_at_rest_end_with_the_last_of_them(tmp_path):
    write_run(tmp_path / "a", (0.0, 1.0, 4.0), "all_satisfied", seed=0)
    write_run(tmp_path / "b", (0.0, 1.0, 6.0), "all_satisfied", seed=1)
    assert curve(collect(tmp_path), "unsatisfied_network_mean") == {0.0: 1.0, 1.0: 0.5, 6.0: 0.0}


def test_other_schedules_are_interpolated_in_the_logarithm_of_time(tmp_path):
    write_run(tmp_path / "a", seed=0, series={"gamma": [0.0, 0.0, 0.0, 0.0]})
    write_run(tmp_path / "b", (0.0, 2.0, 200.0), series={"gamma": [0.0, 8.0, 4.0]}, seed=1)
    mean = curve(collect(tmp_path), "gamma_network_mean")
    assert list(mean) == [0.0, 1.0, 2.0, 10.0, 100.0, 200.0]
    assert mean[1.0] == pytest.approx(2.0)  # halfway from 0 to 2 in t
    assert mean[10.0] == pytest.approx((8.0 - 4.0 * np.log(5.0) / np.log(100.0)) / 2.0)


def test_a_run_that_was_made_several_times_counts_once(tmp_path, capsys):
    write_run(tmp_path / "new", identity="aa", series={"gamma": [0, 1, 2, 4]})
    write_run(tmp_path / "old", identity="aa", series={"gamma": [0, 1, 2, 3]})
    write_run(tmp_path / "cut", identity="aa", t=(0.0, 1.0), reason="interrupted")
    write_run(tmp_path / "other", identity="bb", series={"gamma": [0, 1, 2, 6]}, seed=1)
    for name, when in (("old", 100), ("new", 200), ("cut", 300), ("other", 0)):
        for file in ("history.csv", "summary.json"):
            path = tmp_path / name / file
            os.utime(path, (when, when))
    collection = collect(tmp_path)
    assert sorted(collection.duplicates) == [("cut", "new"), ("old", "new")]
    assert len(collection.runs) == 4
    assert finals(collection)["gamma_mean"].item() == 5.0
    assert curve(collection, "n")[100.0] == 2
    code, printed, _ = status(capsys, tmp_path)
    assert code == 0
    assert printed.count("old (the same as new)") == 1


def test_runs_that_were_cut_off_are_listed_with_what_was_seen(tmp_path, capsys):
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", (0.0, 1.0), None, seed=1)
    failed = tmp_path / "c"
    write_run(failed, (0.0, 1.0), None, seed=2)
    (failed / "history.csv").unlink()
    (failed / "error.log").write_text("Traceback …\nRuntimeError: no memory\n")
    collection = collect(tmp_path)
    assert collection.varied == ["seed"]
    assert list(collection.runs["state"]) == ["complete", "unfinished", "failed"]
    assert list(collection.runs["t_end"][:2]) == [100.0, 1.0]
    assert list(collection.runs["n_unsatisfied"][:2]) == [100.0, 100.0]
    assert list(collection.history["run"].unique()) == ["a", "b"]
    code, printed, _ = status(capsys, tmp_path)
    assert code == 0
    assert "3 runs in 1 group: 1 complete, 1 unfinished, 1 failed" in printed
    assert "unfinished: b\nfailed: c" in printed


def test_a_line_that_is_being_written_is_not_there_yet(tmp_path):
    """The history grows by a line at a time, of which a reader may see a part; that of a complete run has its last."""
    whole = write_run(tmp_path / "going on", (0.0, 1.0, 10.0), None, seed=1).history
    content = whole.read_bytes()
    seen = []
    for length in range(content.rindex(b"\n", 0, -1) + 1, len(content)):
        whole.write_bytes(content[:length])
        collection = collect(tmp_path)
        assert not collection.damaged
        seen.append(len(collection.history))
    assert set(seen) == {2}
    ended = write_run(tmp_path / "ended", seed=2).history
    ended.write_bytes(ended.read_bytes()[:-1])
    ((directory, reason),) = collect(tmp_path).damaged
    assert (directory.name, reason) == ("ended", "history.csv, line 5: cut off")


# ---------------------------------------------------------------- ensembles

REPLICAS = [
    ({"alpha": 1.0, "seed": 0}, (0.0, 1.0, 10.0, 100.0), "t_max", [0.0, 1.0, 2.0, 5.0]),
    ({"alpha": 1.0, "seed": 1}, (0.0, 1.0, 10.0, 20.0), "all_satisfied", [0.0, 1.5, 2.0, 2.5]),
    ({"alpha": 1.0, "seed": 2}, (0.0, 1.0, 10.0, 100.0), "t_max", [0.0, 2.0, 3.0, 4.0]),
]


def write_singles(path):
    for symbols, t, reason, gamma in REPLICAS:
        write_run(path / str(symbols["seed"]), t, reason, {"gamma": gamma}, **symbols)


def write_ensemble(path):
    """The same runs as one ensemble: who has ended keeps the last values."""
    t = (0.0, 1.0, 10.0, 100.0)
    names = ("gamma", "test_error", "unsatisfied")
    singles = path.parent / "singles_of_the_ensemble"
    write_singles(singles)
    histories = [RunDirectory(singles / str(r)).read_history() for r in range(3)]
    arrays = {name: np.stack([history[f"{name}_network"] for history in histories], axis=1) for name in names}
    shutil.rmtree(singles)
    directory = write_run(path, t, "replicas_ended", {name: values.mean(axis=1) for name, values in arrays.items()})
    summary = directory.read_summary()
    summary |= {"replicas": 3, "wall_seconds": 6.0, "drive_evaluations": 91.5, "steps": 24}
    summary |= {"t_ends": [t[-1] for _, t, _, _ in REPLICAS], "stop_reasons": [reason for _, _, reason, _ in REPLICAS]}
    directory.write_summary(summary)
    rows = directory.read_history() | {f"{n}_network_std": v.std(axis=1, ddof=1) for n, v in arrays.items()}
    directory.write_history([{name: column[k] for name, column in rows.items()} for k in range(4)])
    arrays |= {"t": np.array(t), "seed": np.array([0, 1, 2]), "alpha": np.ones(3)}
    directory.write_arrays("replicas", arrays)
    return directory, arrays


def test_an_ensemble_collects_to_the_table_of_its_runs(tmp_path):
    write_singles(tmp_path / "single")
    write_ensemble(tmp_path / "ensemble" / "e")
    single, ensemble = collect(tmp_path / "single"), collect(tmp_path / "ensemble")
    assert single.varied == ensemble.varied == ["seed"]
    assert list(ensemble.runs["run"]) == ["e#0", "e#1", "e#2"]
    assert set(ensemble.runs["replicas"]) == {3}
    network = [name for name in single.runs if "theory" not in name and "." not in name]
    aside = ["run", "replicas"]
    pd.testing.assert_frame_equal(
        single.runs[network].drop(columns=aside), ensemble.runs[network].drop(columns=aside), check_dtype=False
    )
    columns = ["seed", "k", "t", "gamma_network", "test_error_network", "unsatisfied_network"]
    pd.testing.assert_frame_equal(single.history[columns], ensemble.history[columns])
    means = [name for name in curves(single) if name == "t" or "network" in name]
    pd.testing.assert_frame_equal(curves(single)[means], curves(ensemble)[means])


def test_replicas_that_do_not_say_how_they_ended_have_the_same_averages(tmp_path):
    write_singles(tmp_path / "single")
    directory, _ = write_ensemble(tmp_path / "ensemble")
    summary = directory.read_summary()
    directory.write_summary({name: entry for name, entry in summary.items() if name not in ("t_ends", "stop_reasons")})
    averages = finals(collect(tmp_path / "ensemble"))
    assert averages["gamma_mean"].item() == pytest.approx(finals(collect(tmp_path / "single"))["gamma_mean"].item())
    assert curve(collect(tmp_path / "ensemble"), "gamma_network_mean")[100.0] == pytest.approx(11.5 / 3.0)
    assert averages["wall_seconds_mean"].item() == 2.0


def test_a_run_that_is_also_a_replica_counts_once(tmp_path):
    write_singles(tmp_path / "single")
    write_ensemble(tmp_path / "ensemble")
    collection = collect(tmp_path)
    assert len(collection.runs) == 6
    assert len(collection.duplicates) == 3
    assert finals(collection)["n"].item() == 3


def test_replicas_with_scales_of_their_own_are_told_apart(tmp_path):
    directory, arrays = write_ensemble(tmp_path)
    directory.write_arrays("replicas", arrays | {"alpha": np.array([1.0, 1.0, 10.0])})
    collection = collect(tmp_path)
    assert collection.varied == ["alpha", "seed"]
    assert list(finals(collection)["n"]) == [2, 1]
    assert collection.runs["gamma_theory"].isna().tolist() == [False, False, True]  # the theory is that of α = 1


# ---------------------------------------------------------------- damage

FILES = ["summary.json", "history.csv", "replicas.npz", ".hydra/config.yaml"]
TENTHS = range(10)


@pytest.fixture
def healthy(tmp_path):
    """A single run, an ensemble, and a run that was cut off."""
    write_run(tmp_path / "whole", seed=7)
    write_ensemble(tmp_path / "ensemble")
    write_run(tmp_path / "cut", (0.0, 1.0, 10.0), None, seed=8)
    return tmp_path


def victim(root, file):
    return root / {"replicas.npz": "ensemble", ".hydra/config.yaml": "cut"}.get(file, "whole") / file


def named(root, path, capsys):
    """That a damaged run is named with its reason, the others are read, and the command returns 1."""
    run = root / path.relative_to(root).parts[0]
    collection = collect(root)
    assert [directory for directory, _ in collection.damaged] == [run]
    (reason,) = [reason for _, reason in collection.damaged]
    assert "\n" not in reason
    assert {name.partition("#")[0] for name in collection.runs["run"]} == {"whole", "ensemble", "cut"} - {run.name}
    code, printed, errors = status(capsys, run)
    assert (code, printed) == (1, "")
    assert errors == f"mfnet collect: skipped {run}: {reason}\n"
    return reason


@pytest.mark.unchecked
@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_cut_off_is_named(healthy, capsys, file):
    path = victim(healthy, file)
    content = path.read_bytes()
    for tenth in TENTHS:
        path.write_bytes(content[: len(content) * tenth // 10])
        if file == ".hydra/config.yaml" and tenth > 0:  # a part may be a config again, that of another run
            collect(healthy)
        else:
            reason = named(healthy, path, capsys)
            assert path.name in reason


@pytest.mark.parametrize("file", FILES)
def test_a_file_with_a_byte_that_is_no_text_is_named(healthy, capsys, file):
    path = victim(healthy, file)
    content, before = path.read_bytes(), collect(healthy)
    for tenth in TENTHS:
        i = (len(content) - 1) * tenth // 10
        path.write_bytes(content[:i] + bytes([content[i] ^ 0xFF]) + content[i + 1 :])
        if file == "replicas.npz" and not collect(healthy).damaged:  # a byte of the archive that nothing depends on
            pd.testing.assert_frame_equal(collect(healthy).runs, before.runs)
        else:
            named(healthy, path, capsys)


@pytest.mark.unchecked
@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_no_flipped_bit_makes_a_traceback(healthy, file):
    path = victim(healthy, file)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for i, bit in zip(rng.integers(len(content), size=30), rng.integers(8, size=30), strict=True):
        path.write_bytes(content[:i] + bytes([content[i] ^ (1 << bit)]) + content[i + 1 :])
        collection = collect(healthy)
        assert len(collection.damaged) + collection.runs["run"].str.partition("#")[0].nunique() == 3
        finals(collection)
        curves(collection)


def edit(path, old, new):
    path.write_text(path.read_text().replace(old, new, 1))


DAMAGE = [
    (lambda run: (run / "history.csv").unlink(), "history.csv is missing"),
    (lambda run: edit(run / "history.csv", "k,t,", "k,x,"), "history.csv does not begin with columns k, t"),
    (lambda run: edit(run / "history.csv", "gamma_network", "k"), "history.csv does not begin with columns k, t"),
    (lambda run: edit(run / "history.csv", "\n1,1.0", "\n1,0.0"), "t does not increase"),
    (lambda run: edit(run / "history.csv", "\n1,1.0", "\n1,1.0,5"), "line 3: 9 values for 8 columns"),
    (lambda run: edit(run / "history.csv", "\n1,1.0,1", "\n1,1.0,nan"), "gamma_network is not finite at k=1"),
    (lambda run: edit(run / "history.csv", "\n1,1.0,1", "\n1,1.0,x"), "could not convert string to float"),
    (lambda run: edit(run / "history.csv", "\n3,100.0", "\n5,100.0"), "k does not count the observations"),
    (
        lambda run: edit(run / "summary.json", '"gamma": 3.0', '"gamma": 2.0'),
        "gamma ends at 3.0 in history.csv, at 2",
    ),
    (lambda run: edit(run / "summary.json", '"t_end": 100.0', '"t_end": 200.0'), "ends at t=100, but the run at t=200"),
    (lambda run: edit(run / "summary.json", '"t_end"', '"t_eng"'), "summary.json has no number t_end"),
    (lambda run: edit(run / "summary.json", '"alpha"', '"alpah"'), "its config does not say alpha"),
    (lambda run: edit(run / "summary.json", '"stop_reason"', '"stop"'), "summary.json has no stop_reason"),
    (lambda run: (run / "summary.json").write_text("[1, 2]"), "summary.json does not hold an object"),
    (lambda run: (run / "summary.json").write_text(""), "summary.json is empty"),
    (lambda run: (run / "summary.json").write_text("[" * 100_000), "summary.json: "),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGE, ids=[reason for _, reason in DAMAGE])
def test_the_reason_says_what_is_wrong(tmp_path, damage, reason):
    write_run(tmp_path)
    damage(tmp_path)
    collection = collect(tmp_path)
    assert reason in dict(collection.damaged)[tmp_path]
    assert collection.runs.empty


def test_replicas_of_an_ensemble_that_was_interrupted_are_complete_if_they_had_ended(tmp_path):
    directory, _ = write_ensemble(tmp_path)
    ends = {"stop_reason": "interrupted", "stop_reasons": ["interrupted", "all_satisfied", "diverged"]}
    directory.write_summary(directory.read_summary() | ends | {"t_ends": [120.0, 20.0, 30.0]})
    collection = collect(tmp_path)
    assert list(collection.runs["state"]) == ["unfinished", "complete", "failed"]
    assert [list(group["t"]) for _, group in collection.history.groupby("run")] == [
        [0.0, 1.0, 10.0, 100.0],
        [0.0, 1.0, 10.0, 20.0],
        [0.0, 1.0, 10.0],
    ]


def test_damaged_ensembles_are_named(tmp_path):
    directory, arrays = write_ensemble(tmp_path)
    summary = directory.read_summary()
    for change in ({"t_ends": [1.0]}, {"stop_reasons": "t_max"}):
        directory.write_summary(summary | change)
        assert "how each replica ended" in dict(collect(tmp_path).damaged)[tmp_path]
    directory.write_summary(summary)
    for change in ({"gamma": arrays["gamma"] + 1.0}, {"seed": np.arange(2)}, {"t": arrays["t"][:-1]}):
        directory.write_arrays("replicas", arrays | change)
        assert "replicas.npz" in dict(collect(tmp_path).damaged)[tmp_path]
    (tmp_path / "replicas.npz").unlink()
    assert dict(collect(tmp_path).damaged)[tmp_path] == "replicas.npz is missing"


def test_foreign_files_are_passed_over(tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / "summary.json").write_text("{")
    (tmp_path / "notes.txt").write_text("history")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "summary.json").write_text('{"loss": 1}')
    (tmp_path / "hydra" / ".hydra").mkdir(parents=True)
    (tmp_path / "hydra" / ".hydra" / "config.yaml").write_text("lr: 1")
    prediction = write_run(tmp_path / "prediction", reason=None)
    rows = {name: column for name, column in prediction.read_history().items() if "network" not in name}
    prediction.write_history([{name: column[k] for name, column in rows.items()} for k in range(4)])
    (tmp_path / ".hidden").mkdir()
    write_run(tmp_path / ".hidden" / "run")
    collection = collect(tmp_path)
    assert list(collection.runs["run"]) == ["run"]
    assert collection.damaged == []


def test_some_directories_alone_are_read(tmp_path):
    for name in ("a", "b", "c/b"):
        write_run(tmp_path / name)
    assert list(collect(tmp_path, ["b", "c", "missing"]).runs["run"]) == ["b", "c/b"]


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep over α, a flip and the activation, and its collection."""
    root = tmp_path_factory.mktemp("sweep")
    for i, alpha in enumerate((0.1, 1.0, 100.0)):
        for activation in ("relu", "gelu"):
            for seed in range(2):
                series = {"test_error": [0.5, 0.4, 0.3, 0.1 * (i + 1) + 0.01 * seed]}
                settings = {"alpha": alpha, "network.activation": activation, "seed": seed}
                write_run(root / f"{alpha}_{activation}_{seed}", series=series, **settings)
    write_run(root / "cut", (0.0, 1.0), None, alpha=0.1, seed=2)
    assert main([str(root)]) == 0
    return root


@pytest.mark.slow
def test_csv_and_parquet_hold_the_same(sweep):
    collection = collect(sweep)
    tables = {"runs": collection.runs, "history": collection.history}
    tables |= {"groups": finals(collection), "curves": curves(collection)}
    for name, table in tables.items():
        parquet = pd.read_parquet(sweep / "collected" / f"{name}.parquet")
        pd.testing.assert_frame_equal(parquet, table)  # with the types of its columns
        csv = pd.read_csv(sweep / "collected" / f"{name}.csv", dtype=dict(table.dtypes))
        pd.testing.assert_frame_equal(csv, table)


def test_figures_are_drawn(sweep, capsys):
    figures = sweep / "collected" / "figures"
    drawn = {path.stem for path in figures.iterdir()}
    against_time = {f"{name}_against_t" for name in ("test_error", "unsatisfied", "gamma")}
    assert drawn == against_time | {"test_error_against_alpha"}
    arguments = ["--plot", "gamma", "wall_seconds", "--against", "network.activation", "--out", sweep / "other"]
    assert status(capsys, sweep, *arguments)[0] == 0
    drawn = {path.name for path in (sweep / "other" / "figures").iterdir()}
    assert drawn == {"gamma_against_network.activation.png", "wall_seconds_against_network.activation.png"}


@pytest.mark.slow
def test_settings_of_any_kind_are_drawn(tmp_path, capsys):
    """Null beside a number, more texts than there are colours, and more groups than a legend has room for."""
    for i in range(14):
        flow = {"flow.dt_max": None if i % 2 else 2.0, "network.activation": f"name{i}"}
        write_run(tmp_path / str(i), seed=i, **flow)
    assert status(capsys, tmp_path)[0] == 0
    for key in ("flow.dt_max", "network.activation"):
        out = tmp_path / key
        assert status(capsys, tmp_path, "--plot", "gamma", "--against", key, "--out", out)[0] == 0
        assert (out / "figures" / f"gamma_against_{key}.png").exists()


@pytest.mark.slow
def test_it_prints_a_line_a_group(sweep, capsys):
    code, printed, errors = status(capsys, sweep, "--by", "alpha", "--out", sweep / "by")
    assert (code, errors) == (0, "")
    lines = printed.splitlines()
    assert lines[0].split() == ["alpha", "n", "test_error", "t_end", "seconds", "ended", "by"]
    assert lines[1].split()[:5] == ["0.1", "4", "0.105", "±", "0.0029"]
    assert len(lines[1:4]) == 3
    assert "13 runs in 3 groups: 12 complete, 1 unfinished" in printed


def test_figures_add_up_while_the_runs_are_the_same(tmp_path):
    """Tables are replaced as a whole; figures that were drawn of fewer runs would not go with them."""
    for seed in range(2):
        write_run(tmp_path / str(seed), seed=seed)
    out = tmp_path / "collected"
    assert main([str(tmp_path), "--plot", "gamma"]) == 0
    tables = {path.name: path.read_bytes() for path in out.glob("*.csv")}
    gamma = (out / "figures" / "gamma_against_t.png").read_bytes()
    assert main([str(tmp_path), "--plot", "unsatisfied"]) == 0
    assert {path.name for path in (out / "figures").iterdir()} == {"gamma_against_t.png", "unsatisfied_against_t.png"}
    assert (out / "figures" / "gamma_against_t.png").read_bytes() == gamma
    assert {path.name: path.read_bytes() for path in out.glob("*.csv")} == tables
    write_run(tmp_path / "2", seed=2)
    assert main([str(tmp_path), "--plot", "test_error"]) == 0
    assert {path.name for path in (out / "figures").iterdir()} == {"test_error_against_t.png"}
    assert not list(tmp_path.glob(".collected*"))


def test_runs_have_names_in_tensorboard_that_say_what_varied(tmp_path, capsys):
    """Links to their files, also when the collection is made anew; replicas and runs without such files have none."""
    for alpha in (0.1, 1.0):
        for seed in range(2):
            directory = write_run(tmp_path / "sweep" / f"long_{alpha}_{seed}_0123456789", alpha=alpha, seed=seed)
            if seed == 0 or alpha == 1.0:
                (directory.tensorboard / "network").mkdir(parents=True)
                (directory.tensorboard / "network" / "events").write_text(f"{alpha} {seed}")
    for _ in range(2):
        code, printed, _ = status(capsys, tmp_path / "sweep")
        assert code == 0
        named = tmp_path / "sweep" / "collected" / "tensorboard"
        assert f"tensorboard --logdir {named}" in printed
        found = {path.name: (path / "network" / "events").read_text() for path in named.iterdir()}
        assert found == {"alpha=0.1,seed=0": "0.1 0", "alpha=1,seed=0": "1.0 0", "alpha=1,seed=1": "1.0 1"}
    assert len(collect(tmp_path).runs) == 4  # links are not followed to runs


@pytest.mark.parametrize("most", [8, 9])
def test_more_than_tensorboard_selects_are_shown_apart_from_their_ends(tmp_path, capsys, monkeypatch, most):
    monkeypatch.setattr(mfnet.cli.collect, "MOST_SELECTED", most)
    sides = ["final", "network", "theory"]
    for seed in range(3):
        directory = write_run(tmp_path / f"run{seed}", seed=seed)
        for side in sides:
            (directory.tensorboard / side).mkdir(parents=True)
            (directory.tensorboard / side / "events").write_text(side)
    for _ in range(2):
        code, printed, _ = status(capsys, tmp_path)
        assert code == 0
        out = tmp_path / "collected"
        found = {path.relative_to(out).parts[:3] for path in out.glob("tensorboard*/*/*/events")}
        folders = {"network": "tensorboard", "theory": "tensorboard"}
        folders["final"] = "tensorboard" if most == 9 else "tensorboard-ends"
        assert found == {(folders[side], f"seed={seed}", side) for side in sides for seed in range(3)}
        assert (f"ends     tensorboard --logdir {out}/tensorboard-ends" in printed) == (most == 8)


#: Settings of a run that its theories follow, each with another value.
FOLLOWED = {
    "d": 7, "alpha": 3.0, "h": 2.0, "network.activation": "tanh", "network.a_std": 2.0, "network.w_std": 2.0,
    "loss.name": "logistic", "data.flip": 0.1, "data.stretch": 3.0, "M": 30, "N": 300, "seed": 1,
}  # fmt: skip


@pytest.mark.parametrize("key", FOLLOWED)
def test_a_setting_that_theories_follow_varies_once(key):
    """Whatever part of the config restates it."""
    data = "elongated" if key == "data.stretch" else "normal"
    same = {"M": 20, "N": 400, "d": 6, "data": data, "overlay": ["kernel_closure"]}
    configs = [Setup.of(**same | other).config for other in ({}, {key: FOLLOWED[key]})]
    assert varied([settings(config) for config in configs]) == [key]


MISTAKES = [
    (["--by", "alhpa"], "alhpa did not vary; what did is alpha, seed, network.activation"),
    (["--against", "M"], "M did not vary"),
    (["--plot", "test_eror"], "did you mean test_error?"),
    (["--plot", "wall_seconds"], "was not observed"),
    (["--out", "."], "exists, and is not what mfnet collect left"),
]


@pytest.mark.parametrize("t", [(), (0.0,), (0.0, 1.0), (0.0, 1.0, 10.0)])
def test_runs_of_which_little_was_seen_are_collected(tmp_path, capsys, t):
    """Nothing, the initial network alone, or one or two observations more; and no run that is complete."""
    write_run(tmp_path / "a", t or (0.0,), None)
    if not t:
        (tmp_path / "a" / "history.csv").unlink()
        (tmp_path / "a" / "error.log").write_text("RuntimeError: no memory\n")
    code, printed, _ = status(capsys, tmp_path)
    assert code == 0
    assert f"1 run in 1 group: 0 complete, 1 {'unfinished' if t else 'failed'}" in printed
    assert (tmp_path / "collected" / "figures").exists() == (len(t) == 3)


@pytest.mark.parametrize(("arguments", "complaint"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_mistakes_cost_a_line(sweep, capsys, arguments, complaint):
    code, printed, errors = status(capsys, sweep, *arguments)
    assert (code, printed) == (2, "")
    assert complaint in errors
    assert errors.count("\n") == 1


def test_nothing_to_collect_is_a_mistake(tmp_path, capsys):
    for path, complaint in ((tmp_path, "holds no runs"), (tmp_path / "missing", "is not a directory")):
        code, _, errors = status(capsys, path)
        assert code == 2
        assert errors == f"mfnet collect: error: {path} {complaint}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_it_starts_without_torch():
    code = "import sys, mfnet.cli.collect; sys.exit(bool({'torch', 'lightning', 'hydra'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
