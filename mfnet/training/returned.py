"""What observers return, checked: numbers for each replica, with names that columns can have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from mfnet.training.callbacks.observer import Value
from mfnet.training.observation import Observation, Spread


def mapping_of(returned: Any, method: str) -> Mapping[Any, Any]:
    """What a method of an observer has returned.

    Raises:
        ValueError: If it is not a mapping.
    """
    if not isinstance(returned, Mapping):
        raise ValueError(f"{method} must return a mapping, and has returned {returned!r:.60}")
    return returned


def measure_of(name: Any, value: Any) -> float:
    """A measure that an observer has returned.

    Raises:
        ValueError: If it is not a number with a name.
    """
    values = _numbers(name, value)
    if values.shape != ():
        raise ValueError(f"{name} has the shape {values.shape}; a measure of a theory is one number")
    return float(values)


def spread_of(name: Any, value: Value, observation: Observation) -> Spread:
    """What an observer has returned of a series.

    Raises:
        ValueError: If it is not a number for each replica.
    """
    values = _numbers(name, value)
    R = observation.n_replicas
    if values.shape == () and R == 1:
        values = values[None]
    if values.shape != (R,):
        wanted = "one number" if R == 1 else f"a number for each of {R} replicas, of shape ({R},)"
        raise ValueError(f"{name} has the shape {values.shape}; it must be {wanted}")
    return Spread(values.copy())  # which may change in place before the next observation


def _numbers(name: Any, value: Any) -> np.ndarray:
    """Numbers with a name.

    Raises:
        ValueError: If they are none, or the name could not be that of a column.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"{name!r} cannot be the name of a series; use letters, digits and _")
    values = value.detach().cpu().double().numpy() if isinstance(value, Tensor) and value.isreal().all() else value
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} is {value!r:.60}, and not a number")
    return values.astype(float)
