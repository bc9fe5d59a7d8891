"""The table of whole ways: runs to a time, or until all examples are satisfied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch

from benchmark.adaptive_euler import BOUND, AdaptiveEuler
from benchmark.following import deviations, followed
from benchmark.lightning_loop import lightning_loop
from benchmark.our_way import Errors, OurWay, expected_on, fixed_steps
from benchmark.page import Table, ratio
from benchmark.plain import autograd_loop, compiled_note, compiles, fits
from benchmark.problems import Observer, Problem, make_problem
from benchmark.settings import N_TEST, D, Settings, Way
from benchmark.timing import Contestant, block_size, interleaved


class Cost(NamedTuple):
    """A row of the table; ``unfinished`` if it would have cost more, ``observed`` if its errors are known."""

    who: str
    ended: str
    steps: int
    gradients: float
    seconds: float
    observed: Errors | None = None
    unfinished: bool = False

    def cells(self, way: Way, ours: float, expected: Errors | None) -> Sequence[object]:
        """The row, beside the seconds of ours."""
        more = "> " if self.unfinished else ""
        errors = ["–", "–"]
        if expected and self.observed and any(t in expected for t in self.observed):
            errors = [f"{value:.4f}" for value in deviations(self.observed, expected)[0, :2]]
        gradients = f"{self.gradients:.1f}".removesuffix(".0")
        numbers = (f"{self.steps}", gradients, f"{self.seconds:.3g}", ratio(self.seconds, ours))
        return way, self.who, self.ended, *(more + number for number in numbers), *errors


def adaptive(way: Way, problem: Problem, patience: float) -> Cost:
    """(d), whose steps are at least as long as those of (a)."""
    flow = AdaptiveEuler(problem, way.alpha, way.dt, shortest=way.dt, patience=patience)
    observed = followed(flow, Observer(problem, way.alpha), way.times).observed
    ended = "all_satisfied" if flow.loss == 0.0 else "t_max" if flow.t >= way.times[-1] else "stopped"
    cost = (flow.n_steps, flow.n_gradients, flow.seconds)
    return Cost("(d)", f"{ended} at {flow.t:.4g}", *cost, observed, unfinished=ended == "stopped")


def costs(way: Way, settings: Settings) -> list[Cost]:
    """Of all contestants, ours first."""
    device = settings.device
    problem = make_problem(way.N, way.M, device=device, dtype=way.dtype, n_test=N_TEST)
    ours = OurWay(way, problem)
    fit = fits(way.N, way.M, device)
    makers: dict[str, Callable[..., Contestant]] = {"(a)": partial(autograd_loop, problem, way.alpha)} if fit else {}
    if fit and compiles(device):
        makers["(a′)"] = partial(autograd_loop, problem, way.alpha, compiled=True)
    if fit:
        makers["(b)"] = partial(lightning_loop, problem, way.alpha)
    if way.dtype is torch.float64:
        makers["(a) in float32"] = partial(autograd_loop, make_problem(way.N, way.M, device=device), way.alpha)
    loops = {name: make() for name, make in makers.items()}
    blocks = {name: max(block_size(run), 3) for name, run in loops.items()} | {"ours": 1}
    seconds = interleaved({"ours": ours, **loops}, blocks, 3.0 * settings.budget)
    flow = ours.flow
    end = f"{flow.stop_reason or 't_max'} at {flow.t:.4g}"
    found = [Cost("ours", end, flow.n_steps, flow.n_evaluations, seconds["ours"], ours.observed)]
    if not fit:
        return found
    n_steps = fixed_steps(way, flow.t, device)
    for name, make in makers.items():
        total = make(dt=way.dt)(n_steps) if settings.full else n_steps * seconds[name]
        found.append(Cost(name, f"t={n_steps * way.dt:.4g}", n_steps, n_steps, total))
    return [*found, adaptive(way, problem, settings.patience_of_ways)]


def rows(settings: Settings) -> Iterator[Sequence[object]]:
    """Every way of every contestant."""
    for way in settings.ways:
        found = costs(way, settings)
        ours = found[0]
        expected = expected_on(way, list(ours.observed or {}), settings.device) if settings.reference else None
        for cost in found:
            yield cost.cells(way, ours.seconds, expected)


def about(settings: Settings) -> str:
    """What the columns are."""
    how = "run all the way" if settings.full else "number of steps × seconds of a step at the initial nodes"
    stopped = "" if settings.full else f"; after {settings.patience:g} s it is stopped, and its row shows >"
    return (
        f"With d = {D}. Ours with its observations, all others without; (a), (a′), (b): {how}. (d) is run, with a "
        f"bound of {BOUND:g} on the change of the gradient and steps of at least (a)'s Δt{stopped}. With --reference: "
        "differences of training and test error from rotation steps of Δt/10 in float64, the largest of all "
        "observations. Where autograd's arrays do not fit, ours is alone." + compiled_note(settings.device)
    )


TABLE = Table(
    title="Whole ways",
    about=about,
    columns=("way", "who", "ended", "steps", "gradients", "s", "s/ours", "Δ train error", "Δ test error"),
    rows=rows,
)
