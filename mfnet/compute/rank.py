"""The number of this process among those of a run."""

from __future__ import annotations

import os


def rank() -> int:
    """As torchrun or Lightning says; 0 before there are others."""
    return int(os.environ.get("RANK" if "TORCHELASTIC_RUN_ID" in os.environ else "LOCAL_RANK", 0))
