"""Settings that are given in Python."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf, open_dict

from mfnet.setup.compose import Source, compose, task
from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.names import suggestion
from mfnet.setup.pieces import makes, name_of
from mfnet.setup.settings import BY_KEY, SYMBOLS_AND_GROUPS

#: Groups that hold any number of pieces, each by its name.
MANY = ("overlay", "callbacks", "logger")

#: Groups of which one choice is taken.
ONE = ("data", "flow", "theory", "schedule", "stop", "trainer", "network", "loss", "experiment", "mean_field")

#: Groups of one piece of the user's own, and the setting that stands for it.
OWN = {"loss": "loss.name", "network": "network.activation"}


def composed(settings: Mapping[str, Any]) -> tuple[DictConfig, dict[str, Any]]:
    """The config of settings that are given in Python as `Setup.of` takes them, and the objects among them.

    Raises:
        SettingError: For the first setting that is wrong.
    """
    choices: dict[str, tuple[str, ...] | str] = {}
    values: dict[str, Any] = {}
    objects: dict[str, Any] = {}
    for name, value in settings.items():
        key = name.replace("__", ".")
        group = key.partition(".")[0]
        if group not in SYMBOLS_AND_GROUPS:
            with Source().opened():
                raise SettingError(f"{key}={value}: there is no setting of this name{suggestion(key)}")
        _sort(key, value, choices, values, objects)
    with Source().opened():
        config = _composed(tuple(choices.items())).copy()
        if "data" in objects:  # data of one's own have sizes of their own
            values = {"N": None, "d": None, "data": {}} | values
        with open_dict(config):
            for key, value in values.items():
                own = isinstance(value, dict) and (not value or "_target_" in value)
                OmegaConf.update(config, key, value, merge=not own, force_add=True)
    return config, objects


@lru_cache(maxsize=32)
def _composed(choices: tuple[tuple[str, tuple[str, ...] | str], ...]) -> DictConfig:
    """The config of these choices, inside `Source.opened`; it is not to be changed."""
    lists = [(group, chosen if isinstance(chosen, str) else f"[{','.join(chosen)}]") for group, chosen in choices]
    return task(compose([f"{group}={chosen}" for group, chosen in lists]))


def _sort(key: str, value: Any, choices: dict[str, Any], values: dict[str, Any], objects: dict[str, Any]) -> None:
    """Puts a setting among the choices of groups, plain values or objects."""
    if key in MANY or key == "trainer.callbacks":
        _sort_many("callbacks" if key == "trainer.callbacks" else key, value, choices, values, objects)
    elif key in ONE:
        if isinstance(value, str) or value is None:
            choices[key] = "none" if value is None else value
        elif isinstance(value, Mapping):
            _sort_mapping(key, value, choices, values, objects)
        elif key == "data" and inspect.isroutine(_made_by(value)):
            choices[key] = "own"
            _take("data.draw", value, values, objects)
            values["data.draw"]["_partial_"] = True
        else:
            _take(OWN.get(key, key), value, values, objects)
            if key == "data" and makes(value) and "seed" in inspect.signature(value).parameters:
                values[key].setdefault("seed", "${seed}")
    elif isinstance(value, Mapping):
        _sort_mapping(key, value, choices, values, objects)
    else:
        _take(key, value, values, objects)


def _sort_mapping(key: str, value: Mapping[str, Any], choices: dict[str, Any], values: Any, objects: Any) -> None:
    if "_target_" in value:
        values[key] = dict(value)
        if not isinstance(value["_target_"], str):
            objects[key] = value["_target_"]
            values[key]["_target_"] = name_of(value["_target_"])
        return
    for name, inner in value.items():
        _sort(f"{key}.{name}", inner, choices, values, objects)


def _sort_many(key: str, value: Any, choices: dict[str, Any], values: dict[str, Any], objects: dict[str, Any]) -> None:
    """Choices by name, and pieces of the user's own, which are named by themselves where they are in a list."""
    entries = value if isinstance(value, Mapping) else {}
    if key == "callbacks" and value is None:
        values[key] = {}
    if not isinstance(value, Mapping):
        listed = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
        listed = [] if value is None else listed
        named = [entry for entry in listed if isinstance(entry, str)]
        if key != "callbacks":
            choices[key] = tuple(named)
        elif named:
            raise InvalidSettingError(key, named, "must be a list of callbacks or functions, or a mapping of them")
        for entry in (entry for entry in listed if not isinstance(entry, str)):
            name = _snake(entry)
            if name in entries or name in named:
                allowed = f"there are two; name them, as in {key}={{'one': …, 'other': …}}"
                raise InvalidSettingError(f"{key}.{name}", name_of(entry), allowed)
            entries = {**entries, name: entry}
    for name, entry in entries.items():
        if isinstance(entry, Mapping):
            _sort_mapping(f"{key}.{name}", entry, choices, values, objects)
        else:
            _take(f"{key}.{name}", entry, values, objects)


def _take(key: str, value: Any, values: dict[str, Any], objects: dict[str, Any]) -> None:
    """A plain value, or an object with a description in its place."""
    if isinstance(value, range | tuple):
        value = list(value)
    if hasattr(value, "item") and not isinstance(value, type) and getattr(value, "ndim", None) == 0:
        value = value.item()  # a number of numpy's or torch's
    if value is None or isinstance(value, bool | int | float | str | list):
        values[key] = value
        return
    made_by = _made_by(value)
    if key in OWN.values():
        values[key], objects[key] = name_of(value), value
        return
    bound = dict(value.keywords) if isinstance(value, functools.partial) else {}
    description: dict[str, Any] = {"_target_": name_of(made_by)}
    if key == "flow" and makes(made_by):
        description["_partial_"] = True
    values[key], objects[key] = description, made_by
    for name, inner in bound.items():
        if isinstance(inner, Mapping):
            description[name] = dict(inner)
        else:
            _take(f"{key}.{name}", inner, values, objects)


def _made_by(value: Any) -> Any:
    """The class or function of a piece, without arguments that are bound to it."""
    return value.func if isinstance(value, functools.partial) else value


def _snake(piece: Any) -> str:
    """``MyTheory`` as ``my_theory``."""
    name = getattr(piece, "__name__", type(piece).__name__)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def varies(name: str, value: Any) -> bool:
    """Whether a setting of a sweep has several values, rather than one that is a list."""
    key = name.replace("__", ".")
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence | range | np.ndarray):
        return False
    if key in MANY:
        return any(isinstance(entry, list | tuple) for entry in value)
    setting = BY_KEY.get(key)
    takes_lists = setting is not None and setting.allowed and setting.allows(list(value))
    return not takes_lists
