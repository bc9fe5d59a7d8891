"""Options of Lightning's trainer, and what a run leaves of its process."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import threading
import time
import warnings

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

import mfnet
from mfnet.record.directory import RunDirectory
from mfnet.setup.checks import REFUSED
from mfnet.setup.errors import SettingError
from mfnet.setup.settings import BY_KEY, LIGHTNINGS
from mfnet.training.checkpoint import read_checkpoint
from support.command import NO_EVENTS, SMALL, columns, summary

pytestmark = pytest.mark.unchecked

TINY = {"M": 20, "N": 100, "d": 20, "data": {"n_test": 100}}
SHORT = {**TINY, "schedule": {"t_max": 2.0, "per_decade": 2}, "logger": []}

#: Options that reach Lightning's trainer.
PASSED = {
    "callbacks",
    "deterministic",
    "enable_autolog_hparams",
    "fast_dev_run",
    "max_time",
    "model_registry",
    "profiler",
}


def test_every_option_is_passed_or_refused():
    options = set(inspect.signature(lightning.Trainer).parameters)
    ours = {key.removeprefix("trainer.") for key in set(BY_KEY) - set(LIGHTNINGS) if key.startswith("trainer.")}
    ours &= options
    assert ours == {"accelerator", "devices", "precision"}
    newer = {"enable_autolog_hparams", "model_registry"}  # than the oldest Lightning that will do
    assert options - set(REFUSED) - ours - newer == PASSED - newer
    assert set(REFUSED) - options == {"tensorboard"}


@pytest.mark.parametrize("name", sorted(set(REFUSED) - {"tensorboard"}))
def test_what_contradicts_a_flow_is_refused_with_the_reason(name):
    with pytest.raises(SettingError) as caught:
        mfnet.Setup.of(trainer={name: 1})
    assert str(caught.value) == f"trainer.{name}=1: {REFUSED[name]}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["+trainer.frobnicate=1"], "trainer.frobnicate=1: there is no setting of this name"),
        (["+trainer.gradient_clip_val=1"], "flow.rtol"),
        (["+trainer.max_time=soon"], "max_time=soon"),
        (["+trainer.profiler=fast"], "profiler=fast"),
        (["+trainer.callbacks=1"], "must be a list"),
        (
            ["+trainer.callbacks=[{_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: test_error}]"],
            "stop.test_error_rise",
        ),
        (
            ["+callbacks.e={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: test_error}"],
            "stop.test_error_rise",
        ),
        (["+trainer.callbacks=[{_target_: no.such.Thing}]"], "no.such.Thing"),
        (["+trainer.callbacks=[{_target_: lightning.pytorch.callbacks.ModelCheckpoint, foo: 1}]"], "foo"),
    ],
)
def test_a_mistake_costs_one_line_and_nothing_else(settings, message, command, tmp_path):
    ended = command("train", *SMALL, *settings)
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert message in ended.err
    assert list(tmp_path.iterdir()) == []


def test_early_stopping_is_refused_in_python():
    with pytest.raises(SettingError, match=r"use stop\.test_error_rise"):
        mfnet.train(**SHORT, callbacks=[EarlyStopping("test_error")])
    with pytest.raises(SettingError, match=r"use stop\.test_error_rise"):
        mfnet.train(**SHORT, trainer={"callbacks": [EarlyStopping("test_error")]})


class Slow(Callback):
    def on_train_batch_end(self, trainer, pl_module, *_):
        time.sleep(0.6)


def test_max_time_ends_a_run_which_can_go_on(tmp_path):
    limited = {**SHORT, "trainer": {"max_time": "00:00:00:01"}, "callbacks": [Slow()]}
    run = mfnet.train(**limited, directory=tmp_path / "run")
    assert run.summary["stop_reason"] == "wall_time"
    directory = RunDirectory(tmp_path / "run")
    checkpoint = read_checkpoint(directory.checkpoint)
    assert checkpoint.k == run.history["k"].iloc[-1] >= 1
    again = mfnet.training.Training(run.setup, directory, checkpoint).run()  # with as much time again
    assert len(again.history) > len(run.history)
    whole = mfnet.train(**SHORT).history
    assert again.history.equals(whole[: len(again.history)])


def test_a_run_that_is_stopped_before_it_goes_on_is_closed(tmp_path):
    class StopsAtOnce(Callback):
        def on_train_start(self, trainer, pl_module):
            trainer.should_stop = trainer.global_step > 0

        def on_train_batch_end(self, trainer, pl_module, *_):
            trainer.should_stop = True

    run = mfnet.train(**SHORT, callbacks=[StopsAtOnce()], directory=tmp_path / "run")
    directory = RunDirectory(tmp_path / "run")
    again = mfnet.training.Training(run.setup, directory, read_checkpoint(directory.checkpoint)).run()
    assert again.summary["stop_reason"] == "callback"
    np.testing.assert_array_equal(again.history["k"][:2], [0, 1])
    assert again.summary["gamma"] == again.history["gamma_network"].iloc[-1]


def test_a_callback_that_stops_the_run(tmp_path):
    class Stops(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            trainer.should_stop = pl_module.observation.k == 2

    run = mfnet.train(**SHORT, callbacks=[Stops()], directory=tmp_path / "run")
    assert run.summary["stop_reason"] == "callback"
    assert list(run.history["k"]) == [0, 1, 2]


def test_the_profiler_is_heard(command, caplog):
    logging.getLogger("lightning.pytorch").addHandler(caplog.handler)
    try:
        command("train", *SMALL, *NO_EVENTS, "schedule.t_max=1", "+trainer.profiler=simple").ok()
        assert "run_training_epoch" in caplog.text
        caplog.clear()
        mfnet.train(**SHORT)
        assert caplog.text == ""
    finally:
        logging.getLogger("lightning.pytorch").removeHandler(caplog.handler)


def test_fast_dev_run_is_one_interval(command, tmp_path):
    command("train", *SMALL, "+trainer.fast_dev_run=true", "hydra.run.dir=run").ok()
    assert list(columns(tmp_path / "run")["k"]) == [0, 1]


def test_deterministic_is_put_back(command):
    assert not torch.are_deterministic_algorithms_enabled()
    seen = []
    setting = {"deterministic": True}
    mfnet.train(
        **SHORT,
        trainer=setting,
        callbacks={"own": lambda _: seen.append(torch.are_deterministic_algorithms_enabled()) or 0.0},
    )
    assert all(seen)
    assert len(seen) > 2
    assert not torch.are_deterministic_algorithms_enabled()
    command("train", *SMALL, *NO_EVENTS, "schedule.t_max=1", "+trainer.deterministic=true").ok()
    assert not torch.are_deterministic_algorithms_enabled()


RISING = {**TINY, "N": 40, "data": {"n_test": 400, "flip": 0.2}, "schedule": {"per_decade": 4}, "logger": []}


def best_in(folder):
    (file,) = [path for path in folder.glob("*.ckpt") if path.name != "last.ckpt"]
    return read_checkpoint(file).k


def test_the_best_checkpoint_is_of_the_least_test_error(tmp_path):
    best = ModelCheckpoint(monitor="test_error", mode="min", every_n_train_steps=1, dirpath=tmp_path / "best")
    run = mfnet.train(**RISING, callbacks=[best])
    errors = run.history["test_error_network"]
    assert errors.idxmin() < len(errors) - 1
    assert best_in(tmp_path / "best") == errors.idxmin()


@pytest.mark.parametrize("logger", ["[]", "[csv]", "[tensorboard]"])
def test_it_is_kept_in_the_directory_of_the_run(logger, command, tmp_path):
    keeps = (
        "_target_: lightning.pytorch.callbacks.ModelCheckpoint, monitor: test_error, mode: min, every_n_train_steps: 1"
    )
    settings = [
        *SMALL,
        "data.flip=0.2",
        "N=40",
        f"logger={logger}",
        f"+trainer.callbacks=[{{{keeps}}}]",
        "hydra.run.dir=run",
    ]
    command("train", *settings).ok()
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    errors = columns(tmp_path / "run")["test_error_network"]
    assert best_in(tmp_path / "run" / "checkpoints") == int(np.argmin(errors))
    assert summary(tmp_path / "run")["test_error"] == errors[-1]


def test_without_a_directory_it_has_nowhere_to_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match="writes files; give it a dirpath, or a directory"):
        mfnet.train(**SHORT, callbacks=[ModelCheckpoint()])
    assert list(tmp_path.iterdir()) == []


class Reads(Callback):
    def __init__(self):
        self.read = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.read.append(float(trainer.callback_metrics["gamma"]))


def test_a_callback_reads_every_series():
    reads = Reads()
    run = mfnet.train(**SHORT, callbacks=[reads])
    np.testing.assert_allclose(reads.read, run.history["gamma_network"][1:], rtol=1e-6)


def process():
    """What a run may not change."""
    loggers = {name: logging.getLogger(name).level for name in (None, "lightning.pytorch", "lightning.fabric")}
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return list(warnings.filters), loggers, handlers, dict(os.environ), torch.backends.cudnn.benchmark


class Interrupts(Callback):
    def on_train_batch_end(self, trainer, pl_module, *_):
        os.kill(os.getpid(), signal.SIGTERM)


class Raises(Callback):
    def on_train_batch_end(self, trainer, pl_module, *_):
        raise OSError("gone")


@pytest.mark.parametrize(("callback", "error"), [(None, None), (Interrupts, KeyboardInterrupt), (Raises, OSError)])
def test_the_process_is_as_it_was(callback, error):
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    before = process()
    if error is None:
        mfnet.train(**SHORT)
    else:
        with pytest.raises(error):
            mfnet.train(**SHORT, callbacks=[callback()])
    assert process() == before


def test_outside_the_main_thread():
    runs = []
    before = process()
    thread = threading.Thread(target=lambda: runs.append(mfnet.train(**SHORT)))
    thread.start()
    thread.join()
    assert process() == before
    assert runs[0].history.equals(mfnet.train(**SHORT).history)
