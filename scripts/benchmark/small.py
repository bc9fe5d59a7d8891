"""The table of small problems, at equal accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from benchmark.adaptive_euler import AdaptiveEuler
from benchmark.following import FlowOf, Traveller, deviations, followed
from benchmark.machine import counted
from benchmark.page import Table, ratio
from benchmark.plain import PlainLoop, compiled_note, compiles
from benchmark.problems import Observer, make_problem
from benchmark.settings import N_TEST, Settings
from mfnet.flow import Averaged, Rotation

ALPHA = 1.0
TIMES = (10.0, 30.0, 100.0, 300.0)
BOUNDS = (1e-1, 1e-2, 1e-3)


class Outcome(NamedTuple):
    """What a contestant has cost on all seeds together, and how far off it was: root mean squares over the seeds."""

    steps: int
    processor: float
    wall: float
    deviations: np.ndarray


class Contestant(NamedTuple):
    """A name, a setting, and what starts it on the problem of a seed."""

    who: str
    setting: str
    start: Callable[[int], Traveller]


class Case:
    """A size: problems of several seeds, and what a reference observes on them."""

    def __init__(self, size: tuple[int, int, int], settings: Settings):
        self.device = settings.device
        make = partial(make_problem, *size, device=self.device, n_test=N_TEST)
        self.problems = [make(seed=seed) for seed in range(settings.seeds)]
        self.steps = [2.0**-k for k in range(settings.halvings + 1)]
        self.observers = [Observer(problem, ALPHA) for problem in self.problems]
        self.objectives = [problem.objective(ALPHA) for problem in self.problems]
        whole = make(dtype=torch.float64, seed=0, replicas=settings.seeds)
        reference = FlowOf(whole, Rotation(whole.objective(ALPHA), self.steps[-1] / 10.0))
        self.expected = followed(reference, Observer(whole, ALPHA), TIMES).observed
        self.allowed = np.zeros(3)

    def outcome(self, contestant: Contestant) -> Outcome:
        """One run of each seed."""
        steps, processor, wall, off = 0, 0.0, 0.0, []
        for seed, observer in enumerate(self.observers):
            traveller = contestant.start(seed)
            run = followed(traveller, observer, TIMES)
            expected = {t: values[seed : seed + 1] for t, values in self.expected.items()}
            off.append(deviations(run.observed, expected)[0])
            steps, processor, wall = steps + traveller.n_steps, processor + run.processor, wall + run.wall
        return Outcome(steps, processor, wall, np.sqrt(np.mean(np.square(off), axis=0)))

    def ours(self) -> Contestant:
        """Ours."""
        return Contestant(
            "ours", "rtol=0.01", lambda seed: FlowOf(self.problems[seed], Averaged(self.objectives[seed]))
        )

    def loop(self, dt: float, *, compiled: bool = False) -> Contestant:
        """(a) or (a′)."""
        who = "(a′)" if compiled else "(a)"
        return Contestant(who, f"Δt={dt:g}", lambda seed: PlainLoop(self.problems[seed], ALPHA, dt, compiled=compiled))

    def adaptive(self, bound: float, shortest: float) -> Contestant:
        """(d)."""

        def start(seed: int) -> AdaptiveEuler:
            return AdaptiveEuler(self.problems[seed], ALPHA, self.steps[0], shortest=shortest, bound=bound)

        return Contestant("(d)", f"bound={bound:g}, Δt≥{shortest:g}", start)

    def as_accurate(self, contestants: Sequence[Contestant]) -> Contestant:
        """The first that is no further off than allowed; else the last, marked."""
        for contestant in contestants:
            if (self.outcome(contestant).deviations <= self.allowed).all():
                return contestant
        return contestants[-1]._replace(setting=contestants[-1].setting + ", further off")

    def contestants(self) -> list[Contestant]:
        """Ours, and the others with the coarsest setting that is as accurate, or off by one example."""
        ours = self.ours()
        self.outcome(ours)  # warms it up
        one_example = [1.0 / len(self.problems[0].x), 1.0 / N_TEST, 0.0]
        self.allowed = np.maximum(self.outcome(ours).deviations, one_example)
        plain = self.as_accurate([self.loop(dt) for dt in self.steps])
        adaptive = [self.adaptive(bound, shortest) for shortest in self.steps for bound in BOUNDS]
        found = [ours, plain, self.as_accurate(adaptive)]
        if compiles(self.device):
            dt = float(plain.setting.partition(",")[0].removeprefix("Δt="))
            found.insert(2, self.loop(dt, compiled=True)._replace(setting=plain.setting))
        return found


def rows(settings: Settings) -> Iterator[Sequence[object]]:
    """Every size of every contestant, in turns."""
    for size in settings.small:
        case = Case(size, settings)
        contestants = case.contestants()
        turns = [[case.outcome(contestant) for contestant in contestants] for _ in range(settings.turns)]
        medians = [np.median([(run.processor, run.wall) for run in runs], axis=0) for runs in zip(*turns, strict=True)]
        for contestant, last, seconds in zip(contestants, turns[-1], medians, strict=True):
            ratios = [ratio(*pair) for pair in zip(seconds, medians[0], strict=True)]
            cost = [f"{value:.3g}" for value in seconds / settings.seeds]
            off = [f"{value:.4f}" for value in last.deviations]
            steps = f"{last.steps / settings.seeds:g}"
            yield ", ".join(map(str, size)), contestant.who, contestant.setting, steps, *cost, *ratios, *off


def about(settings: Settings) -> str:
    """What the columns are."""
    finest, times = 2.0**-settings.halvings, ", ".join(f"{t:g}" for t in TIMES)
    return (
        f"α = 1, float32, until all are satisfied or t = {TIMES[-1]:g}, on one thread, without observations; means of "
        f"{counted(settings.seeds, 'seed')} of networks and data. Differences from rotation steps of "
        f"Δt={finest / 10:g} in float64: the largest of t = {times}, root mean squares over the seeds. (a) and (a′) "
        f"take the largest of Δt = 1, ½, … {finest:g} with which no difference is larger than that of ours, or of one "
        f"example; (d) the largest of these as its shortest step, and of {', '.join(f'{b:g}' for b in BOUNDS)} as its "
        "bound. If none will do, it is the smallest." + compiled_note(settings.device)
    )


COLUMNS = (
    *("N, M, d", "who", "setting", "steps", "processor s", "wall s", "processor/ours", "wall/ours"),
    *("Δ train error", "Δ test error", "Δγ"),
)
TABLE = Table("Small problems", about, COLUMNS, rows, one_thread=True)
