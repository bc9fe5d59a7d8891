"""The table of single gradients."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import torch

from benchmark.lightning_loop import lightning_loop
from benchmark.page import Table, ratio
from benchmark.plain import autograd_loop, compiled_note, compiles, fits
from benchmark.problems import Problem, make_problem
from benchmark.settings import D, Settings
from benchmark.timing import Contestant, block_size, interleaved, repeated
from mfnet.compute.products import exact_products, product
from mfnet.network.networks import TILE_ELEMENTS


def closed_form(problem: Problem, alpha: float = 1.0) -> Contestant:
    """Ours: rates and margins of the evaluator that the size of the problem chooses."""
    (evaluator,) = problem.objective(alpha).evaluators
    step = partial(evaluator.present_rates_and_margins, problem.networks.nodes)
    contestant = repeated(step, problem.device)

    @torch.no_grad()
    def run(n: int) -> float:
        with evaluator.threads():
            return contestant(n)

    return run


def products_alone(problem: Problem, *, fastest: bool = False) -> Contestant:
    """(c), or (c′), in the tiles of a pass over the examples."""
    networks, x = problem.networks, problem.x
    a0, w0 = (values[0] for values in networks.initial_nodes)
    node_tiles = [tile.which for tile in networks.node_tiles(a0, w0)]
    tiles = list(itertools.product(node_tiles, networks.row_tiles(slice(0, len(x)))))
    b, buffer = torch.empty_like(w0), x.new_empty(TILE_ELEMENTS[x.device.type])

    def step() -> None:
        for nodes, rows in tiles:
            w, part = w0[nodes], x[rows]
            if fastest:
                product(product(w, part), part.T)
                continue
            z = buffer[: len(part) * len(w)].view(len(part), len(w))
            torch.mm(part, w.T, out=z)
            torch.mm(z.T, part, out=b[nodes])

    return repeated(step, x.device)


def peak_rate(device: torch.device) -> float:
    """Operations a second of torch's product of square matrices of float32."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(n, n, generator=torch.Generator().manual_seed(i)).to(device) for i in range(2))
    with exact_products():
        run = repeated(lambda: torch.mm(a, b), device)
        run(2)
        return 2.0 * n**3 / min(run(3) / 3 for _ in range(3))


def contestants(problem: Problem) -> dict[str, Contestant]:
    """All that fit."""
    found = {
        "ours": closed_form(problem),
        "c": products_alone(problem),
        "c′": products_alone(problem, fastest=True),
    }
    if fits(len(problem.x), problem.networks.M, problem.device):
        found |= {"a": autograd_loop(problem), "b": lightning_loop(problem)}
        if compiles(problem.device):
            found["a′"] = autograd_loop(problem, compiled=True)
    return found


def rows(settings: Settings) -> Iterator[Sequence[object]]:
    """One gradient, at the initial nodes, where every example has a force."""
    peak = peak_rate(settings.device)
    for N, M in settings.sizes:
        problem = make_problem(N, M, device=settings.device)
        (evaluator,) = problem.objective(1.0).evaluators
        runs = contestants(problem)
        blocks = {name: block_size(run) for name, run in runs.items()}
        s = interleaved(runs, blocks, settings.budget)
        against = [ratio(s.get(name), s["ours"]) for name in ("a", "a′", "b")]
        limits = [ratio(s["ours"], s[name]) for name in ("c", "c′")]
        rate = 4.0 * N * M * D / s["ours"]
        share = f"{rate / 1e12:.3g}", f"{rate / peak:.2f}"
        yield f"{N:g}", f"{M:g}", evaluator.name, f"{1e3 * s['ours']:.3g}", *against, *limits, *share


def about(settings: Settings) -> str:
    """What the columns are."""
    return (
        f"In float32 with d = {D}, at the initial nodes, all examples forced; medians of contestants that took turns. "
        "The last columns count 4NMd operations; the peak is torch's product of two large square matrices."
        + compiled_note(settings.device)
    )


TABLE = Table(
    title="A single gradient",
    about=about,
    columns=(
        "N",
        "M",
        "evaluator",
        "ours, ms",
        "(a)/ours",
        "(a′)/ours",
        "(b)/ours",
        "ours/(c)",
        "ours/(c′)",
        "TFLOP/s",
        "of the peak",
    ),
    rows=rows,
)
