"""What the command prints, wherever it goes: a reader that has gone, a full disk or a plain terminal costs no run."""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

#: Signs that have no plain letters of their own.
_PLAIN = {"±": "+-", "–": "-", "·": "*", "×": "x", "→": "->", "≤": "<=", "≥": ">=", "∞": "inf", "√": "sqrt "}

_ERRORS = "mfnet.plain"


@contextmanager
def lasting() -> Iterator[None]:
    """Inside, nothing that is printed can fail: what cannot be written is lost, what cannot be encoded is plain.

    Streams that somebody has put in the place of the process's own stay as they are.
    """
    codecs.register_error(_ERRORS, _plain)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _lasting(sys.stdout, sys.__stdout__, 1), _lasting(sys.stderr, sys.__stderr__, 2)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


class _Lasting(io.FileIO):
    """A file that takes all that it is given."""

    def write(self, data: bytes) -> int | None:  # type: ignore[override]  # of any buffer
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _lasting(stream: TextIO | None, own: TextIO | None, number: int) -> TextIO:
    """A stream of this process that lasts, or nowhere if it is closed."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if stream is not own or not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    file = io.BufferedWriter(_Lasting(number, "w", closefd=False))  # type: ignore[type-var]  # as it writes
    return io.TextIOWrapper(file, stream.encoding, _ERRORS, line_buffering=stream.line_buffering)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Plain letters for what an encoding lacks: gamma for γ, - for –, and ? where there are none.

    Raises:
        UnicodeError: If it is not about encoding.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_letters, error.object[error.start : error.end])), error.end


def _letters(sign: str) -> str:
    name = unicodedata.name(sign, "")
    if name.startswith("GREEK "):
        return name.partition(" LETTER ")[2].partition(" ")[0].lower() or "?"
    plain = _PLAIN.get(sign, unicodedata.normalize("NFKD", sign))
    return plain.encode("ascii", "ignore").decode() or "?"
