"""Any logger of Lightning's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.loggers import Logger

from mfnet.record.contents import Contents
from mfnet.training.recorder import Row, Sink
from mfnet.training.sinks.tags import hyperparameters


class CurveLogger(Sink):
    """Logs settings at the beginning, every curve as it goes, and the last values as ``final/NAME``.

    The curves of a series share a prefix: ``gamma/network``, ``gamma/theory``, ``gamma/theory_lo``; of replicas also
    ``gamma/network_std``. The step is the number k of the observation; ``t`` is its time.

    Args:
        logger: The logger.
        config: What is run, in plain containers.
        goes_on: Whether the run goes on from a checkpoint, so that its settings are logged already.
    """

    def __init__(self, logger: Logger, config: Mapping[str, Any], *, goes_on: bool):
        self.logger = logger
        if not goes_on:
            logger.log_hyperparams(hyperparameters(config))

    def row(self, row: Row, rows: Sequence[Mapping[str, float]]) -> None:
        self.logger.log_metrics({"t": row.observation.t, **row.curves()}, step=row.observation.k)

    def end(self, contents: Contents, *, finished: bool) -> None:
        last = {name: contents.summary.get(name) for name in contents.series}
        metrics = {f"final/{name}": value for name, value in last.items() if value is not None}
        self.logger.log_metrics({"t": float(contents.history["t"][-1]), **metrics}, step=int(contents.history["k"][-1]))
        self.logger.save()
