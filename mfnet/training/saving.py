"""When and how checkpoints are written: each replaces the last as a whole, and a GPU need not wait for the disk."""

from __future__ import annotations

import io
import math
import os
import threading
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO, TorchCheckpointIO
from torch import Tensor
from torch.utils._pytree import tree_map_only

StrPath = str | Path

#: Times as long as a checkpoint takes to write that pass before the next.
APART = 20.0


class Pace:
    """When to write again, so that writing takes a small share of the time."""

    def __init__(self) -> None:
        self._next = -math.inf

    def is_due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self._next

    def has_taken(self, seconds: float) -> None:
        """Says how long writing has just taken."""
        self._next = time.monotonic() + APART * seconds


class Replacing(CheckpointIO):
    """Writes a file beside the run's checkpoint, and puts it in its place; other checkpoints are not its business.

    A checkpoint of what is on a GPU is copied, and written while the run goes on. Where the disk is slower than the
    run, checkpoints are left out, and never the last.

    Args:
        path: The run's checkpoint.
        inner: Writes and reads files.
    """

    def __init__(self, path: Path, inner: CheckpointIO):
        self.path, self.inner = path, inner
        self._waiting: tuple[dict[str, Any], Any] | None = None
        self._writer: threading.Thread | None = None
        self._changed = threading.Lock()
        self._error: BaseException | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: StrPath, storage_options: Any = None) -> None:
        """Writes a checkpoint, or sees to it that it is written.

        Raises:
            OSError: If it, or an earlier one, cannot be.
        """
        if path != self.path:
            self.inner.save_checkpoint(checkpoint, path, storage_options)
        elif any(values.is_cuda for values in checkpoint["state_dict"].values()):
            copy = tree_map_only(Tensor, lambda x: x.cpu() if x.is_cuda else x.clone(), checkpoint)
            self.write_later(copy, storage_options)
        else:
            self._write(checkpoint, storage_options)

    def write_later(self, checkpoint: dict[str, Any], storage_options: Any = None) -> None:
        """Sees to it that the run's checkpoint is written, unless a later one comes before its turn.

        Args:
            checkpoint: What nothing else changes.
            storage_options: As of Lightning.

        Raises:
            OSError: If an earlier one could not be.
        """
        self._raise()
        with self._changed:
            self._waiting = checkpoint, storage_options
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_all, name="mfnet checkpoints")
                self._writer.start()

    def load_checkpoint(self, path: StrPath, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self.inner.load_checkpoint(path, *args, **kwargs)

    def remove_checkpoint(self, path: StrPath) -> None:
        self.inner.remove_checkpoint(path)

    def teardown(self) -> None:
        """Waits until the last checkpoint is written.

        Raises:
            OSError: If it cannot be.
        """
        if (writer := self._writer) is not None:
            writer.join()
        self.inner.teardown()
        self._raise()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                given, self._waiting = self._waiting, None
                if given is None:
                    self._writer = None
                    return
            try:
                self._write(*given)
            except BaseException as error:  # told to whoever comes next
                self._error = error

    def _write(self, checkpoint: dict[str, Any], storage_options: Any) -> None:
        temporary = self.path.with_suffix(".part")
        try:
            if type(self.inner) is TorchCheckpointIO:  # which would write in a directory for temporary files first
                whole = io.BytesIO()
                torch.save(checkpoint, whole)
                temporary.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(whole.getbuffer())
            else:
                self.inner.save_checkpoint(checkpoint, temporary, storage_options)
            os.replace(temporary, self.path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _raise(self) -> None:
        if (error := self._error) is not None:
            self._error = None
            raise error
