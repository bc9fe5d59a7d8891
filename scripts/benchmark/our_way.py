"""Whole ways by our flows: what is timed, what (a) is held against, and the reference for errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from benchmark.problems import Observer, Problem, make_problem
from benchmark.settings import N_TEST, Way
from benchmark.timing import now
from mfnet.flow import Averaged, Euler, Flow, Rotation, StoppingRules

#: Training error, test error and γ of each network, (R, 3), at each time.
Errors = dict[float, np.ndarray]


class OurWay:
    """Ours, from the beginning each time; keeps the last run and what was observed on it."""

    flow: Averaged
    observed: Errors

    def __init__(self, way: Way, problem: Problem):
        self.way, self.problem = way, problem
        self.objective, self.observer = problem.objective(way.alpha), Observer(problem, way.alpha)

    def __call__(self, n: int) -> float:
        start = now(self.problem.device)
        for _ in range(n):
            self.problem.start()
            self.flow = Averaged(self.objective)
            self.observed = observe(self.flow, self.observer, self.way.times)
        return now(self.problem.device) - start


def observe(flow: Flow, observer: Observer, times: Sequence[float]) -> Errors:
    """Follows a flow; what is observed at each of the times, and where it stops."""
    observed = {}
    for t in times:
        flow.step(until=t)
        observed[flow.t] = observer(flow.objective.networks.nodes, flow.margins())
        if flow.stop_reason is not None:
            break
    return observed


def fixed_steps(way: Way, t_end: float, device: torch.device) -> int:
    """Steps of (a): to where ours ended, or until all are satisfied; its trajectory is that of `Euler`."""
    if not way.to_satisfied:
        return math.ceil(t_end / way.dt - 1e-9)
    problem = make_problem(way.N, way.M, device=device, dtype=way.dtype)
    euler = Euler(problem.objective(way.alpha), way.dt)
    euler.step(until=way.times[-1])
    return euler.n_steps


def expected_on(way: Way, times: Sequence[float], device: torch.device) -> Errors:
    """What is observed on rotation steps of Δt/10 in float64."""
    problem = make_problem(way.N, way.M, device=device, dtype=torch.float64, n_test=N_TEST)
    reference = Rotation(problem.objective(way.alpha), way.dt / 10.0)
    reference.rules = StoppingRules(satisfied=math.inf)
    return observe(reference, Observer(problem, way.alpha), times)
