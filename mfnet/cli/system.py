"""What the system refuses: a full disk, no memory, too many open files. It costs one line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mfnet.compute.launch import FellowEndedError
from mfnet.setup.pieces import told

#: What an OSError says that is the system's; of others, as of a missing file, somebody's code may be the cause.
_NUMBERS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOLCK, errno.ENAMETOOLONG, errno.EBUSY),
)

#: What torch, or a library that cannot be loaded, says of the same.
_SAID = (
    *(os.strerror(number) for number in (errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM)),
    *("not enough memory", "out of memory", "can't allocate memory", "can't start new thread"),
)


class SystemRefusalError(Exception):
    """What the system has refused, told in one line."""


def refusal(error: BaseException, directory: Path | None = None) -> str | None:
    """What the system has refused and where, in a line; None if an exception is none of its.

    Args:
        error: The exception.
        directory: That of the run: what is missing in it was taken away while it was in use.
    """
    if isinstance(error, SystemRefusalError | FellowEndedError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"out of memory: {told(error)}" if error.args else "out of memory"
    if isinstance(error, OSError):
        return _of_file(error, directory)
    if isinstance(error, RuntimeError | ImportError) and any(said in str(error) for said in _SAID):
        return told(error)
    return None


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Inside, what the system refuses is told of what is read or written there.

    Raises:
        SystemRefusalError: Instead of the system's own exception.
    """
    try:
        yield
    except Exception as error:
        if refusal(error) is None:
            raise
        raise SystemRefusalError(refusal(error, path)) from error


def _of_file(error: OSError, directory: Path | None) -> str | None:
    """The same of an operation on a file, or on none that is named."""
    if error.errno is None:  # a library's own words
        return told(error) if isinstance(error.__cause__, OSError) and refusal(error.__cause__) else None
    place = error.filename if isinstance(error.filename, str | os.PathLike) else None
    text = error.strerror or os.strerror(error.errno)
    if place is None:
        known = error.errno in (*_NUMBERS, errno.ENOENT)  # as of a current directory, or one for temporary files
        return (text if directory is None else f"{directory}: {text}") if known else None
    inside = directory is not None and Path(place).absolute().is_relative_to(directory.absolute())
    gone = inside and error.errno in (errno.ENOENT, errno.ENOTDIR)
    return f"{place}: {text}" if gone or error.errno in _NUMBERS else None
