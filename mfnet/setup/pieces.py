"""From the name of a class, or a function, to the piece that it makes."""

from __future__ import annotations

import functools
import hashlib
import inspect
import pkgutil
import re
import site
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

from mfnet.setup.errors import InvalidSettingError

#: Settings that are the dotted name of a piece of the user's own, or one of mfnet's names.
NAMED_PIECES = ("network.activation", "loss.name", "data.rule")

#: Where a file that somebody else wrote may name classes from: they compute, record or show, and start nothing else.
STORED = (
    *("mfnet.theory", "mfnet.flow", "mfnet.data", "mfnet.training", "mfnet.record.schedule"),
    *("torch.optim", "lightning.pytorch.loggers", "lightning.pytorch.callbacks"),
)

#: Where it may name functions from that are called with tensors alone, such as activations.
STORED_FUNCTIONS = ("torch", "torch.special")

#: Names that the user trusts while pieces are made of what is stored, and how others come to be trusted; else None.
_TRUSTED: ContextVar[tuple[frozenset[str], str] | None] = ContextVar("trusted", default=None)


@contextmanager
def trusting(names: Iterable[str], otherwise: str) -> Iterator[None]:
    """Inside, pieces are made of what a file says: of mfnet's and its libraries', and of these names of the user's own.

    Args:
        names: Dotted names.
        otherwise: What the user does to trust another one.
    """
    token = _TRUSTED.set((frozenset(names), otherwise))
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def may_be_stored(key: str, name: str) -> bool:
    """Whether a stored config may name a piece: classes of `STORED`, and elsewhere than in ``_target_`` functions.

    The piece is imported only if its name says that it is one.
    """
    if key.rpartition(".")[2] != "_target_":
        module, _, leaf = name.rpartition(".")
        return module in STORED_FUNCTIONS and inspect.isbuiltin(getattr(sys.modules.get(module), leaf, None))
    if not name.startswith(tuple(f"{module}." for module in STORED)):
        return False
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError):
        return False
    of_same = str(getattr(found, "__module__", "")).partition(".")[0] == name.partition(".")[0]
    return of_same and (inspect.isclass(found) or name.startswith("mfnet.record.schedule."))


def own_pieces(config: Any, key: str = "") -> dict[str, str]:
    """What a config names that is neither mfnet's nor its libraries': dotted names by the keys at which they stand."""
    if isinstance(config, list):
        return {at: name for i, entry in enumerate(config) for at, name in own_pieces(entry, f"{key}.{i}").items()}
    if not isinstance(config, Mapping):
        return {}
    found: dict[str, str] = {}
    for name, value in config.items():
        at = f"{key}.{name}".lstrip(".")
        named = name == "_target_" or (at in NAMED_PIECES and "." in str(value))
        if named and isinstance(value, str) and not may_be_stored(at, value):
            found[at] = value
        found |= own_pieces(value, at)
    return found


def resolve(key: str, name: Any) -> Any:
    """What a dotted name stands for; modules of the working directory count.

    Raises:
        InvalidSettingError: If there is no such thing.
    """
    if not isinstance(name, str):
        raise InvalidSettingError(key, name, "must be the dotted name of a class or a function")
    if "#" in name:
        raise InvalidSettingError(key, name, "was given as an object in Python, and no config can make it again")
    trusted = _TRUSTED.get()
    if trusted is not None and name not in trusted[0] and not may_be_stored(key, name):
        raise InvalidSettingError(key, name, f"is not mfnet's, and a file names it; if you trust it, {trusted[1]}")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        return pkgutil.resolve_name(name)
    except Exception as error:  # a module of the user's may fail in any way
        raise InvalidSettingError(key, name, f"cannot be imported: {told(error)}") from None


def resolved(key: str, given: Any, known: Mapping[str, Any]) -> Any:
    """What a dotted name of the user's own stands for; a known name, or anything else, as it is."""
    return resolve(key, given) if isinstance(given, str) and given not in known else given


def imported(names: Iterable[str]) -> set[str]:
    """Those of these dotted names that are of modules of the user's own which have been imported."""
    found = set()
    for name in names:
        module, _, leaf = name.rpartition(".")
        piece = getattr(sys.modules.get(module), leaf, None)
        if _is_users(module) and _is_users(str(getattr(piece, "__module__", ""))):
            found.add(name)
    return found


def _is_users(module: str) -> bool:
    """Whether a module has been imported, and comes neither with Python nor from an installed package."""
    if module not in sys.modules:
        return False
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        return module == "__main__"
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    path = Path(file).resolve()
    return not any(path.is_relative_to(Path(folder).resolve()) for folder in folders)


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
