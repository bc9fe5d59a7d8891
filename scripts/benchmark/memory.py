"""The table of peak memory."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

import psutil
import torch

from benchmark.page import Table
from benchmark.plain import autograd_loop, fits
from benchmark.problems import Problem, make_problem
from benchmark.settings import Settings
from mfnet.flow import Averaged


@torch.no_grad()
def one_gradient(problem: Problem) -> None:
    """Ours, once."""
    (evaluator,) = problem.objective(1.0).evaluators
    evaluator.present_rates_and_margins(problem.networks.nodes)


#: What a process does whose memory is measured.
MEASURED: dict[str, Callable[[Problem], object]] = {
    "gradient": one_gradient,
    "flow": lambda problem: Averaged(problem.objective(1.0), dt_first=1.0, dt_max=1.0).step(until=3.0),
    "a": lambda problem: autograd_loop(problem)(1),
}


def peak(name: str, N: int, M: int, kind: str, threads: int) -> float:
    """Largest number of bytes over the data and the parameters; in a process that has done nothing else."""
    torch.set_num_threads(threads)
    device = torch.device(kind)
    problem = make_problem(N, M, device=device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        MEASURED[name](problem)
        return torch.cuda.max_memory_allocated(device) - before
    before = psutil.Process().memory_info().rss
    MEASURED[name](problem)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def measured(N: int, M: int, settings: Settings) -> list[str]:
    """What is measured of a size."""
    return [name for name in MEASURED if name != "a" or fits(N, M, settings.device)]


def cells(N: int, M: int, peaks: dict[str, float]) -> Sequence[object]:
    """A row."""
    return f"{N:g}", f"{M:g}", *(f"{peaks[name] / 2**20:.0f}" if name in peaks else "–" for name in MEASURED)


def rows(settings: Settings) -> Iterator[Sequence[object]]:
    """Peak memory, each case in its own process."""
    if settings.device.type == "cuda":  # which says itself what was used
        for N, M in settings.memory_sizes:
            yield cells(N, M, {name: peak(name, N, M, "cuda", 1) for name in measured(N, M, settings)})
        return
    context = multiprocessing.get_context("forkserver")  # a process keeps its parent's high-water mark over an exec
    context.set_forkserver_preload(["mfnet.training.build"])
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as processes:
        for N, M in settings.memory_sizes:
            where = str(settings.device), torch.get_num_threads()
            names = measured(N, M, settings)
            yield cells(N, M, {name: processes.submit(peak, name, N, M, *where).result() for name in names})


TABLE = Table(
    title="Peak memory",
    about=lambda settings: "In float32, MiB over the data and the parameters.",
    columns=("N", "M", "one gradient", "3 steps of the flow", "a step of (a)"),
    rows=rows,
)
