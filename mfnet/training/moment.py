"""A run at its latest observation: all that is recorded of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mfnet.flow.state import Progress
from mfnet.flow.stopping import StopReason
from mfnet.training.observation import Observation


@dataclass(frozen=True)
class Moment:
    """What a recorder is told of a run, of one network or of R replicas.

    Attributes:
        observation: The latest observation.
        latest: Every series then, of each replica.
        progress: How far each replica is.
        stop_reason: How the run has ended, or None.
        alpha: Scale α of each replica.
        seeds: Seed of each, if there are several.
        evaluator: What computes them.
        dtype: Floating-point type of the nodes.
    """

    observation: Observation
    latest: Mapping[str, Float[np.ndarray, " R"]]
    progress: Sequence[Progress]
    stop_reason: StopReason | None
    alpha: Float[Tensor, " R"]
    seeds: Sequence[int]
    evaluator: str
    dtype: str

    @property
    def n_replicas(self) -> int:
        """Number of replicas."""
        return len(self.progress)

    @property
    def n_steps(self) -> int:
        """Steps of all replicas together."""
        return sum(p.n_steps for p in self.progress)

    @property
    def n_evaluations(self) -> float:
        """Their drive evaluations; one is two matrix products of all nodes with all examples."""
        return sum(p.work for p in self.progress) / 2.0
