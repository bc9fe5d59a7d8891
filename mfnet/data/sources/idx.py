"""IDX files, as of MNIST and its successors, gzipped or not."""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfnet.data.sources.records import Records, make_records, state_of
from mfnet.setup.errors import InvalidSettingError, SettingError

#: Types of IDX values, by the third byte of a file.
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

#: What a gzipped file starts with.
GZIP = b"\x1f\x8b"

#: Names of files: a prefix, the part, what they hold.
_NAME = re.compile(r"(.*?)(train|t10k|test)-(images|labels).*ubyte(?:\.gz)?")

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
        if zipped := start.startswith(GZIP):
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
    """A folder with four files, as of MNIST: ``train`` and ``t10k``, or ``test``, each ``images`` and ``labels``.

    Args:
        folder: Path of the folder.
        prefix: What the names of the files start with, as in ``emnist-letters-train-images-idx3-ubyte``; None: that of
            the only set in the folder.
    """

    folder: str
    prefix: str | None = None

    @property
    def state_of_files(self) -> tuple[tuple[str, int, int], ...]:
        return state_of(self.folder)

    def read(self) -> Records:
        files, parts = self._files(), []
        for names in (("train",), ("t10k", "test")):
            images_in, labels_in = (self._file(files, names, kind) for kind in ("images", "labels"))
            images, labels = read_idx(images_in), read_idx(labels_in)
            if labels.ndim != 1:
                raise SettingError(f"{labels_in}: has {labels.ndim} dimensions; labels have one")
            if images.dtype != np.uint8:
                raise SettingError(f"{images_in}: holds no unsigned bytes, as its name says")
            parts.append((images, labels))
        return make_records(parts, self.folder)

    def _files(self) -> dict[tuple[str, str], Path]:
        """The files of the set, by part and kind."""
        folder = Path(self.folder)
        if not folder.is_dir():
            raise InvalidSettingError("data.source.folder", self.folder, "there is no such folder")
        found: dict[str, dict[tuple[str, str], Path]] = {}
        for path in sorted(folder.glob("*"), reverse=True):  # one that is not gzipped comes last, and stays
            if named := _NAME.fullmatch(path.name):
                prefix, part, kind = named.groups()
                found.setdefault(prefix, {})[part, kind] = path
        prefix = self.prefix if self.prefix is not None else "" if "" in found else None
        if prefix is None and len(found) < 2:
            return next(iter(found.values()), {})
        for name in (prefix, f"{prefix}-"):
            if name in found:
                return found[name]
        listed = ", ".join(sorted(found)) or "no set"
        raise InvalidSettingError(
            "data.source.prefix", prefix or "null", f"must be the prefix of a set; {self.folder} has {listed}"
        )

    def _file(self, files: dict[tuple[str, str], Path], parts: tuple[str, ...], kind: str) -> Path:
        for part in parts:
            if (part, kind) in files:
                return files[part, kind]
        raise InvalidSettingError(
            "data.source.folder", self.folder, f"has no file {parts[0]}-{kind}-idx?-ubyte, gzipped or not"
        )
