"""Puts together what observers return and theories predict, and gives it to the sinks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from torch import Tensor

from mfnet.record.contents import Arrays, Contents
from mfnet.record.stop_reason import StopReason
from mfnet.setup.pieces import told
from mfnet.theory import Curve, Trust
from mfnet.theory.prediction import Prediction
from mfnet.training.callbacks.observer import Observer, Value
from mfnet.training.module import MeanFieldModule
from mfnet.training.observation import Observation, Spread
from mfnet.training.summary import summarise

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """All that is known of one observation.

    Attributes:
        observation: What was observed.
        series: Every series of the network, observers' among them.
        theories: Each theory's predictions up to this observation, by name.
        measures: Measures of the agreement with each theory.
        arrays: Arrays that observers keep, by the name of their file.
    """

    observation: Observation
    series: Mapping[str, Spread]
    theories: Mapping[str, Mapping[str, Curve]]
    measures: Mapping[str, Mapping[str, float]]
    arrays: Mapping[str, Arrays]

    def curves(self) -> dict[str, float]:
        """The last point of every curve, as ``SERIES/SIDE``: what was seen and predicted of each series, then measures.

        A side is ``network`` or the name of a theory, ``network_std`` and ``network_se`` of replicas, or
        ``THEORY_lo`` and ``THEORY_hi`` for the edges of a band.
        """
        points: dict[str, float] = {}
        predicted = dict.fromkeys(name for curves in self.theories.values() for name in curves)
        for name in dict.fromkeys([*self.series, *predicted]):
            if name in self.series:
                points |= {f"{name}/network{end}": number for end, number in self.series[name].parts().items()}
            for theory, curves in self.theories.items():
                if name in curves:
                    edges = zip(("", "_lo", "_hi"), curves[name], strict=True)
                    points |= {f"{name}/{theory}{end}": float(v[-1]) for end, v in edges if v is not None}
        for theory, measures in self.measures.items():
            points |= {f"{measure}/{theory}": value for measure, value in measures.items()}
        return points

    def columns(self) -> dict[str, float]:
        """The row of ``history.csv``."""
        curves = {name.replace("/", "_"): value for name, value in self.curves().items()}
        return {"k": self.observation.k, "t": self.observation.t, **curves}


class Sink:
    """Where a record goes."""

    def row(self, row: Row, rows: Sequence[Mapping[str, float]]) -> None:
        """Takes one observation, and the rows of the history up to it."""

    def end(self, contents: Contents, *, finished: bool) -> None:
        """Takes the whole at the end; not ``finished``, an exception has ended the run, and it may go on."""


class Recorder(Callback):
    """Asks every observer at each observation, merges what they return, and gives it to the sinks.

    An observer that fails, or returns what cannot be recorded, is left out from then on: a line says so, and the run
    goes on.

    Args:
        observers: In the order in which they are asked.
        predictions: The theories that are laid over the run.
        sinks: Where the record goes.
        config: What is run, in plain containers.
        identity: What it is known by.
        trusted: Gives until when each theory is trustworthy, for the summary.
    """

    def __init__(
        self,
        observers: Sequence[Observer],
        predictions: Sequence[Prediction],
        sinks: Sequence[Sink],
        config: Mapping[str, Any],
        identity: str,
        trusted: Callable[[], Sequence[Trust]] = tuple,
    ):
        self.predictions, self.sinks = list(predictions), list(sinks)
        self.config, self.identity, self.trusted = config, identity, trusted
        self.contents: Contents | None = None
        self._observers = list(observers)
        self._rows: list[dict[str, float]] = []
        self._replicas: dict[str, list[np.ndarray]] = {}
        self._left_out: dict[str, str] = {}
        self._latest: Row | None = None
        self._last_k = -1
        self._seconds_before, self._start = 0.0, time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.monotonic()
        if trainer.global_step == 0:
            self._look(pl_module)
        else:  # the run goes on from a checkpoint, whose observation was seen
            self._last_k = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self._look(pl_module)

    def _look(self, module: LightningModule) -> None:
        assert isinstance(module, MeanFieldModule)
        observation = module.observation
        if observation.k <= self._last_k:  # the last one again, when the flow has diverged since
            return
        self._last_k = observation.k
        row = self._row(observation)
        columns = row.columns()
        if self._rows and list(columns) != list(self._rows[0]):
            known = self._rows[0]
            columns = {name: columns.get(name, float("nan")) for name in known}
        self._rows.append(columns)
        for name, spread in row.series.items():
            self._replicas.setdefault(name, []).append(spread.values)
        if observation.n_replicas > 1:
            told_apart = {"seed": np.array(module.seeds), "alpha": module.alpha.numpy()}
            whole = {name: rows for name, rows in self._replicas.items() if len(rows) == len(self._rows)}
            values = {name: np.stack(rows) for name, rows in whole.items()}
            row = Row(
                *(row.observation, row.series, row.theories, row.measures),
                {**row.arrays, "replicas": {"t": self._column("t"), **told_apart, **values}},
            )
        self._latest = row
        for sink in self.sinks:
            sink.row(row, self._rows)

    def _row(self, observation: Observation) -> Row:
        """What observers and theories say of an observation."""
        k, t = observation.k, observation.t
        series = {name: Spread(values) for name, values in observation.replicas.items()}
        theories = {prediction.name: prediction.series(k, t) for prediction in self.predictions}
        measures: dict[str, dict[str, float]] = {name: {} for name in theories}
        arrays: dict[str, Arrays] = {}
        for observer in list(self._observers):
            seen = self._ask(observer, partial(self._see, observer, observation, list(series)))
            if seen is not None:
                series |= seen[0]
                measures = {name: {**measures[name], **seen[1][name]} for name in measures}
                arrays |= seen[2]
        return Row(observation, series, theories, measures, arrays)

    def _see(
        self, observer: Observer, observation: Observation, taken: Sequence[str]
    ) -> tuple[dict[str, Spread], dict[str, Mapping[str, float]], Mapping[str, Arrays]]:
        """The series, measures and arrays that an observer adds.

        Raises:
            ValueError: If a series cannot be recorded.
        """
        series = {name: spread_of(name, value, observation) for name, value in observer.observe(observation).items()}
        for name in series:
            if name in taken:
                raise ValueError(f"there is a series {name} already")
            if self._rows and f"{name}_network" not in self._rows[0]:
                raise ValueError(f"the series {name} was not there from the first observation on")
        compared = {p.name: observer.compare(observation, p) for p in self.predictions}
        return series, compared, observer.arrays(observation, self.predictions)

    def _ask(self, observer: Observer, question: Callable[[], T]) -> T | None:
        """The answer of an observer; one that has none is left out from then on."""
        try:
            return question()
        except Exception as error:  # a user's observer may fail in any way, and must not cost the run
            name = getattr(observer, "name", type(observer).__name__)
            self._left_out[name] = told(error)
            self._observers.remove(observer)
            print(f"mfnet: {name} is left out: {told(error)}", file=sys.stderr, flush=True)
            return None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, MeanFieldModule)
        timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
        late = any((timer.time_remaining() or 1.0) <= 0.0 for timer in timers)
        stopped = StopReason.WALL_TIME if late else StopReason.CALLBACK
        self._close(pl_module, str(pl_module.stop_reason or stopped), finished=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        assert isinstance(pl_module, MeanFieldModule)
        if self._latest is not None:
            interrupted = isinstance(exception, KeyboardInterrupt)
            reason = StopReason.INTERRUPTED if interrupted else f"{StopReason.ERROR}: {told(exception)}"
            self._close(pl_module, reason, finished=False)

    def _close(self, module: MeanFieldModule, stop_reason: str, *, finished: bool) -> None:
        """Gives the sinks the whole: an interruption may have come between an observation and its row."""
        assert self._latest is not None
        history = {name: self._column(name) for name in self._rows[0]}
        names = [prediction.name for prediction in self.predictions]
        seconds = self._seconds_before + time.monotonic() - self._start
        latest = self._latest
        about = {"config": dict(self.config), "identity": self.identity}
        ended = summarise(module, latest.observation, latest.series, history, names, seconds, stop_reason)
        summary = about | ended
        summary["trust"] = {
            entry.prediction: {"until": entry.until if np.isfinite(entry.until) else None, "because": entry.because}
            for entry in self.trusted()
        }
        for observer in list(self._observers):
            summary |= self._ask(observer, partial(observer.summary, history, names)) or {}
        if self._left_out:
            summary["left_out"] = self._left_out
        self.contents = Contents(history, self._latest.arrays, summary)
        for sink in self.sinks:
            sink.end(self.contents, finished=finished)

    def _column(self, name: str) -> Float[np.ndarray, " K"]:
        return np.array([row[name] for row in self._rows], dtype=float)

    def state_dict(self) -> dict[str, Any]:
        replicas = {name: torch.from_numpy(np.stack(rows)) for name, rows in self._replicas.items()}
        seconds = self._seconds_before + time.monotonic() - self._start
        return {"rows": self._rows, "seconds": seconds, "replicas": replicas}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows = list(state_dict["rows"])
        self._seconds_before = state_dict["seconds"]
        self._replicas = {name: list(rows.numpy().copy()) for name, rows in state_dict["replicas"].items()}


def spread_of(name: str, value: Value, observation: Observation) -> Spread:
    """What an observer has returned of a series.

    Raises:
        ValueError: If it is not a number for each replica.
    """
    if not name.isidentifier():
        raise ValueError(f"{name!r} cannot be the name of a series; use letters, digits and _")
    values = value.detach().double().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} is {value!r:.60}, and not a number")
    values = values.astype(float)
    R = observation.n_replicas
    if values.shape == () and R == 1:
        values = values[None]
    if values.shape != (R,):
        wanted = "one number" if R == 1 else f"a number for each of {R} replicas, of shape ({R},)"
        raise ValueError(f"{name} has the shape {values.shape}; it must be {wanted}")
    return Spread(values)
