"""Whether the plain value of a setting is of the type that mfnet's class or function declares for it."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal, Union

from mfnet.setup.pieces import makes
from mfnet.setup.settings import is_number, is_whole

#: Where Lightning has its loggers.
_LOGGERS = "lightning.pytorch.loggers."

#: What a plain type is called in messages.
_CALLED = {
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}


def hints_of(target: Any) -> dict[str, Any]:
    """The types of the arguments of a class or function of mfnet's, or a logger of Lightning's, by name.

    Of any other nothing is returned: what it takes, it says itself.
    """
    module = str(getattr(target, "__module__", ""))
    if module.partition(".")[0] != "mfnet" and not module.startswith(_LOGGERS):
        return {}
    stays = inspect.isclass(target) or inspect.isroutine(target)
    return (_remembered if stays else _declared)(target)


def _declared(target: Any) -> dict[str, Any]:
    """The same, of what declares them."""
    made_by = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    names = dict(getattr(made_by, "__globals__", {}))
    for base in reversed(inspect.getmro(target)) if inspect.isclass(target) else ():  # fields of a dataclass are theirs
        names |= vars(sys.modules[base.__module__])
    hints = {}
    for name, written in getattr(made_by, "__annotations__", {}).items():
        with suppress(NameError):  # of what is imported for type checkers alone
            hints[name] = eval(written, names) if isinstance(written, str) else written
    return hints


#: Every run of a sweep asks again.
_remembered = functools.cache(_declared)


def fits(value: Any, hint: Any, made_by: Any = None) -> bool:
    """Whether a value may be given where a type is declared.

    Args:
        value: In plain containers.
        hint: The type.
        made_by: The class or function that makes a piece of the value, if it names one.

    >>> fits(1, float), fits("abc", int | None), fits(None, int | None)
    (True, False, True)
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, each, made_by) for each in inner)
    if hint in (Any, object):
        return True
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if made_by is not None:
        return _makes(made_by, origin or hint)
    if hint in _CALLED:
        return _is_plain(value, hint)
    if origin is collections.abc.Sequence:
        return isinstance(value, list) and all(fits(entry, inner[0]) for entry in value)
    if origin is collections.abc.Mapping:
        return isinstance(value, Mapping)
    made = hint is Callable or origin is collections.abc.Callable or inspect.isclass(hint)
    return not made  # of other types nothing is known


def wanted(hint: Any) -> str:
    """What a value of a type is, as a sentence without its subject.

    >>> wanted(int | None)
    'must be a whole number, or null'
    """
    inner = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    return f"must be {', or '.join(map(_called, inner))}"


def _called(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if hint in _CALLED:
        return _CALLED[hint]
    if origin is Literal:
        return f"one of {', '.join(map(str, typing.get_args(hint)))}"
    if origin is collections.abc.Sequence:
        return "a list"
    if origin is collections.abc.Mapping:
        return "a mapping"
    if origin is collections.abc.Callable:
        return "a class or function, named by its _target_"
    return f"a {hint.__name__}, whose class is named by its _target_" if inspect.isclass(hint) else str(hint)


def _is_plain(value: Any, hint: type) -> bool:
    if hint is float:
        return is_number(value)
    return is_whole(value) if hint is int else type(value) is hint


def _makes(made_by: Any, kind: Any) -> bool:
    """Whether what is made, or an object that is there, may be of a kind; what a function makes is not known."""
    if kind in _CALLED or kind in (collections.abc.Sequence, collections.abc.Mapping):
        return False
    if kind is Callable or kind is collections.abc.Callable:
        return callable(made_by)
    if not inspect.isclass(kind) or (makes(made_by) and not inspect.isclass(made_by)):
        return True
    if getattr(kind, "_is_protocol", False):
        return all(hasattr(made_by, name) for name in vars(kind) if name[0] != "_")
    return issubclass(made_by, kind) if inspect.isclass(made_by) else isinstance(made_by, kind)
