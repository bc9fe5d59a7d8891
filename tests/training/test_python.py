"""Runs from Python: what they leave in memory and on disk, sweeps, and runs that are read again."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

import mfnet
import mfnet.training.python
from mfnet.record.directory import RunDirectory

SMALL = {"M": 20, "N": 100, "d": 10, "schedule": {"t_max": 5.0, "per_decade": 4}, "logger": []}

pytestmark = pytest.mark.unchecked


def test_importing_takes_no_torch():
    code = (
        "import mfnet, sys; sys.exit(bool({'torch', 'lightning', 'hydra', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_is_there():
    assert all(getattr(mfnet, name) is not None for name in mfnet.__all__)
    assert set(mfnet.__all__) <= set(dir(mfnet))
    with pytest.raises(AttributeError, match="nope"):
        _ = mfnet.nope


def test_nothing_is_written_without_a_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = mfnet.train(**{name: value for name, value in SMALL.items() if name != "logger"})
    assert list(tmp_path.iterdir()) == []
    assert (run.history["k"] == np.arange(len(run.history))).all()
    assert capsys.readouterr().out == ""


def test_what_a_run_holds_is_what_it_leaves(tmp_path):
    run = mfnet.train(**SMALL, overlay=["realised_width"], directory=tmp_path / "r")
    read = mfnet.load(tmp_path / "r")
    assert run.history.equals(read.history)
    assert dict(run.summary) == dict(read.summary) == json.loads((tmp_path / "r" / "summary.json").read_text())
    for name in ("nodes", "examples"):
        ours, theirs = getattr(run, name), getattr(read, name)
        assert set(ours) == set(theirs)
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
    assert torch.equal(run.network.w, read.network.w)
    assert torch.equal(run.network.a0, read.network.a0)
    assert list(run.theories) == list(read.theories) == ["theory", "realised_width"]
    t = run.history["t"].to_numpy()
    for name, theory in read.theories.items():
        predicted = theory.series(t)["gamma"].value
        assert run.history[f"gamma_{name}"].to_numpy() == pytest.approx(predicted, rel=1e-12)
    assert run.figures == ["fig1", "errors"]
    assert read.figure("errors")._repr_png_()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="fig1, errors"):
        run.figure("fig9")


def test_a_directory_is_never_written_over(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "notes.txt").write_text("mine")
    with pytest.raises(mfnet.SettingError, match="exists already"):
        mfnet.train(**SMALL, directory=tmp_path / "r")


@pytest.fixture
def beside(monkeypatch):
    """The runs that are trained side by side, batch by batch."""
    batches = []
    train = mfnet.training.python.train_side_by_side

    def remember(trainings, told):
        batches.append([(training.setup.alpha, training.setup.seed) for training in trainings])
        return train(trainings, told)

    monkeypatch.setattr(mfnet.training.python, "train_side_by_side", remember)
    return batches


def test_a_sweep_trains_runs_side_by_side_where_it_can(beside, tmp_path):
    """Each is a run of its own, as it would be alone, in memory and on disk."""
    runs = mfnet.sweep(alpha=[1.0, 10.0], seed=[0, 5], directory=tmp_path, **SMALL)
    expected = [(1.0, 0), (1.0, 5), (10.0, 0), (10.0, 5)]
    assert [(run.setup.alpha, run.setup.seed) for run in runs] == expected
    assert beside == [expected]
    alone = mfnet.sweep(seed=[0, 5], alpha=[1.0, 10.0], batch=False, **SMALL)
    assert len(beside) == 1
    for ours, theirs in zip(runs, alone, strict=True):
        assert ours.setup == theirs.setup
        assert ours.history.to_numpy() == pytest.approx(theirs.history.to_numpy(), rel=1e-3, abs=1e-5, nan_ok=True)
        assert torch.allclose(ours.network.w, theirs.network.w, rtol=1e-3, atol=1e-5)
        assert ours.figures == theirs.figures
        again = mfnet.load(ours.directory)
        assert again.history.equals(ours.history)
        assert torch.equal(again.network.w, ours.network.w)
    assert list(runs.finals()["n"]) == [2, 2]
    assert set(runs.table["state"]) == {"complete"}


def test_what_cannot_go_together_is_trained_one_by_one(beside):
    runs = mfnet.sweep(seed=range(2), flow="sgd", **SMALL)
    assert [run.setup.seed for run in runs] == [0, 1]
    assert beside == []
    runs = mfnet.sweep(seed=range(2), M=[20, 24], **{name: SMALL[name] for name in SMALL if name != "M"})
    assert [(run.setup.M, run.setup.seed) for run in runs] == [(20, 0), (20, 1), (24, 0), (24, 1)]
    assert [len(batch) for batch in beside] == [2, 2]


def test_a_sweep_goes_on_where_it_was_left(beside, tmp_path):
    settings = {**SMALL, "directory": tmp_path, "seed": [0, 5]}
    first = mfnet.sweep(alpha=[1.0], **settings)
    second = mfnet.sweep(alpha=[1.0, 3.0], **settings)
    assert beside == [[(1.0, 0), (1.0, 5)], [(3.0, 0), (3.0, 5)]]
    assert first[0].history.equals(second[0].history)
    assert len(mfnet.collect(tmp_path).runs) == 4


def test_a_sweep_leaves_a_run_to_the_process_that_works_at_it(tmp_path):
    named = mfnet.sweep(seed=range(2), directory=tmp_path / "names", **SMALL)
    taken = RunDirectory(tmp_path / "s" / named[1].setup.name)
    taken.path.mkdir(parents=True)
    with taken.lock(), pytest.raises(mfnet.SettingError, match="another process is at work"):
        mfnet.sweep(seed=range(2), directory=tmp_path / "s", **SMALL)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": []}, "alpha: has no values"),
        ({"alpha": [1, 1.0]}, "are the same"),
        ({"alpha": [1, -1]}, "alpha=-1"),
        ({"alhpa": [1, 2]}, "did you mean alpha"),
    ],
    ids=str,
)
def test_a_mistake_in_a_sweep_costs_one_line_before_anything_runs(settings, message, tmp_path):
    with pytest.raises(mfnet.SettingError, match=message):
        mfnet.sweep(**SMALL, **settings, directory=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_setting_that_is_a_list_anyway_varies_in_a_list_of_lists():
    runs = mfnet.sweep(schedule={"per_decade": 2}, overlay=[[], ["mean_field"]], M=5, N=20, d=5, logger=[])
    assert [run.contents.theories for run in runs] == [["theory"], ["theory", "mean_field"]]
    runs = mfnet.sweep(schedule="listed", schedule__times=[1.0, 2.0], M=5, N=20, d=5, logger=[])
    assert [list(run.history["t"]) for run in runs] == [[0.0, 1.0, 2.0]]


@pytest.mark.parametrize("command", ["os.system", "torch.os.system", "subprocess.run"])
def test_a_directory_of_someone_elses_runs_nothing(command, tmp_path):
    mfnet.train(**SMALL, directory=tmp_path / "r")
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    summary["config"]["theory"] = {"_target_": command, "command": f"touch {tmp_path / 'ran'}"}
    (tmp_path / "r" / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(mfnet.SettingError, match="is not mfnet's"):
        _ = mfnet.load(tmp_path / "r").theory
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("what", ["theory._target_", "network.activation"])
def test_a_directory_of_someone_elses_names_nothing_that_is_then_imported(what, tmp_path, monkeypatch):
    mfnet.train(**SMALL, directory=tmp_path / "r")
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    group, leaf = what.split(".")
    summary["config"][group][leaf] = "never_imported.anything"
    (tmp_path / "r" / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "never_imported.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    run = mfnet.load(tmp_path / "r")
    assert len(run.history) > 2
    with pytest.raises(mfnet.SettingError, match=r"never_imported\.anything: is not mfnet's"):
        _ = run.theories
    if group == "network":
        with pytest.raises(mfnet.SettingError, match=r"never_imported\.anything: is not mfnet's"):
            _ = run.network
    else:
        assert run.network.a.shape == (SMALL["M"],)


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(mfnet.SettingError, match="is not the directory of a run"):
        mfnet.load(tmp_path)


@pytest.mark.parametrize("file", ["summary.json", "history.csv", "nodes.npz"])
def test_what_is_damaged_is_said(file, tmp_path):
    mfnet.train(**SMALL, directory=tmp_path / "r")
    whole = (tmp_path / "r" / file).read_bytes()
    (tmp_path / "r" / file).write_bytes(whole[: len(whole) // 2] if file != "history.csv" else b"")
    with pytest.raises(mfnet.SettingError, match="is damaged"):
        mfnet.load(tmp_path / "r")


def test_a_run_that_was_read_again_says_that_its_setup_is_fixed(tmp_path):
    mfnet.train(**SMALL, alpha=5.0, directory=tmp_path / "r")
    with pytest.raises(mfnet.SettingError, match=r"Setup\.of"):
        mfnet.load(tmp_path / "r").setup.but(seed=1)


def test_callbacks_of_a_sweep_remember_nothing_of_another_run(tmp_path):
    class Counts(mfnet.Observer):
        n = 0

        def observe(self, observation):
            self.n += 1
            return {"n": float(self.n)}

    runs = mfnet.sweep(alpha=[1.0, 2.0], callbacks=[Counts()], **SMALL)
    assert [run.history["n_network"].iloc[0] for run in runs] == [1.0, 1.0]
    kept = ModelCheckpoint(every_n_train_steps=2, save_top_k=-1)
    mfnet.sweep(alpha=[1.0, 2.0], callbacks=[kept], directory=tmp_path, **SMALL)
    for directory in tmp_path.iterdir():
        assert len(list((directory / "checkpoints").glob("epoch*"))) > 1


def test_runs_in_threads_leave_torch_as_it_was():
    settings = [{**SMALL, "trainer": {"precision": precision}} for precision in ("float64", "float32") * 2]
    found = {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: mfnet.train(**settings[i])})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i].summary["dtype"] for i in range(4)] == ["float64", "float32"] * 2
    assert torch.get_default_dtype() is torch.float32


def test_a_run_in_a_thread_of_its_own():
    found = []
    thread = threading.Thread(target=lambda: found.append(mfnet.train(**SMALL)))
    thread.start()
    thread.join()
    assert found[0].history.equals(mfnet.train(**SMALL).history)


def test_an_own_data_set_of_another_size_is_told(tmp_path):
    def wrong():
        return (np.zeros((10, 3)), np.ones(10)), (np.zeros((10, 4)), np.ones(10))

    with pytest.raises(mfnet.SettingError, match="test inputs have the shape"):
        mfnet.train(data=wrong, M=5, logger=[])
