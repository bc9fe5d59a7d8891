"""Checks of what a config names by ``_target_``."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterable
from typing import Any

from mfnet.setup.validation import InvalidSettingError


def check_targets(config: Any, groups: Iterable[str], prefix: str = "") -> None:
    """Checks that what is named by ``_target_`` exists, and takes the settings that are given to it."""
    for name in groups:
        group, key = config[name], f"{prefix}{name}"
        if not isinstance(group, dict):
            continue
        if key in ("mean_field", "data", "flow", "theory", "schedule", "stop") and "_target_" not in group:
            raise InvalidSettingError(key, group, "needs a _target_, the class that it configures")
        if (target := group.get("_target_")) is not None:
            try:
                resolved = pkgutil.resolve_name(target)
                parameters = inspect.signature(resolved).parameters
            except (ImportError, ValueError, TypeError, AttributeError) as error:
                raise InvalidSettingError(f"{key}._target_", target, str(error)) from None
            passed_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
            keywords = getattr(resolved, "KEYWORDS", None)  # those that are passed on, where a class says so
            if keywords or not passed_on:
                for setting in group:
                    if not setting.startswith("_") and setting not in {*parameters, *(keywords or ())}:
                        raise InvalidSettingError(
                            f"{key}.{setting}", group[setting], f"{group['_target_']} does not take it"
                        )
        check_targets(group, group, f"{key}.")
