"""Any logger of Lightning's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger

from mfnet.record.contents import Contents
from mfnet.training.row import Row, Sink
from mfnet.training.sinks.tags import hyperparameters


class CurveLogger(Sink):
    """Logs settings at the beginning, every curve as it goes, and the last values as ``final/NAME``.

    The curves of a series share a prefix: ``gamma/network``, ``gamma/theory``, ``gamma/theory_lo``; of replicas also
    ``gamma/network_std``. The step is the number k of the observation; ``t`` is its time.

    A run that goes on is logged where it was, if the logger can do that. CSV files are written anew, as a whole; others
    have what is still to come.

    Args:
        logger: The logger.
        config: What is run, in plain containers.
        goes_on: Whether the run goes on from a checkpoint.
        called: What the logger is called in the settings.
        continued: What the logger called the run before, if it was given that and so goes on with it.
        closes: Whether the logger is this run's alone, and ends with it.
    """

    def __init__(
        self,
        logger: Logger,
        config: Mapping[str, Any],
        goes_on: bool,
        called: str = "",
        continued: str | None = None,
        *,
        closes: bool = False,
    ):
        self.logger, self.called, self.closes = logger, called, closes
        self._anew = goes_on and isinstance(logger, CSVLogger)  # which deletes its file
        if continued is None or self._anew:
            logger.log_hyperparams(hyperparameters(config))

    @property
    def version(self) -> str | None:
        """What the logger calls this run, so that it can go on with it; None if it starts anew."""
        return None if isinstance(self.logger, CSVLogger) or self.logger.version is None else str(self.logger.version)

    def rows(self, new: Sequence[Row], history: Sequence[Mapping[str, float]]) -> None:
        if self._anew:
            self._anew = False
            named = {name.replace("/", "_"): name for name in new[0].curves()} | {"t": "t"}
            for earlier in history[: -len(new)]:
                logged = {named[name]: value for name, value in earlier.items() if name in named}
                self.logger.log_metrics(logged, step=int(earlier["k"]))
        for row in new:
            self.logger.log_metrics({"t": row.observation.t, **row.curves()}, step=row.observation.k)

    def end(self, contents: Contents, *, finished: bool) -> None:
        metrics = {f"final/{name}": value for name, value in contents.final.items()}
        self.logger.log_metrics(metrics, step=int(contents.history["k"][-1]))
        self.logger.save()

    def close(self) -> None:
        """Ends the logger's own run, if it has one: the next run of this process would go on with it."""
        if self.closes:
            finish = getattr(getattr(self.logger, "experiment", None), "finish", None)
            if callable(finish):
                finish()
