"""Settings that are given in Python."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mfnet.setup.compose import Source, compose, task
from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.names import suggestion
from mfnet.setup.pieces import NAMED_PIECES, description_of, makes, name_of, told
from mfnet.setup.settings import BY_KEY, OF_THE_COMMAND, PREPARED, SYMBOLS_AND_GROUPS

#: Groups that hold any number of pieces, each by its name.
MANY = ("overlay", "callbacks", "logger")

#: Groups of which one choice is taken.
ONE = (
    "data",
    "flow",
    "theory",
    "schedule",
    "stop",
    "trainer",
    "network",
    "loss",
    *PREPARED,
    "mean_field",
    "hydrodynamic",
)

#: Groups of one piece of the user's own, and the setting that stands for it.
OWN = {"loss": "loss.name", "network": "network.activation"}


@dataclass(frozen=True)
class Asked:
    """Settings that are given in Python, sorted.

    Attributes:
        choices: Of groups, by name.
        values: Plain values by dotted key; a mapping takes the place of a whole group or piece.
        objects: Pieces of the user's own, by key.
    """

    choices: dict[str, tuple[str, ...] | str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def read(settings: Mapping[str, Any]) -> Asked:
        """Sorts settings as `Setup.of` takes them, in whatever order they come.

        Raises:
            SettingError: For the first that there is not, or that has no single value.
        """
        asked = Asked()
        for name, value in settings.items():
            key = name.replace("__", ".")
            if key in OF_THE_COMMAND:
                raise InvalidSettingError(key, value, "is a setting of the command alone")
            if key.partition(".")[0] not in SYMBOLS_AND_GROUPS:
                with Source().opened():
                    raise SettingError(f"{key}={value}: there is no setting of this name{suggestion(key)}")
            if varies(name, value) and (key in ONE or (key in BY_KEY and BY_KEY[key].allowed)):
                raise InvalidSettingError(key, value, "one run has one value; mfnet.sweep takes several")
            _sort(key, value, asked.choices, asked.values, asked.objects)
        return asked

    def mentions(self, group: str) -> bool:
        """Whether anything is said of a group."""
        return group in self.choices or any(key.partition(".")[0] == group for key in self.values)

    def but(self, other: Asked) -> Asked:
        """These settings with others, which also take the place of what they contain."""
        wholes = [key for key, value in other.values.items() if isinstance(value, Mapping)]
        wholes += [group for group in other.choices if group in MANY]
        gone = {*other.choices, *other.values}

        def stays(key: str) -> bool:
            return key not in gone and not key.startswith(tuple(f"{whole}." for whole in wholes))

        values = {key: value for key, value in self.values.items() if stays(key)}
        objects = {key: piece for key, piece in self.objects.items() if stays(key)}
        return Asked(self.choices | other.choices, values | other.values, objects | other.objects)

    def composed(self) -> DictConfig:
        """The config of these settings.

        Raises:
            SettingError: If they do not go together.
        """
        values = self.values
        if "data" in self.objects:  # data of one's own have sizes of their own
            values = {"N": None, "d": None, **values}
        try:
            with Source().opened():
                config = _composed(tuple(self.choices.items())).copy()
            with open_dict(config):
                for key, value in sorted(values.items(), key=lambda entry: entry[0].count(".")):  # wholes before parts
                    OmegaConf.update(config, key, value, merge=not isinstance(value, dict), force_add=True)
        except (OmegaConfBaseException, ValueError, TypeError) as error:  # of a mapping in the place of a list, say
            raise SettingError(told(error)) from None
        return config


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
        elif isinstance(value, bool | int | float | list | tuple | range):
            allowed = "must be the name of a choice, a mapping of settings, or a class or function of your own"
            raise InvalidSettingError(key, value, allowed)
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
            values[key]["_target_"] = description_of(value["_target_"])
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
    value = _plain(value)
    if value is None or isinstance(value, bool | int | float | str | list):
        values[key] = value
        return
    if key in NAMED_PIECES:
        values[key], objects[key] = description_of(value), value
        return
    made_by, bound = _made_by(value), {}
    if isinstance(value, functools.partial):
        if value.args:
            raise InvalidSettingError(key, name_of(made_by), "has arguments without names; bind them by name")
        bound = dict(value.keywords)
    description: dict[str, Any] = {"_target_": description_of(made_by)}
    if key == "flow" and makes(made_by):
        description["_partial_"] = True
    values[key], objects[key] = description, made_by
    for name, inner in bound.items():
        if isinstance(inner, Mapping):
            description[name] = dict(inner)
        else:
            _take(f"{key}.{name}", inner, values, objects)


def _plain(value: Any) -> Any:
    """Numbers, and sequences of them, as Python has them."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, range | tuple | list):
        return [_plain(entry) for entry in value]
    if hasattr(value, "item") and not isinstance(value, type) and getattr(value, "ndim", None) == 0:
        return value.item()  # of numpy's or torch's
    return value


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
