"""Hydra composes a config from its parts in ``conf/``, and in directories of the user's."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.names import options, suggestion
from mfnet.setup.pieces import told
from mfnet.setup.typed import unread

MODULE, NAME = "mfnet.conf", "train"

#: Hydra has one state for all threads.
_ALONE = threading.RLock()


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
        with _ALONE:
            outside = get_gh_backup()  # of a program that uses Hydra itself
            GlobalHydra.instance().clear()
            try:
                version.setbase("1.3")
                Hydra.create_main_hydra2("mfnet", self._search_path())
                yield
            finally:
                restore_gh_from_backup(outside)

    def _search_path(self) -> ConfigSearchPath:
        """Where Hydra looks, in this order."""
        first = f"pkg://{MODULE}" if self.config_path is None else f"file://{Path(self.config_path).absolute()}"
        found = create_config_search_path(first)
        added = [f"file://{Path(self.config_dir).absolute()}"] if self.config_dir is not None else []
        added += [f"pkg://{MODULE}"] if self.config_path is not None else []
        for path in added:
            found.prepend("command-line", path, anchor=SearchPathQuery(provider="schema"))
        return found


def compose(overrides: Sequence[str], name: str = NAME) -> DictConfig:
    """The config for these overrides, with Hydra's own part; inside `Source.opened`.

    Raises:
        SettingError: If a name or a value in them is wrong.
    """
    try:
        return hydra.compose(name, list(overrides), return_hydra_config=True)
    except MissingConfigException as error:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        if not group:
            raise SettingError(f"--config-name {choice}: there is no such config{_beside()}") from None
        found = options(group)
        similar = difflib.get_close_matches(choice, found, n=3) or [o for o in found if choice in o]
        hint = f"; did you mean {' or '.join(similar)}?" if similar else ""
        raise InvalidSettingError(group, choice, f"must be one of {', '.join(found)}{hint}") from None
    except OverrideParseException as error:
        raise SettingError(unread(error.override, error)) from None
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ or error
        key = getattr(cause, "full_key", None)
        if key and "is not in struct" in str(cause):
            asked = next((o for o in overrides if o.startswith(key)), key)
            raise SettingError(f"{asked}: there is no setting of this name{suggestion(key, name)}") from None
        raise SettingError(told(error)) from None
    except (ValueError, TypeError, AssertionError, OSError, yaml.YAMLError) as error:  # of a file of the user's, say
        for group, choice in (override.lstrip("+").split("=", 1) for override in overrides if "=" in override):
            found = options(group) if group and "group override" in str(error) else []
            listed = choice[1:-1].split(",") if choice.startswith("[") else [choice]
            if found and not {name.strip() for name in listed} <= {*found, ""}:
                none = "; [] for none" if group in ("overlay", "logger") else ""
                raise InvalidSettingError(group, choice, f"must be one of {', '.join(found)}{none}") from None
        raise SettingError(told(error)) from None


def _beside() -> str:
    """The main configs of the user's own directories."""
    names = [name for name in GlobalHydra.instance().config_loader().get_group_options("") if name[0] != "_"]
    return f"; there are {', '.join(names)}" if names else ""


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
        raise SettingError(told(error)) from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}
