"""Tensors that are mapped from a file, so that the system may drop their pages when it needs the memory."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable

import torch
from torch import Tensor

from mfnet.setup.errors import SettingError

#: Values of a part that is read, prepared or moved at a time: 8 MiB in float64.
PART = 2**20


def in_file(parts: Iterable[Tensor], shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """The rows of all ``parts``, written to a file in TMPDIR and mapped from there.

    The file has no name: it takes its room on the disk until the last tensor on it is gone, however the process ends.

    Args:
        parts: Consecutive rows, on the CPU, of type ``dtype``; each is written before the next is asked for.
        shape: Rows of all parts together, and columns.
        dtype: Type of the values.

    Raises:
        SettingError: If the file cannot be written, as on a full disk.
    """
    size = math.prod(shape)
    try:
        with tempfile.TemporaryFile() as file:
            for part in parts:
                file.write(part.contiguous().numpy().data)
            file.flush()
            whole = torch.from_file(f"/dev/fd/{file.fileno()}", shared=True, size=size, dtype=dtype)
    except OSError as error:
        raise SettingError(
            f"a data set larger than data.memory takes {size * dtype.itemsize / 2**30:.3g} GiB in a temporary file, "
            f"which cannot be written ({error}); set TMPDIR to a folder on a disk with room, or raise data.memory"
        ) from None
    return whole.view(shape)


def in_memory(parts: Iterable[Tensor], shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The rows of all ``parts`` in one tensor on ``device``; the other arguments are those of `in_file`."""
    whole, start = torch.empty(shape, dtype=dtype, device=device), 0
    for part in parts:
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def is_mapped(x: Tensor) -> bool:
    """Whether ``x``, or what it is a view of, was made by `in_file`."""
    return x.untyped_storage().filename is not None


def moved(x: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The same rows elsewhere, as `torch.Tensor.to`; a mapped tensor that stays on the CPU stays mapped.

    Raises:
        SettingError: As of `in_file`.
    """
    if not is_mapped(x) or (device.type == "cpu" and dtype is x.dtype):
        return x.to(device, dtype)
    parts = (part.to(dtype) for part in x.split(max(PART // x.shape[1], 1)))
    shape = (x.shape[0], x.shape[1])
    return in_file(parts, shape, dtype) if device.type == "cpu" else in_memory(parts, shape, dtype, device)
