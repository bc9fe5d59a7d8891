"""What a run learns from: training and test examples, and the check of those that a data set of one's own gives."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.data.examples import Examples
from mfnet.data.mapped import PART, in_file
from mfnet.setup.errors import SettingError
from mfnet.theory import reference_direction

#: By how much the length of a reference direction may differ from 1: what float32 leaves.
_UNIT = 1e-5


class Task(NamedTuple):
    """Training and test examples, and the reference direction ŵ*, a unit vector.

    Labels of several latent directions have these in ``latent``, orthonormal rows.
    """

    train: Examples
    test: Examples
    direction: Float[Tensor, " d"]
    latent: Float[Tensor, "k d"] | None = None


def task_of(given: Any, origin: str) -> Task:
    """The task of what a data set has drawn: float64 tensors on the CPU, which are not copied if they are that already.

    Args:
        given: A `Task`, or ``(x, y), (x_test, y_test)`` and, where there is one, the reference direction, all of them
            tensors or arrays. Without a direction, or with None, it is that of ⟨yx⟩ over the training set. Latent
            directions are those of a `Task` alone.
        origin: What has drawn it, for messages.

    Raises:
        SettingError: For anything else: what, the shape it has, and the shape that it must have.
    """
    latent = given.latent if isinstance(given, Task) else None
    given = given[:3] if isinstance(given, Task) else given
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise SettingError(
            f"{origin} gives {_what(given)}, and must give (x, y), (x_test, y_test) and, if there is one, a direction"
        )
    train, test = (examples_of(part, name, origin) for part, name in zip(given[:2], ("training", "test"), strict=True))
    d = train.x.shape[1]
    if test.x.shape[1] != d:
        raise SettingError(
            f"{origin}: test inputs have the shape {tuple(test.x.shape)}, and must have (N, {d}), as training inputs do"
        )
    direction = given[2] if len(given) == 3 else None
    if direction is None:
        try:
            return Task(train, test, torch.from_numpy(reference_direction(train.x.numpy(), train.y.numpy())))
        except ValueError as error:
            raise SettingError(f"{origin}: {error}") from None
    direction = _float64(direction, "the reference direction", origin)
    if direction.shape != (d,):
        raise SettingError(
            f"{origin}: the reference direction has the shape {tuple(direction.shape)}, and must have ({d},)"
        )
    norm = float(direction.norm())
    if not abs(norm - 1.0) < _UNIT:
        raise SettingError(f"{origin}: the reference direction has the length {norm:g}, and must be a unit vector")
    return Task(train, test, direction, latent)


def examples_of(given: Any, name: str, origin: str) -> Examples:
    """A training or a test set: float64 tensors on the CPU.

    Args:
        given: A pair ``(x, y)`` of tensors or arrays.
        name: What kind of examples they are, for messages.
        origin: What has drawn them, likewise.

    Raises:
        SettingError: For anything else.
    """
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise SettingError(f"{origin}: the {name} set is {_what(given)}, and must be a pair (x, y)")
    x, y = (_float64(each, f"{name} {what}", origin) for each, what in zip(given, ("inputs", "labels"), strict=True))
    if x.ndim != 2 or 0 in x.shape:
        raise SettingError(f"{origin}: {name} inputs have the shape {tuple(x.shape)}, and must have (N, d), not empty")
    if y.shape != x.shape[:1]:
        raise SettingError(
            f"{origin}: {name} labels have the shape {tuple(y.shape)}, and must have ({len(x)},), one for each input"
        )
    if not bool((y.abs() == 1.0).all()):
        values = torch.unique(y).tolist()
        found = ", ".join(f"{value:g}" for value in values[:5]) + (", …" if len(values) > 5 else "")
        raise SettingError(f"{origin}: {name} labels must be −1 or 1, and there are {found}")
    for rows in x.split(max(PART // x.shape[1], 1)):  # mapped inputs may be larger than the memory
        if not bool(rows.isfinite().all()):
            raise SettingError(f"{origin}: {name} inputs must be finite, and some are not")
    return Examples(x, y)


def _float64(given: Any, what: str, origin: str) -> Tensor:
    """A tensor of the values, on the CPU; an array that is mapped from a file stays mapped."""
    try:
        if isinstance(given, Tensor):
            if given.is_complex():
                raise TypeError("they are complex")
            return given.detach().to("cpu", torch.float64)
        array = np.asarray(given)
        if np.iscomplexobj(array):
            raise TypeError("they are complex")
        if isinstance(given, np.memmap) and array.ndim == 2 and 0 not in array.shape and not _readable(array):
            parts = np.array_split(array, math.ceil(array.size / PART))
            return in_file(map(_tensor, parts), (array.shape[0], array.shape[1]), torch.float64)
        return _tensor(array)
    except (TypeError, ValueError) as error:
        raise SettingError(f"{origin}: {what} cannot be read as numbers: {str(error).splitlines()[0]}") from None


def _readable(array: np.ndarray) -> bool:
    """Whether a tensor can be laid over an array as it is."""
    return array.dtype == np.float64 and array.flags.c_contiguous


def _tensor(array: np.ndarray) -> Tensor:
    """A float64 tensor of an array, laid over it where that is possible."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nothing is written
        return torch.from_numpy(np.require(array, np.float64, "C"))


def _what(given: Any) -> str:
    """What something is, for a message."""
    if isinstance(given, tuple | list):
        return f"{len(given)} things"
    shape = getattr(given, "shape", None)
    return type(given).__name__ if shape is None else f"one {type(given).__name__} of shape {tuple(shape)}"
