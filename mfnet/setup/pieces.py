"""From the name of a class, or a function, to the piece that it makes."""

from __future__ import annotations

import functools
import hashlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfnet.setup.errors import InvalidSettingError, SettingError

#: Settings that are the dotted name of a piece of the user's own, or one of mfnet's names.
NAMED_PIECES = ("network.activation", "loss.name", "data.rule")

#: Packages whose pieces a stored config may name.
LIBRARIES = ("mfnet", "torch", "lightning", "sklearn")


def resolve(key: str, name: Any) -> Any:
    """What a dotted name stands for; modules of the working directory count.

    Raises:
        InvalidSettingError: If there is no such thing.
    """
    if not isinstance(name, str):
        raise InvalidSettingError(key, name, "must be the dotted name of a class or a function")
    if "#" in name:
        raise InvalidSettingError(key, name, "was given as an object in Python, and no config can make it again")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        return pkgutil.resolve_name(name)
    except Exception as error:  # a module of the user's may fail in any way
        raise InvalidSettingError(key, name, f"cannot be imported: {told(error)}") from None


def resolved(key: str, given: Any, known: Mapping[str, Any]) -> Any:
    """What a dotted name of the user's own stands for; a known name, or anything else, as it is."""
    return resolve(key, given) if isinstance(given, str) and given not in known else given


def check_imported(config: Any, key: str = "") -> None:
    """Checks that all that a stored config names is of mfnet and its libraries, or has been imported already.

    A file of someone else's could name anything.

    Raises:
        SettingError: If it is not.
    """
    if isinstance(config, list):
        for i, entry in enumerate(config):
            check_imported(entry, f"{key}.{i}")
    if not isinstance(config, Mapping):
        return
    for name, value in config.items():
        at = f"{key}.{name}".lstrip(".")
        named = name == "_target_" or at in NAMED_PIECES
        if named and isinstance(value, str) and "." in value:
            module = value.rpartition(".")[0]
            known = module.partition(".")[0] in LIBRARIES or module in sys.modules
            origin = str(getattr(resolve(at, value), "__module__", "")).partition(".")[0] if known else ""
            if not known or (origin not in LIBRARIES and origin in sys.stdlib_module_names and origin != "__main__"):
                raise SettingError(f"{at}={value}: is not mfnet's; import {module} first, if you trust it")
        check_imported(value, at)


def told(error: BaseException) -> str:
    """What an exception says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def said(error: BaseException) -> str:
    """The same, after its kind where that is not ValueError."""
    return told(error) if type(error) is ValueError else f"{type(error).__name__}: {told(error)}"


def name_of(piece: Any) -> str:
    """The dotted name by which an object would be imported; of an instance, that of its class."""
    named = piece if hasattr(piece, "__qualname__") and hasattr(piece, "__module__") else type(piece)
    package, name = str(named.__module__).partition(".")[0], named.__name__
    if getattr(sys.modules.get(package), name, None) is named:
        return f"{package}.{name}"  # as torch.tanh, whose own module is not where it is found
    return f"{named.__module__}.{named.__qualname__}"


def description_of(piece: Any) -> str:
    """What a config says of an object: its name, if it is found by it; else the name, ``#`` and what tells it apart.

    Instances, lambdas and functions inside functions are not found by their names.

    >>> description_of(dict)
    'builtins.dict'
    >>> description_of(slice(1)) != description_of(slice(2))
    True
    """
    name = name_of(piece)
    try:
        if pkgutil.resolve_name(name) is piece:
            return name
    except (ImportError, AttributeError, ValueError):
        pass
    return f"{name}#{hashlib.sha256(_told_apart(piece).encode()).hexdigest()[:8]}"


def _told_apart(piece: Any) -> str:
    """What tells an object from others of its name: code, what is bound to it, values of its attributes."""
    if isinstance(piece, np.ndarray):
        return _told_apart([piece.tobytes(), str(piece.dtype)])
    if isinstance(piece, Mapping):
        return _told_apart(list(piece.items()))
    if isinstance(piece, list | tuple):
        return f"[{','.join(map(_told_apart, piece))}]"
    if isinstance(piece, functools.partial):
        return _told_apart([piece.func, piece.args, piece.keywords])
    if code := getattr(piece, "__code__", None):
        cells = [cell.cell_contents for cell in piece.__closure__ or ()]
        return _told_apart(
            [code.co_code.hex(), repr(code.co_names), _without_addresses(code.co_consts), piece.__defaults__, cells]
        )
    if hasattr(piece, "__dict__") and not inspect.isclass(piece) and not inspect.ismodule(piece):
        return _told_apart([name_of(piece), vars(piece)])
    return _without_addresses(piece)


def _without_addresses(piece: Any) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", repr(piece))


def makes(piece: Any) -> bool:
    """Whether an object makes a piece when it is called, rather than being one."""
    return inspect.isclass(piece) or inspect.isroutine(piece) or isinstance(piece, functools.partial)


class Builder:
    """Makes pieces of the parts of a config: a class under ``_target_``, called with the arguments beside it.

    Pieces inside pieces are made first. With ``_partial_: true`` the class waits for its last arguments.

    Args:
        config: The config, in plain containers.
        objects: Pieces that were given as Python objects, by key.
        shared: Parts of the config, wherever they stand, and what is put in their place.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        objects: Mapping[str, Any],
        shared: Sequence[tuple[Mapping[str, Any], Callable[[], Any]]] = (),
    ):
        self.config, self.objects, self.shared = config, objects, shared

    def at(self, key: str) -> Any:
        """What the config says under a dotted name."""
        entry: Any = self.config
        for name in key.split("."):
            entry = entry[int(name)] if isinstance(entry, list) else entry[name]
        return entry

    def target(self, key: str) -> Any:
        """The class, function or object behind a piece.

        Raises:
            InvalidSettingError: If it cannot be found.
        """
        return self.objects[key] if key in self.objects else resolve(f"{key}._target_", self.at(key).get("_target_"))

    def __call__(self, key: str, **more: Any) -> Any:
        """The piece under a dotted name.

        Args:
            key: Its name.
            more: Further arguments.

        Raises:
            InvalidSettingError: If its class cannot be found, or refuses its arguments.
        """
        return self._made(self.at(key), key, more)

    def _made(self, entry: Any, key: str, more: Mapping[str, Any]) -> Any:
        if isinstance(entry, list):
            return [self._made(inner, f"{key}.{i}", {}) for i, inner in enumerate(entry)]
        if not isinstance(entry, Mapping):
            return self.objects.get(key, entry)
        for part, made in self.shared:
            if entry == part:
                return made()
        inner = {name: self._made(value, f"{key}.{name}", {}) for name, value in entry.items() if name[0] != "_"}
        if "_target_" not in entry and key not in self.objects:
            return inner
        made_by = self.objects[key] if key in self.objects else resolve(f"{key}._target_", entry["_target_"])
        if not makes(made_by):
            return made_by
        if entry.get("_partial_"):
            return functools.partial(made_by, **inner, **more)
        try:
            return made_by(**inner, **more)
        except (TypeError, ValueError, FileNotFoundError, ImportError) as error:
            raise InvalidSettingError(f"{key}._target_", entry["_target_"], told(error)) from error
