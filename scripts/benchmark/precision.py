"""The table of precisions: what a gradient costs in each, and how far from float64 it and a run are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from benchmark.page import Table
from benchmark.problems import Problem, make_problem
from benchmark.settings import N_TEST, D, Settings, name_of
from benchmark.timing import block_size, interleaved, repeated
from mfnet.flow import Averaged, Evaluator, StoppingRules
from mfnet.flow.fused import Fused, fuses
from mfnet.flow.streamed import Streamed

PRECISIONS = ("float32", "tf32", "bf16")

#: α and t of the runs that are compared.
RUNS = ((1.0, 60.0), (1e3, 1e3))

#: Seconds after which a run is stopped where it is.
PATIENCE = 10.0


def evaluators(problem: Problem) -> list[Evaluator]:
    """Those for large problems."""
    kinds: list[type[Evaluator]] = [Streamed]
    if fuses(problem.networks, problem.x):
        kinds.append(Fused)
    alpha = torch.ones(1, dtype=torch.float64)
    x, y = (part[None] for part in problem.train[0])
    return [kind(problem.networks, problem.loss, alpha, problem.networks.initial_nodes, x, y) for kind in kinds]


@torch.no_grad()
def gradient(evaluator: Evaluator, problem: Problem) -> tuple[Tensor, Tensor]:
    """Rates and outputs under forces of 1."""
    nodes, force = problem.networks.nodes, torch.ones_like(evaluator.y)
    rates, _ = evaluator.rates_and_margins(nodes, force, [force.shape[1]])
    return rates, evaluator.outputs(nodes)


@torch.no_grad()
def end_of(problem: Problem, alpha: float, t: float) -> tuple[Tensor, Tensor] | None:
    """Displacement of the weights and margins of the test examples after a run; None if it takes too long."""
    problem.start()
    flow = Averaged(problem.objective(alpha))
    flow.rules = StoppingRules(wall_seconds=PATIENCE)
    flow.step(until=t)
    moved = problem.networks.nodes.w - problem.networks.initial_nodes.w
    return (moved, problem.objective(alpha, test=True).margins()) if flow.t == t else None


def error(values: Tensor, expected: Tensor) -> float:
    """Relative, as a root mean square."""
    return float((values.double() - expected).norm() / expected.norm())


def rows(settings: Settings) -> Iterator[Sequence[object]]:
    """Every precision, by every evaluator for large problems."""
    (N, M), (n, m) = settings.precision_sizes
    device = settings.device
    exact = make_problem(n, m, device=device, dtype=torch.float64, n_test=N_TEST)
    exact_gradient = gradient(evaluators(exact)[0], exact)
    exact_ends = [end_of(exact, *run) for run in RUNS]
    times = seconds(N, M, settings)
    for precision in PRECISIONS:
        problem = make_problem(n, m, device=device, n_test=N_TEST, precision=precision)
        for evaluator in evaluators(problem):
            cells = [f"{error(*both):.1e}" for both in zip(gradient(evaluator, problem), exact_gradient, strict=True)]
            for run, there in zip(RUNS, exact_ends, strict=True):
                found = end_of(problem, *run) if evaluator.name == evaluators(problem)[-1].name else None
                if found is None or there is None:
                    cells += ["–", "–"]
                    continue
                margins = (found[1].double() - there[1]).square().mean().sqrt()
                cells += [f"{float(margins):.1e}", f"{error(found[0], there[0]):.1e}"]
            yield precision, evaluator.name, f"{1e3 * times[precision, evaluator.name]:.3g}", *cells


def seconds(N: int, M: int, settings: Settings) -> dict[tuple[str, str], float]:
    """Of a gradient, in each precision, by each evaluator."""
    found = {}
    for precision in PRECISIONS:
        problem = make_problem(N, M, device=settings.device, precision=precision)
        runs = {
            each.name: repeated(lambda each=each, own=problem: gradient_alone(each, own), settings.device)
            for each in evaluators(problem)
        }
        taken = interleaved(runs, {name: block_size(run) for name, run in runs.items()}, settings.budget)
        found |= {(precision, name): value for name, value in taken.items()}
    return found


@torch.no_grad()
def gradient_alone(evaluator: Evaluator, problem: Problem) -> None:
    """Rates and margins under forces of 1."""
    evaluator.rates_and_margins(problem.networks.nodes, torch.ones_like(evaluator.y), [evaluator.y.shape[1]])


def about(settings: Settings) -> str:
    """What the columns are."""
    (N, M), (n, m) = settings.precision_sizes
    runs = " and ".join(f"α = {alpha:g} to t = {t:g}" for alpha, t in RUNS)
    only = " A CPU only rounds, so that the effect can be seen." if settings.device.type == "cpu" else ""
    return (
        f"Milliseconds of a gradient with N = {N:g}, M = {M:g}, d = {D}. Errors against {name_of(torch.float64)}, with "
        f"N = {n:g}, M = {m:g}: relative of rates and outputs at the initial nodes; then after runs with {runs}, "
        "by the evaluator that their size calls for, root mean square error of a test margin and relative error of the "
        f"displacement.{only}"
    )


TABLE = Table(
    title="Reduced precision",
    about=about,
    columns=(
        *("precision", "evaluator", "ms", "rates", "outputs"),
        *(f"{what}, α = {alpha:g}" for alpha, _ in RUNS for what in ("margins", "displacement")),
    ),
    rows=rows,
)
