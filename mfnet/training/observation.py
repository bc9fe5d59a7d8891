"""What is seen of a network, or of replicas, at one observation time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mfnet.theory import Curve


@dataclass(frozen=True)
class Observation:
    """The state of a run at its k-th observation, at mean-field time t; nodes and margins are the first replica's.

    Attributes:
        replicas: Value of each series of `mfnet.record.series` for every replica; one that has ended keeps its last.
        a, w_par, w_perp: Parameters a, w∥ and |w⊥| of all M nodes.
        train_margins: Margins m = αyF of the training set.
        times: Time that each replica has reached; that of the observation, or its end.
        series: Means over the replicas, to which callbacks add their own.
    """

    k: int
    t: float
    replicas: Mapping[str, Float[np.ndarray, " R"]]
    a: Float[Tensor, " M"]
    w_par: Float[Tensor, " M"]
    w_perp: Float[Tensor, " M"]
    train_margins: Float[Tensor, " N"]
    times: Float[np.ndarray, " R"]
    series: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "series", {name: float(np.mean(values)) for name, values in self.replicas.items()})

    @property
    def t_margins(self) -> float:
        """When the nodes and margins were such."""
        return float(self.times[0])

    @property
    def n_replicas(self) -> int:
        """Number of replicas."""
        return len(self.times)

    def std(self, name: str) -> float:
        """Standard deviation over the replicas, with R − 1 in the denominator."""
        return float(self.replicas[name].std(ddof=1))

    def se(self, name: str) -> float:
        """Standard error of the mean."""
        return self.std(name) / math.sqrt(self.n_replicas)

    def columns(self, name: str) -> dict[str, float]:
        """What the history says of a series."""
        mean = {f"{name}_network": self.series[name]}
        if self.n_replicas == 1:
            return mean
        return {**mean, f"{name}_network_std": self.std(name), f"{name}_network_se": self.se(name)}

    def curve(self, name: str) -> Curve:
        """The point of a series' curve, with a band of a standard deviation if there are replicas."""
        mean = self.series[name]
        if self.n_replicas == 1:
            return Curve(np.array([mean]))
        std = self.std(name)
        return Curve(*(np.array([number]) for number in (mean, mean - std, mean + std)))
