"""Whether the plain value of a setting is of the type that mfnet's class or function declares for it."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union

from mfnet.setup.settings import is_number, is_whole

#: What a plain type is called in messages.
_CALLED = {
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}


def hints_of(target: Any) -> dict[str, Any]:
    """The types of the arguments of a class or function of mfnet's, by name; of any other, nothing."""
    if str(getattr(target, "__module__", "")).partition(".")[0] != "mfnet":
        return {}
    made_by = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(made_by)
    except NameError:  # of what is imported for type checkers alone
        return {}


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
    """Whether what is made may be of a kind; what a function makes is not known."""
    if kind in _CALLED or kind in (collections.abc.Sequence, collections.abc.Mapping):
        return False
    if not (inspect.isclass(kind) and inspect.isclass(made_by)) or kind is collections.abc.Callable:
        return True
    return bool(getattr(kind, "_is_protocol", False)) or issubclass(made_by, kind)
