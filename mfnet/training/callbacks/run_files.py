"""Writes the files of a run as it goes, so that whatever was observed is on disk, and closes them at its end."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.image import imread
from torch.utils.tensorboard import SummaryWriter

from mfnet.data import ObservedData
from mfnet.figures import draw_figures
from mfnet.record.directory import RunDirectory, curve_columns
from mfnet.record.stop_reason import StopReason
from mfnet.theory import Trust
from mfnet.training import tags
from mfnet.training.callbacks.example_log import ExampleLog
from mfnet.training.callbacks.node_log import NodeLog
from mfnet.training.callbacks.observer import Observer, observers
from mfnet.training.callbacks.replica_log import ReplicaLog
from mfnet.training.callbacks.theory_overlay import overlays
from mfnet.training.module import MeanFieldModule
from mfnet.training.observation import Observation
from mfnet.training.summary import summarise


class RunFiles(Observer):
    """Writes history, nodes and examples at each observation, summary and figures at the end, and TensorBoard's curves.

    Its place is behind the callbacks that it reads: `NodeLog`, `ExampleLog`, `ReplicaLog` and `TheoryOverlay`.

    Args:
        directory: The run directory.
        config: What is run, in plain containers.
        trusted: Until when each prediction is trustworthy, for the summary.
    """

    def __init__(self, directory: RunDirectory, config: Mapping[str, Any], trusted: Sequence[Trust] = ()):
        self.directory, self.config, self.trusted = directory, config, trusted
        self.rows: list[dict[str, float]] = []
        self._last: Observation | None = None
        self._seconds_before, self._start = 0.0, time.monotonic()

    def on_observation(self, trainer: Trainer, module: MeanFieldModule, observation: Observation) -> None:
        k, t = observation.k, observation.t
        row: dict[str, float] = {"k": k, "t": t}
        predictions = [(overlay.name, overlay.series(k, t)) for overlay in overlays(trainer)]
        for name in observation.series:
            row |= observation.columns(name)
            for theory, series in predictions:
                if name in series:
                    columns = curve_columns(name, series[name], theory)
                    row |= {column: float(values[-1]) for column, values in columns.items()}
        for callback in observers(trainer):
            row |= callback.columns()
        self.rows.append(row)
        self._last = observation
        self.directory.write_history(self.rows)
        if isinstance(trainer.logger, TensorBoardLogger):
            for name in observation.series:
                tags.write_curve(trainer.logger.experiment, name, observation.curve(name), k)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # a property Lightning does not declare
            if isinstance(callback, NodeLog):
                self._write_nodes(trainer, callback, observation)
            elif isinstance(callback, ExampleLog):
                self._write_examples(trainer, module, callback, observation)
            elif isinstance(callback, ReplicaLog):
                self.directory.write_arrays(self.directory.replicas, callback.arrays)

    def _write_nodes(self, trainer: Trainer, log: NodeLog, observation: Observation) -> None:
        arrays: dict[str, np.ndarray] = {"t": log.t, **log.trajectories._asdict()}
        for overlay in overlays(trainer):
            predicted = overlay.nodes(observation.k, observation.t, log.trajectories)
            if predicted is not None:
                arrays |= {f"{name}_{overlay.name}": values for name, values in predicted._asdict().items()}
        self.directory.write_arrays(self.directory.nodes, arrays)

    def _write_examples(
        self, trainer: Trainer, module: MeanFieldModule, log: ExampleLog, observation: Observation
    ) -> None:
        arrays = {"x_par": log.projections(module), "t_sat": log.t_sat, "t": np.array([row["t"] for row in self.rows])}
        for overlay in overlays(trainer):
            curve = overlay.satisfaction(observation.k, observation.t)
            if curve is not None:
                arrays |= curve_columns("x", curve, overlay.name)
        self.directory.write_arrays(self.directory.examples, arrays)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.monotonic()
        fitted = cast(ObservedData, trainer.datamodule).fitted  # type: ignore[attr-defined]  # set by fit
        if fitted:
            self.directory.write_arrays(self.directory.preparation, fitted)
        super().on_train_start(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, MeanFieldModule)
        self._close(trainer, pl_module, str(pl_module.stop_reason or StopReason.T_MAX))
        figures = draw_figures(self.directory)
        if isinstance(trainer.logger, TensorBoardLogger):
            writer = trainer.logger.experiment
            writer.add_custom_scalars(tags.margin_layout())
            for figure in figures:
                writer.add_image(f"figures/{figure.stem}", imread(figure)[..., :3], dataformats="HWC")
            with SummaryWriter(str(self.directory.tensorboard / tags.FINAL)) as end:
                tags.write_end(end, self.config, pl_module.observation.series)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        assert isinstance(pl_module, MeanFieldModule)
        if self._last is not None:
            interrupted = isinstance(exception, KeyboardInterrupt)
            self._close(trainer, pl_module, StopReason.INTERRUPTED if interrupted else f"error: {exception}")

    def _close(self, trainer: Trainer, module: MeanFieldModule, stop_reason: str) -> None:
        """Writes the summary of what the history holds: an interruption may come between an observation and its row."""
        assert self._last is not None
        self.directory.write_history(self.rows)
        history = {name: np.array([row[name] for row in self.rows], dtype=float) for name in self.rows[0]}
        summary = summarise(trainer, module, self._last, history, self.config, self._seconds(), stop_reason)
        summary["trust"] = {
            entry.prediction: {"until": entry.until if entry.until < math.inf else None, "because": entry.because}
            for entry in self.trusted
        }
        for callback in observers(trainer):
            summary |= callback.summary(history)
        self.directory.write_summary(summary)

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._start

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        self._seconds_before = state_dict["seconds"]
