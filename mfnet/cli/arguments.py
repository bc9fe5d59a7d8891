"""What was typed: settings, and Hydra's own options, in any order."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mfnet.setup.compose import NAME, Source, compose
from mfnet.setup.errors import SettingError
from mfnet.setup.pieces import told

#: Options that show something and start no run.
_SHOW = ("help", "hydra_help", "cfg", "info", "shell_completion")

#: Options that say how settings are shown.
_OF_CFG = ("package", "resolve")


@dataclass(frozen=True)
class Arguments:
    """The arguments of ``mfnet train`` or ``mfnet predict``.

    Attributes:
        overrides: Settings, as typed.
        multirun: Whether a sweep is asked for (``-m``).
        source: Where configs come from beside ``conf/``.
        shown: What is to be shown instead of starting a run, if anything: Hydra's options.
    """

    overrides: list[str]
    multirun: bool
    source: Source
    shown: argparse.Namespace | None = None

    @staticmethod
    def read(typed: Sequence[str]) -> Arguments:
        """Reads what was typed after the command.

        Raises:
            SettingError: If an option is unknown, lacks its value, or does not go with another.
        """
        parser = _parser()
        found, unknown = parser.parse_known_intermixed_args(list(typed))
        if unknown:
            raise SettingError(f"{unknown[0]}: there is no option of this name; mfnet train --hydra-help lists them")
        source = Source(found.config_dir, found.config_path, found.config_name or NAME)
        asked = [f"--{option.replace('_', '-')}" for option in _SHOW if getattr(found, option)]
        multirun = found.multirun or "hydra.mode=MULTIRUN" in found.overrides
        asked += ["--multirun"] if multirun and asked else []
        if len(asked) > 1:
            raise SettingError(f"{' and '.join(asked)}: one at a time")
        if found.experimental_rerun:
            raise SettingError("--experimental-rerun: there is none here; mfnet train ckpt=… goes on with a run")
        if any(getattr(found, option) for option in _OF_CFG) and asked not in (["--cfg"], ["--help"]):
            raise SettingError("--package and --resolve: say how --cfg shows settings; add --cfg job")
        return Arguments(list(found.overrides), multirun, source, found if asked else None)


def show(asked: Arguments) -> None:
    """Lets Hydra show settings, or help, inside the source of the arguments.

    Raises:
        SettingError: If a setting is wrong.
    """
    found, name, hydra = asked.shown, asked.source.config_name, GlobalHydra.instance().hydra
    assert found is not None
    assert hydra is not None
    try:
        composed = compose([] if found.shell_completion else asked.overrides, name)  # here a mistake costs a line
        if found.help:
            hydra.app_help(name, _parser(), found)
        elif found.hydra_help:
            hydra.hydra_help(name, _parser(), argparse.Namespace(**{**vars(found), "overrides": []}))
        elif found.cfg:
            if found.package not in (None, "_global_") and OmegaConf.select(composed, found.package) is None:
                raise SettingError(f"--package {found.package}: there is no such part")
            hydra.show_cfg(name, asked.overrides, found.cfg, found.package, found.resolve)
        elif found.info:
            hydra.show_info(found.info, name, asked.overrides)
        else:
            hydra.shell_completion(name, asked.overrides)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise SettingError(told(error)) from None


def _parser() -> argparse.ArgumentParser:
    """Hydra's own parser; a mistake costs a line."""
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]  # argparse has no other way
    return parser


def _refuse(message: str) -> NoReturn:
    raise SettingError(f"{message}; mfnet train --hydra-help lists the options")
