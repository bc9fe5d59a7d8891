"""Runs that are trained side by side, against the same runs alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mfnet.flow import StopReason
from mfnet.flow.flow import Flow
from mfnet.record.directory import RunDirectory
from mfnet.setup.errors import SettingError
from mfnet.setup.setup import Setup
from mfnet.training import NodeLog, Observer, Training
from mfnet.training.checkpoint import read_checkpoint
from mfnet.training.side_by_side import checkpoint_of, merged, together, train_side_by_side

pytestmark = pytest.mark.unchecked

SMALL = {"M": 20, "N": 80, "d": 6, "data.n_test": 200, "schedule.per_decade": 4, "trainer.accelerator": "cpu"}
SMALL |= {"trainer.precision": "float64", "trainer.progress": False, "figures": False}

#: Settings in which runs may differ: their times differ too, and with ε > 0 or late they end otherwise.
DIFFERENT = [
    {},
    {"alpha": 0.1, "seed": 3},
    {"alpha": 100.0, "h": 0.5, "seed": 4},
    {"data.flip": 0.2, "seed": 5, "schedule.t_max": 3.0},
    {"network.init": "balanced", "network.a_std": 2.0, "data": "sphere", "seed": 6, "theory": "mean_field"},
    {"network.w_std": 0.5, "data": "mixture", "seed": 7, "schedule.per_decade": 3, "overlay": ["kernel_closure"]},
]


def trainings(folder, settings, **common):
    """Runs that are about to start or go on, each in a directory of its own."""
    found = []
    for given in settings:
        setup = Setup.of(**{**SMALL, **common, **given})
        directory = RunDirectory(folder / setup.name)
        directory.path.mkdir(parents=True, exist_ok=True)
        checkpoint = read_checkpoint(directory.checkpoint) if directory.checkpoint.exists() else None
        found.append(Training(setup, directory, checkpoint, in_sweep=True))
    return found


def assert_same_run(ours, theirs):
    """That two directories hold the same run, whose numbers agree to what rounding becomes on the way."""
    files = [[str(path.relative_to(each)) for path in each.rglob("*") if path.is_file()] for each in (ours, theirs)]
    names = [{name.partition("events.out")[0] for name in each} for each in files]
    assert names[0] == names[1] - {"tensorboard/network/hparams.yaml"}  # of Lightning's, which is empty
    found, expected = RunDirectory(ours).read(), RunDirectory(theirs).read()
    assert list(found.history) == list(expected.history)
    for name, values in expected.history.items():
        assert found.history[name] == pytest.approx(values, rel=1e-8, abs=1e-10, nan_ok=True), name
    for file, arrays in expected.arrays.items():
        for name, values in arrays.items():
            assert found.arrays[file][name] == pytest.approx(values, rel=1e-7, abs=1e-9, nan_ok=True), (file, name)
    assert set(found.summary) == set(expected.summary)
    same = ("identity", "stop_reason", "steps", "series", "theories", "n_unsatisfied", "device", "evaluator", "trust")
    assert {name: found.summary[name] for name in same} == {name: expected.summary[name] for name in same}
    assert found.summary["t_end"] == pytest.approx(expected.summary["t_end"], rel=1e-9)
    assert found.summary["drive_evaluations"] == pytest.approx(expected.summary["drive_evaluations"], rel=1e-9)


def shape_of(saved):
    """What a checkpoint holds: its keys, and the shapes and types of its tensors."""
    if isinstance(saved, dict):
        return {name: shape_of(entry) for name, entry in saved.items()}
    if isinstance(saved, list | tuple):
        return [shape_of(entry) for entry in saved]
    return (saved.shape, saved.dtype) if isinstance(saved, torch.Tensor) else type(saved)


@pytest.mark.parametrize("flow", ["averaged", "adaptive_rotation", "heun", "rotation", "euler"])
def test_each_is_the_run_that_it_would_have_been_alone(flow, tmp_path):
    """Of different α, h, ε, seeds, initial values, data, theories and times; float64 to rounding."""
    common = {"flow": flow, **({"flow.dt": 0.05} if flow in ("rotation", "euler") else {})}
    common |= {"schedule.t_max": 20.0}
    beside = trainings(tmp_path / "beside", DIFFERENT, **common)
    assert len({together(training) for training in beside}) == 1
    told = []
    sides = train_side_by_side(beside, told.append)
    assert [side.error for side in sides] == [None] * len(DIFFERENT)
    assert sorted(map(id, told)) == sorted(map(id, sides))
    for side, alone in zip(sides, trainings(tmp_path / "alone", DIFFERENT, **common), strict=True):
        run = alone.run()
        assert_same_run(side.training.directory.path, alone.directory.path)
        ours, theirs = side.training.pieces.networks, run.network
        for name in ("a", "w", "a0", "w0"):
            assert torch.allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-8, atol=1e-10)
        files = [torch.load(each.directory.checkpoint, weights_only=True) for each in (side.training, alone)]
        assert shape_of(files[0]) == shape_of(files[1])


def test_runs_end_each_for_its_own_reason(tmp_path):
    """One at its last time, one by a rule, one because it diverges."""
    settings = [{"seed": 2}, {"schedule.t_max": 4.0, "seed": 1}, {"h": 1e30}]
    common = {"flow": "euler", "flow.dt": 0.2, "stop.test_error_rise": 1.05, "schedule.t_max": 400.0, "theory": None}
    common["loss"] = "square"
    sides = train_side_by_side(trainings(tmp_path / "beside", settings, **common), lambda _: None)
    ends = [side.recorder.contents.summary["stop_reason"] for side in sides]
    alone = [training.run().summary["stop_reason"] for training in trainings(tmp_path / "alone", settings, **common)]
    assert ends == alone
    assert set(ends) == {"t_max", "test_error_rose", "diverged"}
    for side, training in zip(sides, trainings(tmp_path / "again", settings, **common), strict=True):
        if side.recorder.contents.summary["stop_reason"] != "diverged":
            assert_same_run(side.training.directory.path, tmp_path / "alone" / training.setup.name)


class Interrupted(Exception):  # noqa: N818  (what a key would do)
    """Ends a run in its midst."""


def cut_off(folder, settings, k, error, monkeypatch, **common):
    """Runs side by side, which are ended on their way to the k-th observation."""
    calls, advance = [], Flow._advance

    def ending(flow, *arguments):
        calls.append(1)
        if len(calls) == k:
            raise error
        return advance(flow, *arguments)

    cut = trainings(folder, settings, **common)
    with monkeypatch.context() as patch:
        patch.setattr(Flow, "_advance", ending)
        with pytest.raises(type(error)):
            train_side_by_side(cut, lambda _: None)
    return cut


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("none left")], ids=["ctrl-c", "error"])
def test_what_was_cut_off_goes_on_together_or_alone(error, tmp_path, monkeypatch):
    """From the last observation, which is in the files; the rest is that of runs that were never cut off."""
    settings, common = DIFFERENT[:4], {"schedule.t_max": 20.0}
    cut = cut_off(tmp_path / "cut", settings, 5, error, monkeypatch, **common)
    for training in cut:
        checkpoint = read_checkpoint(training.directory.checkpoint)
        assert checkpoint.k == 4
        contents = training.directory.read()
        assert len(contents.history["t"]) == 5
        assert contents.summary["stop_reason"].startswith("interrupted" if not error.args else "error: none left")
        for path in training.directory.path.rglob("error.log"):
            path.unlink()
    first, *others = trainings(tmp_path / "cut", settings, **common)
    first.run()
    assert {together(training) for training in others} == {together(others[0])}
    train_side_by_side(others, lambda _: None)
    for alone in trainings(tmp_path / "alone", settings, **common):
        alone.run()
        (tmp_path / "cut" / alone.setup.name / "tensorboard" / "network" / "hparams.yaml").unlink(missing_ok=True)
        assert_same_run(tmp_path / "cut" / alone.setup.name, alone.directory.path)


def test_a_checkpoint_of_many_is_that_of_each(tmp_path, monkeypatch):
    """Taken apart and put together it is what it was."""
    cut = cut_off(tmp_path, DIFFERENT[:3], 4, KeyboardInterrupt(), monkeypatch)
    each = [torch.load(training.directory.checkpoint, weights_only=True) for training in cut]
    whole = merged(each)
    assert whole["state_dict"]["network.w"].shape == (3, 20, 6)
    for r, alone in enumerate(each):
        apart = checkpoint_of(whole, r)
        for name in ("state_dict", "optimizer_states", "so_far", "last"):
            assert str(apart[name]) == str(alone[name])
        assert whole["callbacks"]["Recordings"]["each"][r] is alone["callbacks"]


def test_one_that_fails_costs_the_others_nothing(tmp_path, monkeypatch):
    settings = [{"seed": seed} for seed in range(3)]
    beside = trainings(tmp_path / "beside", settings, logger=[])
    broken = beside[1].directory

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(broken, "write_arrays", fail)
    told = []
    sides = train_side_by_side(beside, told.append)
    assert [type(side.error) for side in sides] == [type(None), OSError, type(None)]
    assert told.count(sides[1]) == 1
    assert len(told) == 3
    monkeypatch.undo()
    for training in trainings(tmp_path / "alone", [settings[0], settings[2]], logger=[]):
        training.run()
        assert_same_run(tmp_path / "beside" / training.setup.name, training.directory.path)


def test_one_that_cannot_begin_fails_alone(tmp_path):
    """Its initial outputs are too large for float32."""
    too_large = {"network.a_std": 1e20, "network.w_std": 1e20}
    common = {"theory": None, "trainer.precision": "float32", "schedule.t_max": 1.0}
    sides = train_side_by_side(trainings(tmp_path, [{}, too_large], **common), lambda _: None)
    assert sides[0].recorder.contents.summary["stop_reason"] == "t_max"
    assert "not finite" in str(sides[1].error)
    (alone,) = trainings(tmp_path / "alone", [too_large], **common)
    with pytest.raises(SettingError, match="not finite"):
        alone.run()


def test_a_checkpoint_that_cannot_be_written_ends_its_run_alone(tmp_path):
    beside = trainings(tmp_path, [{"seed": seed} for seed in range(3)])
    beside[2].directory.checkpoint.mkdir(parents=True)  # no file can take its place
    sides = train_side_by_side(beside, lambda _: None)
    assert [side.error is not None for side in sides] == [False, False, True]
    assert [RunDirectory(training.directory.path).state() for training in beside] == ["complete", "complete", "failed"]
    assert sides[0].recorder.contents.summary["stop_reason"] in (StopReason.T_MAX, StopReason.ALL_SATISFIED)


# ---------------------------------------------------------------- which go together


class Looks(Callback):
    """May do anything."""


class Hooked(Observer):
    """Does more than return what it sees."""

    def on_train_epoch_end(self, trainer, pl_module):
        """Could do anything."""


def alike(**settings):
    return together(Training(Setup.of(**{**SMALL, **settings})))


@pytest.mark.parametrize(
    "settings",
    [{"alpha": 3.0}, {"h": 2.0}, {"seed": 9}, {"data.flip": 0.1}, {"network.init": "balanced"}, {"schedule.t_max": 2.0},
     {"network.w_std": 2.0}, {"theory": None}, {"overlay": ["laziness"]}, {"callbacks": [NodeLog(n=3)]},
     {"figures": True}, {"data": "sphere"}],
    ids=lambda settings: " ".join(settings),
)  # fmt: skip
def test_runs_may_differ_in(settings):
    assert alike(**settings) == alike() is not None


@pytest.mark.parametrize(
    "settings",
    [{"M": 24}, {"N": 90}, {"d": 7}, {"data.n_test": 100}, {"flow": "heun"}, {"flow.rtol": 0.02}, {"loss": "logistic"},
     {"network.activation": "tanh"}, {"trainer.precision": "float32"}, {"stop.satisfied": 0.9}],
    ids=lambda settings: " ".join(f"{key}={value}" for key, value in settings.items() if key != "callbacks"),
)  # fmt: skip
def test_runs_may_not_differ_in(settings):
    assert alike(**settings) not in (alike(), None)


@pytest.mark.parametrize(
    "settings",
    [{"replicas": 2}, {"stop.wall_seconds": 60.0}, {"callbacks": [Looks()]}, {"callbacks": [Hooked()]}, {"M": 200_000},
     {"data": "online", "flow": "rotation"}, {"flow": "sgd"}, {"trainer.max_time": "00:00:01:00"},
     {"trainer.fast_dev_run": True}],
    ids=lambda settings: " ".join(f"{key}={value}" for key, value in settings.items() if key != "callbacks"),
)  # fmt: skip
def test_some_runs_are_trained_alone(settings):
    assert alike(**settings) is None


def test_steps_of_a_fixed_length_go_together_if_it_is_the_same():
    """By default it follows α."""
    assert alike(flow="rotation", alpha=1.0) != alike(flow="rotation", alpha=3.0)
    assert alike(flow="rotation", **{"flow.dt": 0.1}) == alike(flow="rotation", alpha=3.0, **{"flow.dt": 0.1})


# ---------------------------------------------------------------- TensorBoard


def scalars(directory):
    """Every scalar of every run in a directory: (run, tag) to steps and values; and histograms."""
    found = {}
    for side in sorted(path for path in (directory / "tensorboard").iterdir() if path.is_dir()):
        events = EventAccumulator(str(side), size_guidance={"scalars": 0, "histograms": 0}).Reload()
        for tag in events.Tags()["scalars"]:
            found[side.name, tag] = [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["histograms"]:
            seen = [(event.step, event.histogram_value) for event in events.Histograms(tag)]
            found[side.name, tag] = [(step, h.num, h.min, h.max, h.sum, len(h.bucket)) for step, h in seen]
        found[side.name, "files"] = len(list(side.glob("events.out*")))
    return found


def test_events_in_bulk_are_those_that_are_written_one_by_one(tmp_path, monkeypatch):
    """Also of a run that goes on, whose later events take the place of those before."""
    settings = DIFFERENT[:3]
    cut_off(tmp_path / "cut", settings, 6, KeyboardInterrupt(), monkeypatch)
    train_side_by_side(trainings(tmp_path / "cut", settings), lambda _: None)
    train_side_by_side(trainings(tmp_path / "whole", settings), lambda _: None)
    for alone in trainings(tmp_path / "alone", settings):
        alone.run()
        expected = scalars(alone.directory.path)
        for folder in ("whole", "cut"):
            found = scalars(tmp_path / folder / alone.setup.name)
            assert set(found) == set(expected)
            for name, values in expected.items():
                if name[1] != "files":
                    assert np.array(found[name]) == pytest.approx(np.array(values), rel=1e-5, abs=1e-7, nan_ok=True), (
                        name
                    )
        assert scalars(tmp_path / "whole" / alone.setup.name)["network", "files"] == 1
