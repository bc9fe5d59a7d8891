"""From what was typed to the config of each job, in plain containers."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import numpy as np
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mfnet.cli.targets import check_targets
from mfnet.record.identity import run_name
from mfnet.setup.validation import InvalidSettingError, SettingError, validate

CONFIG_MODULE, CONFIG_NAME = "mfnet.conf", "train"


class Job(NamedTuple):
    """One run that is asked for: how, what, where its files will be, and below which directory of its sweep."""

    overrides: list[str]
    config: dict[str, Any]
    directory: Path
    root: Path


def jobs(overrides: Sequence[str], *, multirun: bool) -> Iterator[Job]:
    """The runs that Hydra will start for these overrides, inside `hydra.initialize_config_module`.

    Raises:
        SettingError: If one cannot be composed, or has a setting that is not allowed, or a sweep is empty.
    """
    if not multirun:
        composed = complete(compose(overrides))
        config = _valid(composed)  # before the directory, whose name says what it is
        directory = Path(composed.hydra.run.dir)
        yield Job(list(overrides), config, directory, directory)
        return
    number = -1
    for number, job in enumerate(_expand(overrides)):
        composed = complete(compose([*job, f"hydra.job.num={number}", f"hydra.job.id={number}"]))
        config, sweep = _valid(composed), composed.hydra.sweep
        yield Job(job, config, Path(sweep.dir) / sweep.subdir, Path(sweep.dir))
    if number < 0:
        raise SettingError("the sweep is empty: a setting has no values")


def _valid(composed: DictConfig) -> dict[str, Any]:
    config = resolve(composed)
    validate(config)
    return config


def _expand(overrides: Sequence[str]) -> Iterator[list[str]]:
    """The overrides of each job of a sweep; those typed take the place of a prepared sweep's (hydra.sweeper.params)."""
    typed = OverridesParser.create().parse_overrides(list(overrides))
    fixed = [str(override.input_line) for override in typed if not override.is_sweep_override()]
    prepared = compose(fixed).hydra.sweeper.get("params") or {}
    named = {override.get_key_element() for override in typed}
    lines = [f"{key}={value}" for key, value in prepared.items() if key not in named]
    choices = []
    for override in [*OverridesParser.create().parse_overrides(lines), *typed]:
        if override.is_sweep_override():
            key = override.get_key_element()
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            choices.append([str(override.input_line)])
    return (list(job) for job in itertools.product(*choices))


def compose(overrides: Sequence[str]) -> DictConfig:
    """The config for these overrides, with Hydra's own part.

    Raises:
        SettingError: If a name or a value in them is wrong.
    """
    try:
        return hydra.compose(CONFIG_NAME, list(overrides), return_hydra_config=True)
    except MissingConfigException as error:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        raise InvalidSettingError(group, choice, f"must be one of {', '.join(error.options or [])}") from None
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ or error
        key = getattr(cause, "full_key", None)
        if key and "is not in struct" in str(cause):
            asked = next((o for o in overrides if o.startswith(key)), key)
            raise SettingError(f"{asked}: there is no setting of this name{_suggestion(key)}") from None
        raise SettingError(" ".join(str(error).split())) from None


def _suggestion(key: str) -> str:
    """The known settings that look most like ``key``."""
    known = _keys(OmegaConf.to_container(hydra.compose(CONFIG_NAME)))
    similar = difflib.get_close_matches(key, known, n=2) or [k for k in known if k.endswith(f".{key}")]
    return f"; did you mean {' or '.join(similar)}?" if similar else "; mfnet train --help lists them"


def _keys(config: Any, prefix: str = "") -> list[str]:
    if not isinstance(config, dict):
        return [prefix[:-1]]
    return [key for name, inner in config.items() for key in _keys(inner, f"{prefix}{name}.")]


def complete(config: DictConfig) -> DictConfig:
    """``config`` with the N and d of a data set that has its own, which is read for that.

    Raises:
        SettingError: If it cannot be read, or other numbers are asked for.
    """
    if "d" not in config.data:
        for key, size in zip(("N", "d"), _shape(json.dumps(_plain(config))), strict=True):
            if config[key] not in (None, size):
                raise InvalidSettingError(key, config[key], f"these data have {key}={size} as prepared; leave it out")
            config[key] = size
    return config


@lru_cache(maxsize=16)
def _shape(config: str) -> tuple[int, int]:
    """(N, d) of the training set that a config, written as JSON, prepares."""
    plain = json.loads(config)
    validate(plain)
    check_targets(plain, ("data",))
    try:
        N, d = instantiate(plain["data"], schedule=np.zeros(1)).draw().train.x.shape
    except InstantiationException as error:
        raise InvalidSettingError("data", plain["data"]["_target_"], str(error.__cause__ or error)) from None
    return N, d


def resolve(composed: DictConfig) -> dict[str, Any]:
    """The config without Hydra's own part, complete, in plain containers with every interpolation resolved."""
    return _plain(complete(_task(composed)))


def _task(composed: DictConfig) -> DictConfig:
    """A copy of the config without Hydra's own part."""
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


def _plain(config: DictConfig) -> dict[str, Any]:
    try:
        plain = OmegaConf.to_container(_task(config), resolve=True)
    except OmegaConfBaseException as error:
        raise SettingError(" ".join(str(error).split())) from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


# ${run_name:} in conf/train.yaml
OmegaConf.register_new_resolver("run_name", lambda *, _root_: run_name(resolve(_root_)), replace=True)
