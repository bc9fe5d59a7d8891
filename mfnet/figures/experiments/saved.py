"""Single runs of a collection: their files, and the mean-field solution that was laid over them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mfnet.collection import Collection
from mfnet.record.directory import RunDirectory
from mfnet.theory import MeanField


def directories(collection: Collection) -> Iterator[RunDirectory]:
    """The directory of each run, in the order of ``collection.runs``."""
    return (RunDirectory(collection.path / str(run)) for run in collection.runs["run"])


def config(collection: Collection) -> dict[str, Any]:
    """The settings of the first run: for what did not vary."""
    return next(directories(collection)).read_summary()["config"]


def model(config: dict[str, Any]) -> MeanField:
    """The mean-field solution of a run's settings."""
    return MeanField(**{name: value for name, value in config["mean_field"].items() if name != "_target_"})
