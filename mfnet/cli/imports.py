"""Imports that take seconds, made when they are needed, and a fifth faster."""

from __future__ import annotations

import atexit
import gc
import importlib
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Inside, imports are not interrupted by searches for garbage; what they have made is never searched again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # else nanobind reports what lives at the end as leaked
        if enabled:
            gc.enable()


def import_training() -> None:
    """Imports torch and Lightning, with all that trains."""
    with uncollected():
        importlib.import_module("mfnet.training")
