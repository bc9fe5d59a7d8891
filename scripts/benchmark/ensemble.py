"""The table of ensembles: small networks trained side by side, or one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from statistics import median

import numpy as np
import torch

from benchmark.page import Table, ratio
from benchmark.problems import Problem, make_problem
from benchmark.settings import Settings, name_of
from benchmark.timing import Stopwatch
from mfnet.flow import Averaged
from mfnet.record.schedule import log_spaced

N, M, DIMENSION = 1000, 100, 20


class EnsembleCase:
    """Replicas of ``mfnet train M=100 N=1000 d=20``, which stop at its observations; together, or one by one."""

    def __init__(self, dtype: torch.dtype, R: int, alone: int, device: torch.device):
        self.times = log_spaced(20.0)[1:]
        make = partial(make_problem, N, M, DIMENSION, device=device, dtype=dtype)
        self.whole, self.problems = make(seed=0, replicas=R), [make(seed=seed) for seed in range(min(R, alone))]
        self.R, self.device = R, device

    def flow(self, problem: Problem) -> Averaged:
        """The flow of one or of many, at its end."""
        flow = Averaged(problem.objective(1.0))
        for t in self.times:
            flow.step(until=t)
            if flow.stop_reason is not None:
                break
        return flow

    def row(self, turns: int) -> Sequence[object]:
        """Median wall and processor seconds of both, and the largest difference of their parameters."""
        seconds: dict[str, list[tuple[float, float]]] = {"together": [], "alone": []}
        for _ in range(turns):
            for name, problems in (("together", [self.whole]), ("alone", self.problems)):
                for problem in problems:
                    problem.start()
                with Stopwatch(self.device) as watch:
                    flows = [self.flow(problem) for problem in problems]
                seconds[name].append((watch.wall, watch.processor))
                if name == "together":
                    (ensemble,) = flows
        (wall, processor), (wall_alone, processor_alone) = (np.median(each, axis=0) for each in seconds.values())
        all_of_them = self.R / len(self.problems)
        wall_alone, processor_alone = all_of_them * wall_alone, all_of_them * processor_alone
        ratios = ratio(wall_alone, wall), ratio(processor_alone, processor)
        return f"{wall:.2f}", f"{wall_alone:.2f}", *ratios, *compared(ensemble, flows)


def compared(ensemble: Averaged, flows: Sequence[Averaged]) -> Sequence[str]:
    """How many replicas end like their single flows, and the median and largest relative difference of their w."""
    differences, equal = [], 0
    for flow, w, together in zip(flows, ensemble.objective.networks.nodes.w, ensemble.progress, strict=False):
        networks, (alone,) = flow.objective.networks, flow.progress
        own, initial = networks.nodes.w[0], networks.initial_nodes.w[0]
        differences.append(float((w - own).norm() / (own - initial).norm()))
        equal += (together.stop_reason, together.n_steps) == (alone.stop_reason, alone.n_steps)
    return f"{equal} of {len(flows)}", f"{median(differences):.1e}", f"{max(differences):.1e}"


def rows(settings: Settings) -> Iterator[Sequence[object]]:
    """The smallest ensemble in every type, the others in the first."""
    smallest = min(settings.replicas)
    cases = [(smallest, dtype) for dtype in settings.dtypes]
    cases += [(R, settings.dtypes[0]) for R in settings.replicas if smallest != R]
    for R, dtype in cases:
        yield R, name_of(dtype), *EnsembleCase(dtype, R, settings.alone, settings.device).row(settings.turns)


def about(settings: Settings) -> str:
    """What the columns are."""
    return (
        f"M = {M}, N = {N}, d = {DIMENSION}, α = 1, to t = 500, against single flows, of which {settings.alone} "
        "at most are run, on one thread. Δw: difference of a replica's weights from those of its single flow, "
        "relative to how far these have moved."
    )


COLUMNS = (
    *("R", "dtype", "together, s", "one after the other, s", "ratio", "ratio of processor time"),
    *("same end and steps", "median Δw", "largest Δw"),
)
TABLE = Table("An ensemble", about, COLUMNS, rows, one_thread=True)
