"""TensorBoard's files, written as a run goes or in bulk."""

from __future__ import annotations

import os
import socket
import struct
import time
from itertools import count
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import google_crc32c
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

#: Tells files of one process and second apart.
_NUMBERS = count()


@runtime_checkable
class Events(Protocol):
    """Takes what TensorBoard is to show of one run of its own."""

    def add_summary(self, summary: Summary, step: int | None = None) -> None:
        """Adds an event."""

    def flush(self) -> None:
        """Writes what was added."""

    def close(self) -> None:
        """Writes what was added, and ends."""


class Live:
    """Events that are written as they come, by a thread that holds the file open.

    Args:
        writer: Writes them.
    """

    def __init__(self, writer: SummaryWriter):
        self.writer = writer
        self._file: Any = writer._get_file_writer()

    def add_summary(self, summary: Summary, step: int | None = None) -> None:
        self._file.add_summary(summary, step)

    def flush(self) -> None:
        """Leaves it to the thread."""

    def close(self) -> None:
        self.writer.close()


class InBulk:
    """Events that are kept until they are asked for: no file stays open, so that there can be many at a time.

    Args:
        folder: Where the file is.
        purge_step: The first step that is written anew, if a run goes on.
    """

    def __init__(self, folder: Path, purge_step: int | None = None):
        self.folder, self._path = folder, Path()
        self._new: list[Event] = [Event(wall_time=time.time(), file_version="brain.Event:2")]
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._new.append(Event(wall_time=time.time(), step=purge_step, session_log=start))

    def add_summary(self, summary: Summary, step: int | None = None) -> None:
        self._new.append(Event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        if self._path == Path():
            self.folder.mkdir(parents=True, exist_ok=True)
            told_apart = f"{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{next(_NUMBERS)}"
            self._path = self.folder / f"events.out.tfevents.{told_apart}"
        with self._path.open("ab") as file:
            file.write(b"".join(_record(event.SerializeToString()) for event in self._new))
        self._new.clear()

    def close(self) -> None:
        self.flush()


def _record(data: bytes) -> bytes:
    """An event as the files have it: length and data, each with its checksum; tensorboard's own takes a millisecond."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _checksum(length), data, _checksum(data)))


def _checksum(data: bytes) -> bytes:
    value = google_crc32c.value(data)
    rotated = (value >> 15 | value << 17) + 0xA282EAD8
    return struct.pack("<I", rotated & 0xFFFFFFFF)
