"""How Hydra is started."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import hydra
from omegaconf import DictConfig

from mfnet.cli.compose import CONFIG_MODULE, CONFIG_NAME
from mfnet.cli.prediction import predict
from mfnet.cli.run import train

#: What Hydra starts, with a config.
COMMANDS: dict[str, Callable[[DictConfig], None]] = {"train": train, "predict": predict}


def launch(command: str, arguments: Sequence[str]) -> None:
    """Lets Hydra start the job or jobs of a command, with what it is to read off the command line."""
    sys.argv = [f"mfnet {command}", *arguments]
    hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name=CONFIG_NAME, version_base="1.3")(COMMANDS[command])()
