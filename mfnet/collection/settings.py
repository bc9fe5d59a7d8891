"""The settings of runs as flat names, as they are typed on the command line, and which of them varied."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from mfnet.setup.settings import Effect, effect

Setting = bool | int | float | str | None

#: The paper's symbols, which every run has.
SYMBOLS = ("M", "N", "d", "alpha", "h", "seed")

#: Parts that restate settings of the run for its theories, and what in them does not.
_RESTATING = ("mean_field", "hydrodynamic")
_PREDICTION_ALONE = ("mean_field.dt", "mean_field.scheme", "hydrodynamic.rtol", "hydrodynamic.points")

#: Nested settings with another name than the symbol that they follow.
_FOLLOWS = {"data.n_train": "N"}


def settings(config: Mapping[str, Any]) -> dict[str, Setting]:
    """Settings by dotted name: a group's class under the group's name (``flow``), lists as JSON.

    What does not change a run, or restates its settings for the theory, is left out; so is the number of replicas,
    each of which counts as a run.
    """
    mean_field = config.get("mean_field")
    restated = set(mean_field) if isinstance(mean_field, Mapping) else set()
    result = {}
    for key, value in _flatten(config):
        group, _, leaf = key.rpartition(".")
        if key == "replicas" or effect(key) is Effect.NONE:
            continue
        if key.startswith(_RESTATING) and key not in _PREDICTION_ALONE:
            continue
        if group.startswith(("theory", "overlay")) and (leaf in restated or set(_RESTATING) & set(key.split("."))):
            continue
        result[key] = value
    return result


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Setting]]:
    for name, entry in config.items():
        if isinstance(entry, Mapping):
            yield from _flatten(entry, f"{prefix}{name}.")
        elif name == "_target_":
            yield prefix.rstrip("."), str(entry).rpartition(".")[2]
        elif not str(name).startswith("_"):
            plain = entry is None or isinstance(entry, bool | int | float | str)
            yield f"{prefix}{name}", entry if plain else json.dumps(entry, default=str)


def resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as Hydra saves it with each ``${name}`` replaced by what it names; other interpolations stay."""

    def resolve(entry: Any) -> Any:
        if isinstance(entry, Mapping):
            return {name: resolve(inner) for name, inner in entry.items()}
        if isinstance(entry, str) and (reference := re.fullmatch(r"\$\{([\w.]+)\}", entry)):
            named: Any = config
            for name in reference[1].split("."):
                named = named.get(name) if isinstance(named, Mapping) else None
            return resolve(named) if named != entry else None
        return entry

    return {name: resolve(entry) for name, entry in config.items()}


def varied(runs: Sequence[Mapping[str, Setting]]) -> list[str]:
    """Names of the settings with more than one value among the runs that have them.

    A callback that only some have is one with another value: it may do anything to a run. A nested setting that follows
    a symbol of the top level in every run (``data.seed``, ``data.n_train``) is left out.
    """
    names = list(dict.fromkeys(name for run in runs for name in run))
    return [
        name
        for name in names
        if len({run.get(name) for run in runs if name in run or _is_callback(name)}) > 1
        and not ((symbol := _symbol(name)) and all(run[name] == run[symbol] for run in runs if name in run))
    ]


def _is_callback(name: str) -> bool:
    """Whether a setting is the class of a callback."""
    group, _, leaf = name.partition(".")
    return group == "callbacks" and "." not in leaf


def with_symbols(settings: Mapping[str, Setting], values: Mapping[str, Setting]) -> dict[str, Setting]:
    """Settings with other values of some symbols, also where nested settings follow them."""
    return {
        name: values[symbol] if (symbol := _symbol(name) or name) in values and value == settings[symbol] else value
        for name, value in settings.items()
    }


def _symbol(name: str) -> str | None:
    leaf = name.rpartition(".")[2]
    return _FOLLOWS.get(name, leaf if name not in SYMBOLS and leaf in SYMBOLS else None)


def is_seed(name: str) -> bool:
    """Whether a setting is a seed: runs that differ in seeds alone are averaged over."""
    return name.rpartition(".")[2] == "seed"


def column(values: Sequence[Any], *, text: bool = False) -> pd.Series:
    """Values as a column of one type that both CSV and Parquet keep: booleans, integers, floats or text."""
    present = [value for value in values if value is not None]
    if text or any(isinstance(value, str) for value in present):
        return pd.Series([None if value is None else str(value) for value in values], dtype="str")
    if present and all(isinstance(value, bool) for value in present):
        return pd.Series(values, dtype="bool" if len(present) == len(values) else "boolean")
    if len(present) == len(values) and all(isinstance(value, int) and abs(value) < 2**63 for value in values):
        return pd.Series(values, dtype="int64")
    return pd.Series([float("nan") if value is None else float(value) for value in values], dtype="float64")
