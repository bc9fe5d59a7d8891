"""What is seen of a network, or of many, at one observation time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mfnet.theory import Curve


@dataclass(frozen=True)
class Observation:
    """The state of a run at its k-th observation, at mean-field time t.

    Attributes:
        series: Value of each series of `mfnet.series`.
        a, w_par, w_perp: Parameters a, w∥ and |w⊥| of all M nodes.
        train_margins: Margins m = αyF of the training set.
    """

    k: int
    t: float
    series: dict[str, float]
    a: Float[Tensor, " M"]
    w_par: Float[Tensor, " M"]
    w_perp: Float[Tensor, " M"]
    train_margins: Float[Tensor, " N"]

    @property
    def t_margins(self) -> float:
        """When the nodes and margins were such."""
        return self.t

    def columns(self, name: str) -> dict[str, float]:
        """What the history says of a series."""
        return {f"{name}_network": self.series[name]}

    def curve(self, name: str) -> Curve:
        """The point of a series' curve, with its band if it has one."""
        return Curve(np.array([self.series[name]]))


@dataclass(frozen=True)
class EnsembleObservation(Observation):
    """The state of an ensemble: series are means over the replicas, nodes and margins those of the first.

    Attributes:
        replicas: Value of each series for every replica; one that has ended keeps its last.
        times: Time that each has reached; that of the observation, or its end.
    """

    replicas: dict[str, Float[np.ndarray, " R"]]
    times: Float[np.ndarray, " R"]

    @property
    def t_margins(self) -> float:
        return float(self.times[0])

    def std(self, name: str) -> float:
        """Standard deviation over the replicas, with R − 1 in the denominator."""
        return float(self.replicas[name].std(ddof=1))

    def se(self, name: str) -> float:
        """Standard error of the mean."""
        return self.std(name) / math.sqrt(len(self.replicas[name]))

    def columns(self, name: str) -> dict[str, float]:
        spread = {f"{name}_network_std": self.std(name), f"{name}_network_se": self.se(name)}
        return {**super().columns(name), **spread}

    def curve(self, name: str) -> Curve:
        mean, std = self.series[name], self.std(name)
        return Curve(*(np.array([number]) for number in (mean, mean - std, mean + std)))
