"""What was typed: settings, and Hydra's own options, in any order."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from mfnet.setup.compose import NAME, Source
from mfnet.setup.errors import SettingError

#: Options that show something and start no run.
_SHOW = ("help", "hydra_help", "cfg", "info", "shell_completion")


@dataclass(frozen=True)
class Arguments:
    """The arguments of ``mfnet train`` or ``mfnet predict``.

    Attributes:
        overrides: Settings, as typed.
        multirun: Whether a sweep is asked for (``-m``).
        source: Where configs come from beside ``conf/``.
        shown: What Hydra is to show instead of starting a run: its own options, and the settings.
    """

    overrides: list[str]
    multirun: bool
    source: Source
    shown: list[str] | None = None

    @staticmethod
    def read(typed: Sequence[str]) -> Arguments:
        """Reads what was typed after the command.

        Raises:
            SettingError: If an option is unknown or lacks its value.
        """
        parser = get_args_parser()
        parser.error = _refuse  # type: ignore[method-assign]  # ours costs a line
        found, unknown = parser.parse_known_intermixed_args(list(typed))
        if unknown:
            raise SettingError(f"{unknown[0]}: there is no option of this name; mfnet train --hydra-help lists them")
        source = Source(found.config_dir, found.config_path, found.config_name or NAME)
        asked = any(getattr(found, option) for option in _SHOW)
        return Arguments(
            list(found.overrides), found.multirun, source, _shown(parser, found, source) if asked else None
        )


def _shown(parser: argparse.ArgumentParser, found: argparse.Namespace, source: Source) -> list[str]:
    """The options that were given, then the settings, as Hydra reads them."""
    arguments: list[str] = []
    for action in parser._actions:
        value = getattr(found, action.dest, None)
        if not action.option_strings or value in (None, False, action.default):
            continue
        option = action.option_strings[0]
        arguments += [option] if value is True else [option, str(value)]
    ours = source.overrides if source.config_path is not None and source.config_dir is None else []
    return [*arguments, *found.overrides, *ours]


def _refuse(message: str) -> NoReturn:
    raise SettingError(f"{message}; mfnet train --hydra-help lists the options")
