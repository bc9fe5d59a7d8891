"""When and how a run's checkpoint is written: as a whole, seldom if it takes long, and where a run is interrupted."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest
import torch
from lightning.fabric.plugins import TorchCheckpointIO

import mfnet
from mfnet.record.directory import RunDirectory
from mfnet.training.checkpoint import read_checkpoint
from mfnet.training.saving import APART, Replacing
from mfnet.training.train import Training

SMALL = {"M": 10, "N": 60, "d": 5, "data.n_test": 50, "schedule.t_max": 20.0, "schedule.per_decade": 10, "logger": []}
SMALL |= {"trainer.accelerator": "cpu"}


class Slow(TorchCheckpointIO):
    """Writes when it is let, and keeps what it was given."""

    def __init__(self):
        self.let, self.begun, self.given = threading.Event(), threading.Event(), []

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        self.begun.set()
        assert self.let.wait(30)
        self.given.append((checkpoint["k"], path.name))
        super().save_checkpoint(checkpoint, path, storage_options)


class Broken(TorchCheckpointIO):
    """A disk that is full when half of a file is written."""

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        path.write_bytes(b"half")
        raise OSError("No space left on device")


def read(path):
    return torch.load(path, weights_only=True)["k"]


def test_of_checkpoints_that_wait_the_last_is_written(tmp_path):
    slow = Slow()
    saving = Replacing(tmp_path / "last.ckpt", slow)
    saving.write_later({"k": 0})
    assert slow.begun.wait(30)
    for k in (1, 2, 3):
        saving.write_later({"k": k})
    slow.let.set()
    saving.teardown()
    assert slow.given == [(0, "last.part"), (3, "last.part")]
    assert read(tmp_path / "last.ckpt") == 3
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_after_a_rest_it_goes_on_writing(tmp_path):
    saving = Replacing(tmp_path / "last.ckpt", TorchCheckpointIO())
    for k in range(5):
        saving.write_later({"k": k})
        saving.teardown()
        assert read(tmp_path / "last.ckpt") == k


def test_what_cannot_be_written_in_the_background_is_told(tmp_path):
    saving = Replacing(tmp_path / "last.ckpt", Broken())
    saving.write_later({"k": 0})
    with pytest.raises(OSError, match="No space left"):
        saving.teardown()
    saving.teardown()  # once


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path):
    path = tmp_path / "last.ckpt"
    Replacing(path, TorchCheckpointIO()).save_checkpoint({"k": 7, "state_dict": {}}, path)
    with pytest.raises(OSError, match="No space left"):
        Replacing(path, Broken()).save_checkpoint({"k": 8, "state_dict": {}}, path)
    assert read(path) == 7


def test_other_checkpoints_are_written_as_they_would_be(tmp_path):
    saving = Replacing(tmp_path / "last.ckpt", TorchCheckpointIO())
    saving.save_checkpoint({"k": 1}, tmp_path / "best.ckpt")
    assert read(tmp_path / "best.ckpt") == saving.load_checkpoint(tmp_path / "best.ckpt")["k"] == 1
    saving.remove_checkpoint(tmp_path / "best.ckpt")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- when


@pytest.mark.unchecked
def test_writing_takes_a_small_share_of_a_run_and_the_last_observation_is_written(tmp_path, monkeypatch):
    seconds, written, save = 0.02, [], Replacing.save_checkpoint

    def slow(self, checkpoint, path, storage_options=None):
        time.sleep(seconds)
        written.append(checkpoint["mfnet"]["k"])
        save(self, checkpoint, path, storage_options)

    monkeypatch.setattr(Replacing, "save_checkpoint", slow)
    began = time.monotonic()
    run = mfnet.train(**SMALL, directory=tmp_path / "r", figures=False)
    elapsed = time.monotonic() - began
    assert written[0] == 1
    assert written[-1] == len(run.history) - 1 == read_checkpoint(tmp_path / "r" / "checkpoints" / "last.ckpt").k
    assert (len(written) - 2) * APART * seconds <= elapsed
    assert len(set(written)) == len(written) < len(run.history) - 1


@pytest.mark.unchecked
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("times", [1, 2])
def test_an_interruption_waits_until_what_was_seen_is_recorded(number, times, tmp_path):
    """Asked for twice it does not wait, and the run goes on from an earlier observation; to the same end."""

    def interrupts(observation):
        for _ in range(times if observation.k == 5 and not (tmp_path / "seen").exists() else 0):
            os.kill(os.getpid(), number)
        return float(observation.k)

    whole = mfnet.train(**SMALL, callbacks={"own": lambda observation: float(observation.k)})
    setup = mfnet.Setup.of(**SMALL, figures=False, callbacks={"own": interrupts})
    with pytest.raises(KeyboardInterrupt):
        mfnet.train(setup, directory=tmp_path / "r")
    (tmp_path / "seen").touch()
    kept = RunDirectory(tmp_path / "r")
    checkpoint, contents = read_checkpoint(kept.checkpoint), kept.read()
    assert contents.summary["stop_reason"] == "interrupted"
    assert len(contents.history["t"]) == (6 if times == 1 else 5)
    assert checkpoint.k == 5 if times == 1 else checkpoint.k <= 4
    run = Training(setup, kept, checkpoint).run()
    assert list(run.history) == list(whole.history)
    np.testing.assert_array_equal(run.history, whole.history)
