"""What is seen of a network, or of replicas, at one observation time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mfnet.data import Task
from mfnet.network import Networks
from mfnet.network.observables import NodeParameters
from mfnet.theory import Curve


@dataclass(frozen=True)
class Spread:
    """A number of each replica: their mean, and how far they are apart; of a network alone, the number."""

    values: Float[np.ndarray, " R"]

    @property
    def mean(self) -> float:
        """Mean over the replicas."""
        return float(self.values[0] if len(self.values) == 1 else np.mean(self.values))

    @property
    def std(self) -> float:
        """Standard deviation over the replicas, with R − 1 in the denominator."""
        return float(self.values.std(ddof=1))

    @property
    def se(self) -> float:
        """Standard error of the mean."""
        return self.std / math.sqrt(len(self.values))

    def parts(self) -> dict[str, float]:
        """The mean under an empty name, and of replicas their spread as ``_std`` and ``_se``."""
        if len(self.values) == 1:
            return {"": self.mean}
        return {"": self.mean, "_std": self.std, "_se": self.se}

    def curve(self) -> Curve:
        """The point of its curve, with a band of a standard deviation if there are replicas."""
        if len(self.values) == 1:
            return Curve(np.array([self.mean]))
        return Curve(*(np.array([number]) for number in (self.mean, self.mean - self.std, self.mean + self.std)))


@dataclass(frozen=True)
class Observation:
    """The state of a run at its k-th observation, at mean-field time t.

    Attributes:
        k: Number of the observation.
        t: Its time.
        replicas: Value of each series of `mfnet.record.series` for every replica; one that has ended keeps its last.
        networks: The networks, with their present and initial nodes (``nodes``, ``initial_nodes``); divided by nodes
            among processes, this process's share.
        nodes: Parameters a, w∥ and |w⊥| of all M nodes.
        train_margins: Margins m = αyF of the training sets.
        tasks: The task of each replica: its examples, in float64, and its reference direction.
        times: Time that each replica has reached; that of the observation, or its end.
        h: Margin below which an example of the first replica is unsatisfied.
    """

    k: int
    t: float
    replicas: Mapping[str, Float[np.ndarray, " R"]]
    networks: Networks
    nodes: NodeParameters
    train_margins: Float[Tensor, "R N"]
    tasks: Sequence[Task]
    times: Float[np.ndarray, " R"]
    h: float

    @property
    def a(self) -> Float[Tensor, "R M"]:
        """The output weights a."""
        return self.nodes.a

    @property
    def w(self) -> Float[Tensor, "R M d"]:
        """The input weights w; divided by nodes among processes, this process's share."""
        return self.networks.nodes.w.clone()

    @property
    def w_par(self) -> Float[Tensor, "R M"]:
        """Their components w∥ = ŵ*·w along the reference direction."""
        return self.nodes.w_par

    @property
    def w_perp(self) -> Float[Tensor, "R M"]:
        """The norms |w⊥| of what is across it."""
        return self.nodes.w_perp

    @property
    def n_replicas(self) -> int:
        """Number of replicas."""
        return len(self.times)

    @cached_property
    def series(self) -> dict[str, float]:
        """Means over the replicas. To add one, return it from an `Observer`, or from a function of an observation."""
        return {name: Spread(values).mean for name, values in self.replicas.items()}

    def assigned(self, known: Mapping[str, Any]) -> set[str]:
        """Names of series that somebody has assigned, which nobody records, where ``known`` ones were observed."""
        changed = {name for name, values in self.replicas.items() if self.series.get(name) != Spread(values).mean}
        return changed | ({*self.series, *self.replicas} - set(known))
