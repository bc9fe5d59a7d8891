"""The observables that are followed in time: their names, symbols and tolerances, said once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Series:
    """An observable of a run, compared with the theory.

    ``tolerance`` is the deviation up to which network and theory are said to agree: absolute, relative
    to the theory's value, or relative to the observable's value at t = 0.
    """

    name: str
    symbol: str
    label: str
    tolerance: float
    measure: Literal["absolute", "relative", "initial"]


GAMMA = Series("gamma", r"$\gamma$", "clock", 0.05, "relative")
UNSATISFIED = Series("unsatisfied", r"$n_u$", "unsatisfied fraction", 0.05, "absolute")
LOSS = Series("loss", r"$L$", "loss", 0.05, "initial")
TRAIN_ERROR = Series("train_error", r"$\epsilon_{\rm train}$", "training error", 0.02, "absolute")
TEST_ERROR = Series("test_error", r"$\epsilon_g$", "test error", 0.02, "absolute")
#: |θ − θ₀|/|θ₀| over all nodes and their d + 1 parameters: how lazy a run is.
DISPLACEMENT = Series("displacement", r"$|\Delta\theta|/|\theta_0|$", "displacement", 0.1, "relative")

#: Observables of the way the network is integrated; of theories `mfnet.flow.InfiniteWidth` alone has
#: the first. Means over the time since the last
#: observation: of the force φ̄, and of the share of examples whose force changed within a step.
MEAN_FORCE, SLIDING = "mean_force", "sliding"

SERIES: dict[str, Series] = {s.name: s for s in (GAMMA, UNSATISFIED, LOSS, TRAIN_ERROR, TEST_ERROR, DISPLACEMENT)}
