"""Puts together what observers return and theories predict, and gives it to the sinks."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float

from mfnet.record.contents import Arrays, Contents
from mfnet.record.history import History
from mfnet.setup.pieces import said, told
from mfnet.theory import Curve
from mfnet.theory.growing import Growing
from mfnet.theory.prediction import Prediction
from mfnet.training.callbacks.observer import Observer
from mfnet.training.moment import Moment
from mfnet.training.observation import Observation, Spread
from mfnet.training.returned import mapping_of, measure_of, spread_of
from mfnet.training.row import Row, Sink
from mfnet.training.summary import TAKEN, finite, summarise

T = TypeVar("T")

#: Files of arrays that are not observers'.
REPLICAS, PREPARATION = "replicas", "preparation"


class Recorder:
    """Asks every observer at each observation, merges what they return, and gives it to the sinks.

    An observer that fails, or returns what cannot be recorded, is left out from then on: a line says so, its series go
    on as NaN, and so does the run.

    Args:
        observers: In the order in which they are asked.
        predictions: The theories that are laid over the run.
        sinks: Where the record goes.
        config: What is run, in plain containers.
        identity: What it is known by.
        of_theories: Gives what the summary says of the theories: which they are, and until when trustworthy.

    Attributes:
        latest: The latest observation as it was recorded, or None.
        contents: The whole record, when the run has ended.
    """

    def __init__(
        self,
        observers: Sequence[Observer],
        predictions: Sequence[Prediction],
        sinks: Sequence[Sink],
        config: Mapping[str, Any],
        identity: str,
        of_theories: Callable[[], Mapping[str, Any]] = dict,
    ):
        self.predictions, self.sinks = list(predictions), list(sinks)
        self.config, self.identity, self.of_theories = config, identity, of_theories
        self.contents: Contents | None = None
        self._observers = list(observers)
        self._rows = History()
        self._replicas: dict[str, Growing] = {}
        self._left_out: dict[str, str] = {}
        self._assigned: set[str] = set()
        self._columns: dict[int, list[str]] = {}  # of each observer
        self._predicted_columns: dict[str, list[str]] = {}  # of each theory
        self.latest: Row | None = None
        self._waiting: list[Row] = []  # which no sink has seen
        self._begins = True  # what is seen for the first time, here or where the run goes on
        self._last_k = -1
        self._seconds_before, self._start, self._device = 0.0, time.monotonic(), ""

    def begin(self, device: str, moment: Moment, k: int = 0, t: float = 0.0) -> None:
        """Begins with the first observation, or goes on after the ``k``-th at ``t``, which was seen already.

        Args:
            device: What the run is computed on.
            moment: The run.
            k: Number of the observation.
            t: Its time.
        """
        self._start, self._device = time.monotonic(), device
        if k == 0:
            self.look(moment)
        else:
            self._go_on(moment, k, t)

    def _go_on(self, moment: Moment, k: int, t: float) -> None:
        """Takes the observation of the checkpoint as the latest, so that the record can be closed at any time."""
        self._last_k = k
        times = np.array([p.t for p in moment.progress])
        observation = replace(moment.observation, k=k, t=t, times=times, replicas=dict(moment.latest))
        series = {name: Spread(rows.values[-1]) for name, rows in self._replicas.items()}
        row = Row(observation, series, self._predicted(k, t), {}, {})
        self._begin_theories(row)
        self.latest, self._begins = row, True

    def _begin_theories(self, row: Row) -> None:
        """Gives every theory that is new here, or another than it was, its columns of the whole history."""
        for theory in row.theories:
            whole = replace(row, theories={theory: row.theories[theory]}).predictions()
            then = {name: self._rows.column(name) for name in self._predicted_columns.get(theory, ())}
            same = set(then) == set(whole) and all(
                np.allclose(then[name], whole[name], rtol=1e-5, atol=1e-8, equal_nan=True) for name in whole
            )
            if not same:
                self._rows.drop(then)
                for name, values in whole.items():
                    self._rows.put(name, values)
        for theory, names in self._predicted_columns.items():
            if theory not in row.theories:
                self._rows.drop(names)

    def look(self, moment: Moment) -> None:
        """Records an observation, unless it is the last one again, as when the flow has diverged since."""
        observation = moment.observation
        if self.latest is not None:
            self._tell_of_assignments(self.latest.observation, moment)
        if observation.k <= self._last_k:
            return
        self._last_k = observation.k
        self._tell_of_assignments(observation, moment)
        row = self._row(observation, moment.latest)
        columns = row.columns()
        if self._rows and self._begins:
            for name in columns:
                if name not in self._rows.names:
                    self._rows.put(name, np.full(len(self._rows), np.nan))
        for name, spread in row.series.items():
            unseen = np.full((len(self._rows), observation.n_replicas), np.nan)
            self._replicas.setdefault(name, Growing(unseen)).append(spread.values)
        self._rows.append(columns)
        if self._begins:
            each = {theory: replace(row, theories={theory: row.theories[theory]}) for theory in row.theories}
            self._predicted_columns = {theory: list(own.predictions()) for theory, own in each.items()}
        self._begins = False
        self.latest = row
        self._waiting.append(row)

    def pass_on(self, moment: Moment) -> None:
        """Gives the sinks what they have not seen."""
        if not self._waiting:
            return
        self._waiting[-1] = self._with_arrays(self._waiting[-1], moment)
        new, self._waiting = self._waiting, []
        for sink in list(self.sinks):
            self._give(sink, partial(sink.rows, new, self._rows))

    def _with_arrays(self, row: Row, moment: Moment) -> Row:
        """The same with the arrays of observers, and of replicas with every series of each."""
        arrays: dict[str, Arrays] = {}
        for observer in list(self._observers):
            arrays |= self._ask(observer, partial(self._arrays, observer, row.observation, arrays)) or {}
        return self._with_replicas(replace(row, arrays=arrays), moment)

    def _with_replicas(self, row: Row, moment: Moment) -> Row:
        """The same with every series of every replica among its arrays."""
        if row.observation.n_replicas == 1:
            return row
        told_apart = {"seed": np.array(moment.seeds), "alpha": moment.alpha.numpy()}
        values = {name: rows.values for name, rows in self._replicas.items()}
        return replace(row, arrays={**row.arrays, REPLICAS: {"t": self._rows.column("t"), **told_apart, **values}})

    def _row(self, observation: Observation, seen: Mapping[str, Float[np.ndarray, " R"]]) -> Row:
        """What observers and theories say of an observation, of whose networks ``seen`` was seen."""
        series = {name: Spread(values) for name, values in seen.items()}
        theories = self._predicted(observation.k, observation.t)
        measures: dict[str, dict[str, float]] = {name: {} for name in theories}
        for observer in list(self._observers):
            so_far = Row(observation, series, theories, measures, {})
            found = self._ask(observer, partial(self._see, observer, so_far))
            if found is not None:
                series |= found[0]
                measures = {name: {**measures[name], **found[1].get(name, {})} for name in measures}
        for name in self._replicas:  # of observers that were left out
            series.setdefault(name, Spread(np.full(observation.n_replicas, np.nan)))
        return Row(observation, series, theories, measures, {})

    def _predicted(self, k: int, t: float) -> dict[str, Mapping[str, Curve]]:
        """What each theory says; one that fails is left out from then on, and its columns go on as NaN."""
        found = {}
        for prediction in list(self.predictions):
            try:
                found[prediction.name] = prediction.series(k, t)
            except Exception as error:  # a user's theory may fail in any way, and must not cost the run
                self._leave_out(prediction.name, f"the theory {prediction.name}", error)
                self.predictions.remove(prediction)
        return found

    def _see(self, observer: Observer, row: Row) -> tuple[dict[str, Spread], dict[str, Mapping[str, float]]]:
        """The series and measures that an observer adds to a row.

        Raises:
            ValueError: If one of them cannot be recorded.
        """
        observation = row.observation
        returned = mapping_of(observer.observe(observation), "observe")
        series = {name: spread_of(name, value, observation) for name, value in returned.items()}
        measures: dict[str, Mapping[str, float]] = {}
        for prediction in self.predictions:
            compared = mapping_of(observer.compare(observation, prediction), "compare")
            measures[prediction.name] = {name: measure_of(name, value) for name, value in compared.items()}
        for name in series:
            if name in row.series:
                raise ValueError(f"there is a series {name} already")
            if name in TAKEN or name.startswith("agreement_"):
                raise ValueError(f"{name} is what summary.json or replicas.npz call something else")
        taken = row.columns()
        columns = Row(observation, series, {}, measures, {}).columns()
        own = [name for name in columns if name not in ("k", "t")]
        for name in own:
            if name in taken:
                raise ValueError(f"there is a column {name} already")
            if not self._begins and name not in self._rows.names:
                raise ValueError(f"the column {name} was not there from the first observation on")
        before = self._columns.setdefault(id(observer), own)
        gone = tuple(f"_{name}" for name in self._left_out)  # theories, which are not compared with any more
        if missing := [name for name in before if name not in own and not name.endswith(gone)]:
            raise ValueError(f"the column {missing[0]} is missing, which it has had before")
        return series, measures

    def _arrays(self, observer: Observer, observation: Observation, taken: Mapping[str, Arrays]) -> dict[str, Arrays]:
        """The arrays that an observer keeps.

        Raises:
            ValueError: If one cannot be kept.
        """
        files = mapping_of(observer.arrays(observation, self.predictions), "arrays")
        for file, arrays in files.items():
            if file in taken or file in (REPLICAS, PREPARATION):
                raise ValueError(f"there is a file {file}.npz already")
            if not isinstance(file, str) or not file.isidentifier():
                raise ValueError(f"{file!r} cannot be the name of a file of arrays; use letters, digits and _")
            for name, values in mapping_of(arrays, f"arrays: {file}").items():
                if not isinstance(name, str) or not isinstance(values, np.ndarray) or values.dtype.hasobject:
                    raise ValueError(f"{file}.npz must be of arrays by name, and {name!r} is {values!r:.60}")
        return dict(files)

    def _ask(self, observer: Observer, question: Callable[[], T]) -> T | None:
        """The answer of an observer; one that has none is left out from then on."""
        try:
            return question()
        except Exception as error:  # a user's observer may fail in any way, and must not cost the run
            name = observer.called or type(observer).__name__
            self._leave_out(name, name if not observer.called else f"callbacks.{name}", error)
            self._observers.remove(observer)
            observer.state_dict = dict  # type: ignore[method-assign]  # there is nothing more to keep of it
            return None

    def _give(self, sink: Sink, gift: Callable[[], None]) -> None:
        """Gives something to a sink; one that fails is left out, unless it is needed."""
        try:
            gift()
        except Exception as error:  # a server may be gone
            if sink.needed:
                raise
            name = sink.called or type(sink).__name__
            self._leave_out(name, f"logger.{name}", error)
            self.sinks.remove(sink)

    def _leave_out(self, name: str, shown: str, error: Exception) -> None:
        self._left_out[name] = told(error)
        say(f"{shown} is left out from now on: {said(error)}")

    def _tell_of_assignments(self, observation: Observation, moment: Moment) -> None:
        """Says, once a name, that what a callback assigns to an observation is not recorded."""
        for name in observation.assigned(moment.latest) - self._assigned:
            self._assigned.add(name)
            how = f"return it from an Observer, or from a function: +callbacks.{name}._target_=my_module.my_function"
            say(f"observation.series[{name!r}] was assigned, which is not recorded; {how}")

    def close(self, moment: Moment, stop_reason: str, *, finished: bool) -> None:
        """Gives the sinks the whole; does nothing if nothing was seen, or all of it is told.

        Args:
            moment: The run, at an observation that may not have been recorded yet.
            stop_reason: How it has ended.
            finished: Whether nothing has interrupted it.
        """
        if self.latest is None or self.contents is not None:
            return
        self._tell_of_assignments(self.latest.observation, moment)
        history = {name: values.copy() for name, values in self._rows.columns().items()}
        names = [prediction.name for prediction in self.predictions]
        seconds = self._seconds_before + time.monotonic() - self._start
        latest = self._with_arrays(self.latest, moment)
        about = {"config": dict(self.config), "identity": self.identity}
        ended = summarise(moment, latest.observation, latest.series, history, names, self._device, seconds, stop_reason)
        summary = about | ended | dict(self.of_theories())
        for observer in list(self._observers):
            summary |= self._ask(observer, partial(self._summary, observer, history, names, summary)) or {}
        if self._left_out:
            summary["left_out"] = self._left_out
        arrays = {file: {name: np.array(each) for name, each in own.items()} for file, own in latest.arrays.items()}
        self.contents = Contents(history, arrays, finite(summary))
        for sink in list(self.sinks):
            self._give(sink, partial(sink.end, self.contents, finished=finished))

    @staticmethod
    def _summary(
        observer: Observer, history: Mapping[str, np.ndarray], theories: list[str], taken: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What an observer adds to the summary.

        Raises:
            ValueError: If it cannot be written, or stands there already.
        """
        added = dict(mapping_of(observer.summary(history, theories), "summary"))
        for name in added:
            if name in taken:
                raise ValueError(f"summary.json has {name} already")
        try:
            json.dumps(added)
        except (TypeError, ValueError) as error:
            raise ValueError(f"what it adds to summary.json cannot be written as JSON: {told(error)}") from None
        return added

    def state_dict(self) -> dict[str, Any]:
        replicas = {name: torch.from_numpy(rows.values.copy()) for name, rows in self._replicas.items()}
        seconds = self._seconds_before + time.monotonic() - self._start
        history = torch.from_numpy(np.array(list(self._rows.columns().values())))
        saved = {"names": self._rows.names, "history": history, "seconds": seconds, "replicas": replicas}
        return {**saved, "predicted": self._predicted_columns}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows = History.of(dict(zip(state_dict["names"], state_dict["history"].numpy(), strict=True)))
        self._seconds_before, self._predicted_columns = state_dict["seconds"], state_dict["predicted"]
        self._replicas = {name: Growing(rows.numpy()) for name, rows in state_dict["replicas"].items()}


def say(line: str) -> None:
    """Tells the user something, in a line."""
    print(f"mfnet: {line}", file=sys.stderr, flush=True)
