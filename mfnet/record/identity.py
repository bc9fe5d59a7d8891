"""What tells one run from another (no torch)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

#: Settings that change neither what a run computes nor what it records.
_FREE = ("ckpt", "trainer")
_FREE_OF_GROUP = {"stop": "wall_seconds", "data": "memory"}


def identity(config: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits that stand for what a run computes and records; where and how fast is left out.

    Two configs that differ in nothing but ``ckpt``, ``stop.wall_seconds``, ``data.memory`` and ``trainer`` (but its
    precision), or in writing 1 for 1.0, have the same.

    Args:
        config: A resolved config, in plain containers.

    >>> config = {"alpha": 1, "stop": {"wall_seconds": None}, "trainer": {"devices": 1, "precision": "auto"}}
    >>> identity(config)
    '8c3f8b99b0'
    >>> identity({**config, "alpha": 1.0, "ckpt": "some.ckpt"})
    '8c3f8b99b0'
    """
    physics = {key: value for key, value in config.items() if key not in _FREE}
    for group, free in _FREE_OF_GROUP.items():
        if group in config:
            physics[group] = {key: value for key, value in config[group].items() if key != free}
    physics["precision"] = config["trainer"]["precision"]
    return hashlib.sha256(json.dumps(_canonical(physics), sort_keys=True).encode()).hexdigest()[:10]


def run_name(config: Mapping[str, Any]) -> str:
    """Name of a run's directory among those of a sweep, the same for the same `identity`."""
    symbols = "_".join(f"{key}{config[key]:.6g}" for key in ("M", "N", "d", "alpha", "seed"))
    return f"{symbols}_{identity(config)}"


def _canonical(value: Any) -> Any:
    """``value`` with whole numbers as integers, however they were written."""
    if isinstance(value, Mapping):
        return {str(key): _canonical(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
