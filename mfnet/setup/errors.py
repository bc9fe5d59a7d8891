"""Mistakes in what is asked for."""

from __future__ import annotations


class SettingError(Exception):
    """A mistake in what was asked for, told in one line."""

    def __init__(self, text: str):
        super().__init__(" ".join(text.splitlines()))


class InvalidSettingError(SettingError):
    """A setting that is not allowed: its key, its value, and what is."""

    def __init__(self, key: str, value: object, allowed: str):
        super().__init__(f"{key}={value}: {allowed}")
