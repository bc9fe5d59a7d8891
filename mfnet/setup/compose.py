"""Hydra composes a config from its parts in ``conf/``, and in directories of the user's."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mfnet.setup.errors import InvalidSettingError, SettingError

MODULE, NAME = "mfnet.conf", "train"

#: What a setting is called here, by names that it has elsewhere.
KNOWN_AS = {
    "activation": "network.activation",
    "batch_size": "flow.batch_size (with flow=sgd)",
    "batch": "flow.batch_size (with flow=sgd)",
    "dim": "d",
    "dt": "flow.dt (with flow=euler, rotation or sgd)",
    "epochs": "schedule.t_max, the time t until which a run is followed",
    "eta": "flow.dt: a learning rate η is a step of Δt = η/M",
    "gpus": "trainer.devices",
    "hidden": "M",
    "learning_rate": "flow.dt: a learning rate η is a step of Δt = η/M",
    "lr": "flow.dt: a learning rate η is a step of Δt = η/M",
    "m": "M",
    "max_epochs": "schedule.t_max, the time t until which a run is followed",
    "n": "N",
    "n_train": "N",
    "noise": "data.flip",
    "steps": "schedule.t_max, the time t until which a run is followed",
    "t_max": "schedule.t_max",
    "tensorboard": "logger",
    "trainer.tensorboard": "logger: logger=[] for none",
    "width": "M",
}


@dataclass(frozen=True)
class Source:
    """Where configs come from beside ``conf/``.

    Attributes:
        config_dir: A directory whose groups and choices are added (``--config-dir``).
        config_path: A directory that takes the first place (``--config-path``); what it lacks is that of ``conf/``.
        config_name: Name of the main config (``--config-name``).
    """

    config_dir: str | None = None
    config_path: str | None = None
    config_name: str = NAME

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Inside, `compose` and Hydra itself find these configs.

        Raises:
            SettingError: If a directory is missing.
        """
        for option, path in (("--config-dir", self.config_dir), ("--config-path", self.config_path)):
            if path is not None and not Path(path).is_dir():
                raise SettingError(f"{option} {path}: there is no such directory")
        outside = get_gh_backup()  # of a program that uses Hydra itself
        GlobalHydra.instance().clear()
        try:
            with self._initialized():
                yield
        finally:
            restore_gh_from_backup(outside)

    @contextmanager
    def _initialized(self) -> Iterator[None]:
        if self.config_path is None:
            with hydra.initialize_config_module(MODULE, job_name="mfnet", version_base="1.3"):
                yield
        else:
            where = str(Path(self.config_path).absolute())
            with hydra.initialize_config_dir(where, job_name="mfnet", version_base="1.3"):
                yield

    @property
    def overrides(self) -> list[str]:
        """What adds the directories to Hydra's search path."""
        paths = [f"file://{Path(self.config_dir).absolute()}"] if self.config_dir is not None else []
        paths += [f"pkg://{MODULE}"] if self.config_path is not None else []
        return [f"hydra.searchpath=[{','.join(paths)}]"] if paths else []


def compose(overrides: Sequence[str], name: str = NAME) -> DictConfig:
    """The config for these overrides, with Hydra's own part; inside `Source.opened`.

    Raises:
        SettingError: If a name or a value in them is wrong.
    """
    try:
        return hydra.compose(name, list(overrides), return_hydra_config=True)
    except MissingConfigException as error:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        options = list(error.options or [])
        similar = difflib.get_close_matches(choice, options, n=3) or [o for o in options if o.startswith(choice)]
        hint = f"; did you mean {' or '.join(similar)}?" if similar else ""
        allowed = f"must be one of {', '.join(options)}"
        raise InvalidSettingError(group or "--config-name", choice, allowed + hint) from None
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ or error
        key = getattr(cause, "full_key", None)
        if key and "is not in struct" in str(cause):
            asked = next((o for o in overrides if o.startswith(key)), key)
            raise SettingError(f"{asked}: there is no setting of this name{suggestion(key)}") from None
        raise SettingError(" ".join(str(error).split())) from None


def suggestion(key: str) -> str:
    """The known settings that are probably meant by ``key``."""
    if key in KNOWN_AS:
        return f"; it is called {KNOWN_AS[key]}"
    known = keys(OmegaConf.to_container(hydra.compose(NAME)))
    leaf = key.rpartition(".")[2]
    similar = [k for k in known if k.endswith(f".{leaf}")] or difflib.get_close_matches(key, known, n=2)
    if not similar and leaf in KNOWN_AS:
        return f"; it is called {KNOWN_AS[leaf]}"
    return f"; did you mean {' or '.join(similar[:3])}?" if similar else "; mfnet train --help lists them"


def keys(config: Any, prefix: str = "") -> list[str]:
    """The dotted names of all settings of a config."""
    if not isinstance(config, dict) or not config:
        return [prefix[:-1]]
    return [key for name, inner in config.items() for key in keys(inner, f"{prefix}{name}.")]


def task(composed: DictConfig) -> DictConfig:
    """The config without Hydra's own part; the parts are those of ``composed``, not copies."""
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


def plain(config: DictConfig) -> dict[str, Any]:
    """A config in plain containers, with every interpolation resolved.

    Raises:
        SettingError: If one names nothing.
    """
    try:
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise SettingError(" ".join(str(error).split())) from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _run_name(*, _root_: DictConfig) -> str:
    """``${run_name:}`` in ``conf/train.yaml``: the name of a run's directory."""
    from mfnet.setup.resolution import resolved

    return resolved(task(_root_), {}, {}).name


OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
