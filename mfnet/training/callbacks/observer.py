"""The base of callbacks that look at observations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from lightning.pytorch import Callback

from mfnet.theory.prediction import Prediction
from mfnet.training.observation import Observation

#: What is returned of a series: a number for each replica (R,), or one number if there is one network.
Value = Any


class Observer(Callback):
    """Sees each observation once, and returns what it adds to the record of the run.

    To add an observable of your own, write `observe`; a function of an observation that returns a number a replica
    does as well. What one returns keeps its names from one observation to the next. An observer that raises an
    exception, or returns what cannot be recorded, is left out from then on: a line on stderr says so, and the run goes
    on.

    >>> def largest_weight(observation):
    ...     return observation.a.abs().amax(dim=1)  # (R,)
    >>> import mfnet
    >>> run = mfnet.train(M=20, N=100, d=5, schedule={"t_max": 1.0, "per_decade": 1}, callbacks=[largest_weight])
    >>> [column for column in run.history if column.startswith("largest")]
    ['largest_weight_network']
    """

    #: Whether it looks at one network, and cannot go with replicas.
    of_one_network: ClassVar[bool] = False

    #: Whether it needs all nodes on one process, and cannot go with a network that is divided by nodes.
    of_all_nodes: ClassVar[bool] = True

    #: Its name under ``callbacks`` in the settings, if it has one.
    called: str = ""

    @property
    def state_key(self) -> str:
        """What its state in a checkpoint is found by: several of one class each have their own."""
        return f"{type(self).__qualname__} {self.called}".rstrip()

    def observe(self, observation: Observation) -> Mapping[str, Value]:
        """Series that it adds: for each name a number a replica, as a tensor or array (R,)."""
        return {}

    def compare(self, observation: Observation, prediction: Prediction) -> Mapping[str, float]:
        """Measures of the agreement with one theory, by name; their columns end in the theory's name."""
        return {}

    def arrays(self, observation: Observation, predictions: list[Prediction]) -> Mapping[str, Mapping[str, np.ndarray]]:
        """Arrays that it keeps in files of their own, by the name of the file without ``.npz``."""
        return {}

    def summary(self, history: Mapping[str, Float[np.ndarray, " K"]], theories: list[str]) -> Mapping[str, Any]:
        """What it adds to ``summary.json``, given the columns of the history and the names of the theories."""
        return {}


class Observable(Observer):
    """A function of an observation as an observer: the series has the function's name.

    Args:
        function: Takes an `Observation` and returns a number for each replica, as a tensor or array (R,).
        name: Name of the series.
    """

    def __init__(self, function: Callable[[Observation], Value], name: str | None = None):
        self.function, self.name = function, name or function.__name__
        self.called = self.name

    def observe(self, observation: Observation) -> Mapping[str, Value]:
        return {self.name: self.function(observation)}
