"""How a run's checkpoint is written: as a whole, and in the background where a GPU would wait."""

from __future__ import annotations

import threading

import pytest
import torch
from lightning.fabric.plugins import TorchCheckpointIO

from mfnet.training.saving import Replacing


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
