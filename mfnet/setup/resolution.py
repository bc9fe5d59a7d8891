"""From a composed config to plain settings: sizes of real data, resolved interpolations, checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf, open_dict

from mfnet.setup.checks import check, check_complete, check_targets
from mfnet.setup.compose import plain
from mfnet.setup.errors import InvalidSettingError
from mfnet.setup.pieces import Builder
from mfnet.setup.settings import OF_THE_COMMAND, PREPARED


def resolved(config: DictConfig, objects: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run that a config describes, checked; data with sizes of their own say N and d in it.

    Args:
        config: The config, without Hydra's own part.
        objects: Pieces that were given as Python objects, by key.

    Raises:
        SettingError: For the first setting that is wrong.
    """
    check_complete(config)
    settings = plain(config)
    check(settings)
    if "d" not in settings["data"]:
        for key, size in zip(("N", "d"), _sizes(settings, objects), strict=True):
            if settings[key] not in (None, size):
                raise InvalidSettingError(key, settings[key], f"these data have {key}={size} as prepared; leave it out")
            with open_dict(config):
                OmegaConf.update(config, key, size)
        settings = plain(config)
    return {name: value for name, value in settings.items() if name not in (*OF_THE_COMMAND, *PREPARED)}


def _sizes(settings: Mapping[str, Any], objects: Mapping[str, Any]) -> tuple[int, int]:
    """(N, d) of the training set that a config prepares, which is read for that."""
    builder = Builder(settings, objects)
    check_targets(builder, ("data",))
    task = builder("data", schedule=np.zeros(1)).read()
    N, d = task.train.x.shape
    return N, d
