"""Contestants that go a whole way, from one observation to the next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np

from benchmark.problems import Observer, Problem
from benchmark.timing import Stopwatch
from mfnet.flow import Flow
from mfnet.network import Nodes


class Traveller(Protocol):
    """What can be followed."""

    @property
    def n_steps(self) -> int:
        """Steps so far."""

    @property
    def nodes(self) -> Nodes:
        """The present nodes."""

    def advance(self, until: float) -> bool:
        """Goes to the time ``until``, or to where there is nothing more to do; False if it gives up."""


class FlowOf:
    """One of our flows on a problem, from its initial nodes, as a `Traveller`."""

    def __init__(self, problem: Problem, flow: Flow[Any]):
        problem.start()
        self.problem, self.flow = problem, flow

    @property
    def n_steps(self) -> int:
        """Steps of all networks."""
        return self.flow.n_steps

    @property
    def nodes(self) -> Nodes:
        """The present nodes."""
        return self.problem.networks.nodes

    def advance(self, until: float) -> bool:
        """Goes to the time ``until``, or until all examples are satisfied."""
        self.flow.step(until=until)
        return True


class Followed(NamedTuple):
    """What a way has cost without its observations, and what was observed at each time."""

    wall: float
    processor: float
    observed: dict[float, np.ndarray]


def followed(traveller: Traveller, observer: Observer, times: Iterable[float]) -> Followed:
    """Follows a contestant; after it has satisfied all examples its nodes rest."""
    watch, observed = Stopwatch(observer.problem.device), {}
    for t in times:
        with watch:
            arrived = traveller.advance(t)
        if not arrived:
            break
        observed[t] = observer(traveller.nodes)
    return Followed(watch.wall, watch.processor, observed)


def deviations(observed: dict[float, np.ndarray], expected: dict[float, np.ndarray]) -> np.ndarray:
    """Largest differences of (R, 3) observations over the times that both have seen."""
    common = [t for t in observed if t in expected]
    return np.max([abs(observed[t] - expected[t]) for t in common], axis=0)
