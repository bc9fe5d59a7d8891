"""IDX files, as of MNIST and its successors, gzipped or not."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfnet.data.sources.records import Records, make_records
from mfnet.setup.errors import InvalidSettingError, SettingError

#: Types of IDX values, by the third byte of a file.
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

_GZIP = b"\x1f\x8b"

#: Bytes before the values of an array of 255 dimensions.
_LONGEST_HEADER = 4 + 4 * 255


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file, mapped from it unless it is gzipped; then it must not change while it is used.

    A damaged gzip file is found by its checksum, any other by its length, and so is a header that does not fit it; a
    value that is changed in a file that is not gzipped cannot be found.

    Raises:
        SettingError: If the file cannot be read, is damaged, or is not an IDX file.
    """
    try:
        with path.open("rb") as file:
            start, size = file.read(_LONGEST_HEADER), os.fstat(file.fileno()).st_size
        if zipped := start.startswith(_GZIP):
            content = gzip.decompress(path.read_bytes())
            start, size = content[:_LONGEST_HEADER], len(content)
    except (OSError, EOFError, zlib.error) as error:
        raise SettingError(f"{path}: cannot be read ({error}); fetch the file again") from None
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _TYPES or start[3] == 0:
        raise SettingError(f"{path}: is not an IDX file, it starts with the bytes {start[:4].hex(' ')}")
    dtype, n_dimensions = np.dtype(_TYPES[start[2]]), start[3]
    header = 4 + 4 * n_dimensions
    shape = tuple(int.from_bytes(start[at : at + 4], "big") for at in range(4, header, 4))
    expected = header + math.prod(shape) * dtype.itemsize
    if size != expected:
        raise SettingError(
            f"{path}: its header announces {' × '.join(map(str, shape))} values, {expected} bytes in all, and it has "
            f"{size}; fetch the file again"
        )
    if zipped:
        return np.frombuffer(content, dtype, offset=header).reshape(shape)
    return np.memmap(path, dtype, "r", header, shape) if expected > header else np.empty(shape, dtype)


@dataclass(frozen=True)
class IDXFolder:
    """A folder with the four files of MNIST: ``train`` and ``t10k``, ``images`` and ``labels``.

    Args:
        folder: Path of the folder.
    """

    folder: str

    def read(self) -> Records:
        parts = []
        for part in ("train", "t10k"):
            images, labels = read_idx(self._file(part, "images")), read_idx(path := self._file(part, "labels"))
            if labels.ndim != 1:
                raise SettingError(f"{path}: has {labels.ndim} dimensions; labels have one")
            if images.dtype != np.uint8:
                raise SettingError(f"{self._file(part, 'images')}: holds no unsigned bytes, as its name says")
            parts.append((images, labels))
        return make_records(parts, self.folder)

    def _file(self, part: str, kind: str) -> Path:
        folder = Path(self.folder)
        if not folder.is_dir():
            raise InvalidSettingError("data.source.folder", self.folder, "there is no such folder")
        found = sorted(folder.glob(f"{part}-{kind}*ubyte*"))
        if not found:
            raise InvalidSettingError(
                "data.source.folder", self.folder, f"has no file {part}-{kind}-idx?-ubyte, gzipped or not"
            )
        return found[0]
