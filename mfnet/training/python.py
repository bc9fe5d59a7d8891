"""``mfnet.train``, ``mfnet.sweep`` and ``mfnet.load``: runs from Python."""

from __future__ import annotations

import os
from typing import Any

from mfnet.record.directory import RunDirectory
from mfnet.setup.checks import check_directory
from mfnet.setup.setup import Setup
from mfnet.training.run import Run
from mfnet.training.train import Training


def train(setup: Setup | None = None, /, *, directory: str | os.PathLike[str] | None = None, **settings: Any) -> Run:
    """Trains a network, lays the theory over it, and returns both.

    Settings are those of the command, as `Setup.of` takes them: ``mfnet.train(alpha=10.0, data="digits",
    flow={"rtol": 0.003}, overlay=["kernel_closure"])``.

    Args:
        setup: What to run, with other ``settings`` where they are given.
        directory: A new directory for the files of `RunDirectory`; without one nothing is written.
        settings: What differs from the defaults.

    Raises:
        SettingError: For the first setting that is wrong; then nothing was written.
    """
    setup = Setup.of(**settings) if setup is None else setup.but(**settings) if settings else setup
    if directory is None:
        return Training(setup).run()
    check_directory("directory", directory)
    kept = RunDirectory(directory)
    training = Training(setup, kept)
    kept.path.mkdir(parents=True, exist_ok=True)
    with kept.lock():
        return training.run()
