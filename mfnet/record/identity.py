"""What tells one run from another (no torch)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def identity(settings: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits that stand for what a run computes and records.

    Settings that are the same but for writing 1 for 1.0 have the same.

    Args:
        settings: Those that change what is computed or recorded, in plain containers.

    >>> identity({"alpha": 1}), identity({"alpha": 1.0})
    ('3ee174f5aa', '3ee174f5aa')
    """
    return hashlib.sha256(json.dumps(_canonical(settings), sort_keys=True).encode()).hexdigest()[:10]


def run_name(config: Mapping[str, Any], identity: str) -> str:
    """Name of a run's directory among those of a sweep: its symbols, and what it is known by."""
    symbols = "_".join(f"{key}{config[key]:.6g}" for key in ("M", "N", "d", "alpha", "seed"))
    return f"{symbols}_{identity}"


def _canonical(value: Any) -> Any:
    """``value`` with whole numbers as integers, however they were written."""
    if isinstance(value, Mapping):
        return {str(key): _canonical(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
