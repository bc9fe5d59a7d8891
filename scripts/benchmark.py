"""How fast mfnet is, against what one would write without it: ``python scripts/benchmark.py``.

Contestants, all on one full batch of normal inputs with d = 100, the linear hinge and ReLU nodes:

- ours: `mfnet.drive.drive` for one gradient, `mfnet.flow.Averaged` for a whole way;
- (a) an autograd loop in plain PyTorch with `torch.optim.SGD`;
- (b) the same as a plain `LightningModule` with automatic optimisation;
- (c) the two matrix products of a gradient alone, by `torch.mm`, in tiles that stay in the cache;
- (c′) the same by `mfnet.products.product`, the fastest product there is here: the limit.

``--only ensemble``: 32 networks of M = 100 nodes on N = 1000 examples each in d = 20, trained side by side
(`mfnet.ensemble.EnsembleAveraged`), against as many flows one after the other in one process, on one thread.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import multiprocessing
import platform
import resource
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import lightning
import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mfnet.data import SphericalData
from mfnet.drive import Batch, drive, margins_of
from mfnet.ensemble import Batches, EnsembleAveraged, Replicas
from mfnet.flow import Averaged, Euler, Flow, Objective, Rotation, StoppingRules
from mfnet.losses import Hinge
from mfnet.network import TILE_ELEMENTS, MeanFieldNetwork
from mfnet.observables import error_count
from mfnet.products import product
from mfnet.schedule import log_spaced
from mfnet.seeding import generator

D, SEED, N_TEST = 100, 0, 10_000

#: Seconds that a block of steps of one contestant takes at least, if 100 steps do.
BLOCK = 0.1

#: N × M arrays that autograd holds at once, about; (a) and (b) are left out where these do not fit.
COPIES = 4

#: (N, M) whose memory is measured.
MEMORY_SIZES = ((10_000, 400), (10_000, 10_000), (10_000, 100_000))

#: Runs for a number of steps and returns the seconds they took.
Contestant = Callable[[int], float]


class Problem(NamedTuple):
    """A network at its initial nodes, training examples and test examples."""

    network: MeanFieldNetwork
    train: Batch
    test: Batch


@dataclass(frozen=True)
class Way:
    """A run: to the time ``times[-1]``, or until all are satisfied if it is ``to_satisfied``; Δt is that of (a)."""

    alpha: float
    dt: float
    N: int
    M: int
    times: tuple[float, ...]
    to_satisfied: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """The default of ``mfnet train``."""
        return torch.float64 if self.alpha >= 100.0 else torch.float32

    def __str__(self) -> str:
        end = "all satisfied" if self.to_satisfied else f"t={self.times[-1]:g}"
        return f"α={self.alpha:g} to {end}, N={self.N:g}, M={self.M}, Δt={self.dt:g}"


TIMES = (3.0, 10.0, 20.0, 30.0, 60.0, 100.0, 150.0, 300.0, 600.0, 1e3, 2e3, 4e3, 1e4, 2e4, 4e4, 1e5)
WAYS = (
    Way(1.0, 1.0, 10_000, 400, TIMES, to_satisfied=True),
    Way(1e-3, 1e-3, 10_000, 400, (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)),
    Way(1e3, 10.0, 10_000, 400, (30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4)),
    Way(1.0, 1.0, 100_000, 400, tuple(t for t in TIMES if t <= 4e3)),
)
QUICK_WAYS = (Way(1.0, 1.0, 1000, 100, TIMES, to_satisfied=True),)


class PlainNetwork(nn.Module):
    """The network as one would write it in PyTorch."""

    def __init__(self, network: MeanFieldNetwork):
        super().__init__()
        self.a, self.w = nn.Parameter(network.a0.clone()), nn.Parameter(network.w0.clone())

    def forward(self, x: Tensor) -> Tensor:
        """f(x)."""
        return torch.relu(x @ self.w.T / math.sqrt(x.shape[1])) @ self.a / len(self.a)

    def loss(self, batch: Batch, alpha: float) -> Tensor:
        """L, eq. 8."""
        x, y, f0 = batch
        return torch.relu(1.0 - alpha * y * (self(x) - f0)).mean() / alpha**2


class PlainModule(lightning.LightningModule):
    """`PlainNetwork` with automatic optimisation; ``seconds`` is the time from the start to the end of training."""

    def __init__(self, network: MeanFieldNetwork, alpha: float, dt: float):
        super().__init__()
        self.plain, self.alpha, self.dt = PlainNetwork(network), alpha, dt
        self.seconds = 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.plain.parameters(), lr=len(self.plain.a) * self.dt)

    def training_step(self, batch: Batch) -> Tensor:
        return self.plain.loss(batch, self.alpha)

    def on_train_start(self) -> None:
        self.seconds = -_now(self.device)

    def on_train_end(self) -> None:
        self.seconds += _now(self.device)


def _now(device: torch.device) -> float:
    """Seconds of a clock, when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def make_problem(N: int, M: int, device: torch.device, dtype: torch.dtype = torch.float32, n_test: int = 0) -> Problem:
    """The same for the same sizes, but for rounding."""
    task = SphericalData(N, n_test, D, SEED, np.zeros(1)).draw()
    network = MeanFieldNetwork(M, D, generator=generator(SEED, "network"), dtype=dtype).to(device)
    train, test = (
        Batch(x, y, network.output(x, initial=True))
        for x, y in (examples.to(device, dtype) for examples in (task.train, task.test))
    )
    return Problem(network, train, test)


def repeated(step: Callable[[], object], device: torch.device) -> Contestant:
    """The contestant that calls ``step``."""

    def run(n: int) -> float:
        start = _now(device)
        for _ in range(n):
            step()
        return _now(device) - start

    return run


def closed_form(problem: Problem, alpha: float = 1.0) -> Contestant:
    """Ours."""
    return repeated(lambda: drive(problem.network, problem.train, Hinge(), alpha), problem.train.x.device)


def autograd_loop(problem: Problem, alpha: float = 1.0, dt: float = 0.0) -> Contestant:
    """(a); by default its steps cost what they do, but lead nowhere."""
    plain = PlainNetwork(problem.network)
    optimizer = torch.optim.SGD(plain.parameters(), lr=len(plain.a) * dt)

    def step() -> None:
        optimizer.zero_grad()
        plain.loss(problem.train, alpha).backward()
        optimizer.step()

    return repeated(step, problem.train.x.device)


def lightning_loop(problem: Problem, alpha: float = 1.0, dt: float = 0.0) -> Contestant:
    """(b); the start and the end of `Trainer.fit` are not counted, all that it does for a step is."""
    module = PlainModule(problem.network, alpha, dt)

    def run(n: int) -> float:
        trainer = lightning.Trainer(
            accelerator="gpu" if problem.train.x.is_cuda else "cpu",
            devices=1,
            precision="64-true" if problem.train.x.dtype is torch.float64 else "32-true",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        steps: Any = [problem.train] * n
        trainer.fit(module, DataLoader(steps, batch_size=None, generator=generator(SEED, "loader")))
        return module.seconds

    return run


def products_alone(problem: Problem, *, fastest: bool = False) -> Contestant:
    """(c), or (c′), in the tiles of the drive."""
    network, x = problem.network, problem.train.x
    node_tiles = [nodes.which for nodes in network.node_tiles()]
    tiles = list(itertools.product(node_tiles, network.row_tiles(slice(0, len(x)))))
    b, buffer = torch.empty_like(network.w0), x.new_empty(TILE_ELEMENTS[x.device.type])

    def step() -> None:
        for nodes, rows in tiles:
            w, part = network.w0[nodes], x[rows]
            if fastest:
                product(product(w, part), part.T)
                continue
            z = buffer[: len(part) * len(w)].view(len(part), len(w))
            torch.mm(part, w.T, out=z)
            torch.mm(z.T, part, out=b[nodes])

    return repeated(step, x.device)


def block_size(run: Contestant) -> int:
    """Steps of a contestant that take `BLOCK`; warms it up."""
    run(1)
    return min(max(round(BLOCK / run(1)), 1), 100)


def interleaved(contestants: Mapping[str, Contestant], blocks: Mapping[str, int], budget: float) -> dict[str, float]:
    """Median seconds of a step of contestants that take 3 turns, and up to 15 within ``budget`` seconds."""
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    start = time.perf_counter()
    for turn in range(15):
        if turn >= 3 and time.perf_counter() - start > budget:
            break
        for name, run in contestants.items():
            samples[name].append(run(blocks[name]) / blocks[name])
    return {name: median(values) for name, values in samples.items()}


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints rows as they come."""
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
    print()


def ratio(over: float | None, under: float | None) -> str:
    """A quotient, or a dash."""
    return "–" if over is None or under is None else f"{over / under:.2f}"


def fits(N: int, M: int, device: torch.device) -> bool:
    """Whether autograd's float32 arrays fit the memory: half of the GPU's, or 6 GiB."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2 > COPIES * 4 * N * M
    return N * M <= 6 * 2**30 / (4 * COPIES)


def gradient_rows(args: argparse.Namespace) -> Iterator[Sequence[object]]:
    """One gradient, at the initial nodes, where every example has a force."""
    for N, M in itertools.product(args.N, args.M):
        problem = make_problem(N, M, args.device)
        contestants = {
            "ours": closed_form(problem),
            "c": products_alone(problem),
            "c′": products_alone(problem, fastest=True),
        }
        if fits(N, M, args.device):
            contestants |= {"a": autograd_loop(problem), "b": lightning_loop(problem)}
        blocks = {name: block_size(run) for name, run in contestants.items()}
        s = interleaved(contestants, blocks, args.budget)
        against = [ratio(s.get(name), s["ours"]) for name in ("a", "b")]
        limits = [ratio(s["ours"], s[name]) for name in ("c", "c′")]
        yield f"{N:g}", f"{M:g}", f"{1e3 * s['ours']:.3g}", *against, *limits


def objective_of(problem: Problem, alpha: float) -> Objective:
    """The linear hinge on the training examples."""
    return Objective(problem.network, Hinge(), alpha, lambda _: problem.train, fixed=True)


def observe(flow: Flow, problem: Problem, times: Iterable[float]) -> dict[float, np.ndarray]:
    """Follows the flow; its train and test error at each of the times, and where it stops."""
    errors = {}
    for t in times:
        flow.step(until=t)
        margins = flow.margins(), margins_of(problem.network, problem.test, flow.objective.alpha)
        errors[flow.t] = np.array([float(error_count(m)) / len(m) for m in margins])
        if flow.stop_reason is not None:
            break
    return errors


class OurWay:
    """Ours, from the beginning each time; keeps the last run."""

    flow: Averaged
    errors: dict[float, np.ndarray]

    def __init__(self, way: Way, problem: Problem):
        self.way, self.problem = way, problem

    @torch.no_grad()
    def __call__(self, n: int) -> float:
        network, device = self.problem.network, self.problem.train.x.device
        start = _now(device)
        for _ in range(n):
            network.a.copy_(network.a0)
            network.w.copy_(network.w0)
            self.flow = Averaged(objective_of(self.problem, self.way.alpha))
            self.errors = observe(self.flow, self.problem, self.way.times)
        return _now(device) - start


def fixed_steps(way: Way, flow: Flow, device: torch.device) -> int:
    """Steps of (a): to where ``flow`` ended, or until all are satisfied; its trajectory is that of `Euler`."""
    if not way.to_satisfied:
        return math.ceil(flow.t / way.dt - 1e-9)
    euler = Euler(objective_of(make_problem(way.N, way.M, device, way.dtype), way.alpha), way.dt)
    euler.step(until=way.times[-1])
    return euler.n_steps


def largest_differences(way: Way, errors: dict[float, np.ndarray], device: torch.device) -> list[str]:
    """|train| and |test error difference| to rotation steps of Δt/10 in float64, the largest of all observations."""
    problem = make_problem(way.N, way.M, device, torch.float64, N_TEST)
    reference = Rotation(objective_of(problem, way.alpha), way.dt / 10.0)
    reference.rules = StoppingRules(satisfied=math.inf)
    expected = observe(reference, problem, errors)
    return [f"{value:.4f}" for value in np.max([abs(expected[t] - errors[t]) for t in errors], axis=0)]


def way_rows(args: argparse.Namespace) -> Iterator[Sequence[object]]:
    """Whole runs."""
    for way in args.ways:
        problem = make_problem(way.N, way.M, args.device, way.dtype, N_TEST)
        ours = OurWay(way, problem)
        makers = {"a": partial(autograd_loop, problem, way.alpha), "b": partial(lightning_loop, problem, way.alpha)}
        if way.dtype is torch.float64:
            makers["a32"] = partial(autograd_loop, make_problem(way.N, way.M, args.device), way.alpha)
        loops = {name: make() for name, make in makers.items()}
        blocks = {name: max(block_size(run), 3) for name, run in loops.items()} | {"ours": 1}
        seconds = interleaved({"ours": ours, **loops}, blocks, 3.0 * args.budget)
        n_steps = fixed_steps(way, ours.flow, args.device)
        for name, make in makers.items():
            seconds[name] = make(way.dt)(n_steps) if args.full else n_steps * seconds[name]
        differences = largest_differences(way, ours.errors, args.device) if args.reference else ["–", "–"]
        end = f"{ours.flow.stop_reason or 't_max'} at {ours.flow.t:.4g}"
        cost = (ours.flow.n_steps, f"{ours.flow.n_evaluations:.1f}", f"{seconds['ours']:.3g}", n_steps)
        against = [f"{seconds[name]:.3g}" for name in ("a", "b")]
        ratios = [ratio(seconds.get(name), seconds["ours"]) for name in ("a", "b", "a32")]
        yield way, str(way.dtype).removeprefix("torch."), end, *cost, *against, *ratios, *differences


class EnsembleCase:
    """Replicas of `mfnet train M=100 N=1000 d=20`, observed at its times; side by side, or one after the other."""

    def __init__(self, dtype: torch.dtype, R: int, device: torch.device):
        self.times = log_spaced(20.0)[1:]
        self.problems = []
        for seed in range(R):
            x, y = SphericalData(1000, 0, 20, seed, np.zeros(1)).draw().train.to(device, dtype)
            network = MeanFieldNetwork(100, 20, generator=generator(seed, "network"), dtype=dtype).to(device)
            self.problems.append((network, Batch(x, y, network.output(x, initial=True))))
        self.device = device

    def side_by_side(self) -> EnsembleAveraged:
        """All replicas, trained together."""
        networks, batches = zip(*self.problems, strict=True)
        whole = Batches(*map(torch.stack, zip(*batches, strict=True)))
        scales = torch.ones(len(networks), dtype=torch.float64)
        flow = EnsembleAveraged(Replicas(networks), Hinge(), scales, lambda: whole)
        for t in self.times:
            flow.step(until=t)
        return flow

    @torch.no_grad()
    def start(self) -> None:
        """Brings all networks, which single flows have moved, back to their initial nodes."""
        for network, _ in self.problems:
            network.a.copy_(network.a0)
            network.w.copy_(network.w0)

    def one_after_the_other(self) -> list[Averaged]:
        """The same as single flows."""
        flows = []
        for network, batch in self.problems:
            flow = Averaged(objective_of(Problem(network, batch, batch), 1.0))
            for t in self.times:
                flow.step(until=t)
                if flow.stop_reason is not None:
                    break
            flows.append(flow)
        return flows

    def row(self, turns: int) -> Sequence[object]:
        """Median wall and processor seconds of both, and the largest difference of their parameters."""
        seconds: dict[str, list[tuple[float, float]]] = {"together": [], "alone": []}
        for _ in range(turns):
            for name, run in (("together", self.side_by_side), ("alone", self.one_after_the_other)):
                self.start()
                start = _now(self.device), time.process_time()
                result = run()
                seconds[name].append((_now(self.device) - start[0], time.process_time() - start[1]))
                if isinstance(result, EnsembleAveraged):
                    ensemble = result
                else:
                    flows = result
        (wall, cpu), (wall_alone, cpu_alone) = (np.median(values, axis=0) for values in seconds.values())
        differences, equal = [], 0
        for r, flow in enumerate(flows):
            network = flow.objective.network
            moved = (network.w - network.w0).norm()
            differences.append(float((ensemble.replicas.w[r] - network.w).norm().detach() / moved.detach()))
            equal += ensemble.stop_reasons[r] == flow.stop_reason and int(ensemble.steps[r]) == flow.n_steps
        cells = (f"{wall:.2f}", f"{wall_alone:.2f}", ratio(wall_alone, wall), ratio(cpu_alone, cpu))
        return *cells, f"{equal} of {len(flows)}", f"{median(differences):.1e}", f"{max(differences):.1e}"


def ensemble_rows(args: argparse.Namespace) -> Iterator[Sequence[object]]:
    """An ensemble in both types."""
    for dtype in (torch.float32, torch.float64):
        case = EnsembleCase(dtype, 4 if args.quick else 32, args.device)
        yield len(case.problems), str(dtype).removeprefix("torch."), *case.row(1 if args.quick else 3)


#: What a process does whose memory is measured.
MEASURED: dict[str, Callable[[Problem], object]] = {
    "drive": lambda problem: closed_form(problem)(1),
    "flow": lambda problem: Averaged(objective_of(problem, 1.0), dt_first=1.0, dt_max=1.0).step(until=3.0),
    "a": lambda problem: autograd_loop(problem)(1),
}


def peak(name: str, N: int, M: int, kind: str, threads: int) -> float:
    """Largest number of bytes over the data and the parameters; in a process that has done nothing else."""
    torch.set_num_threads(threads)
    device = torch.device(kind)
    problem = make_problem(N, M, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        MEASURED[name](problem)
        return torch.cuda.max_memory_allocated(device) - before
    before = psutil.Process().memory_info().rss
    MEASURED[name](problem)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def memory_rows(args: argparse.Namespace) -> Iterator[Sequence[object]]:
    """Peak memory, each case in its own process."""
    context = multiprocessing.get_context("forkserver")  # a process keeps its parent's high-water mark over an exec
    context.set_forkserver_preload(["mfnet.data", "mfnet.flow"])
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as processes:
        for N, M in args.memory_sizes:
            names = [name for name in MEASURED if name != "a" or fits(N, M, args.device)]
            where = str(args.device), args.threads
            peaks = [processes.submit(peak, name, N, M, *where).result() for name in names]
            cells = [f"{value / 2**20:.0f}" for value in peaks] + ["–"] * (len(MEASURED) - len(names))
            yield f"{N:g}", f"{M:g}", *cells


def machine(device: torch.device) -> str:
    """What this was measured on."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name, cores = names[0] if names else platform.processor(), psutil.cpu_count(logical=False)
    return f"{name}, {cores} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, and what follows from them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", choices=("gradient", "way", "memory", "ensemble"), help="one table instead of all")
    parser.add_argument("--quick", action="store_true", help="one small case a table, on one thread, in seconds")
    parser.add_argument("--threads", type=int, help="of the CPU; torch's default, which is slow beside other work")
    parser.add_argument("--N", type=int, nargs="+", help="examples of the gradients; only the ways with so many")
    parser.add_argument("--M", type=int, nargs="+", help="nodes of the gradients")
    parser.add_argument("--full", action="store_true", help="run (a) and (b) all the way (hours)")
    parser.add_argument("--reference", action="store_true", help="compare errors with a flow ten times finer (minutes)")
    args = parser.parse_args(argv)
    args.ways = [way for way in (QUICK_WAYS if args.quick else WAYS) if args.N is None or way.N in args.N]
    args.memory_sizes = ((1000, 100),) if args.quick else MEMORY_SIZES
    args.N = args.N or ([1000] if args.quick else [1000, 10_000, 100_000])
    args.M = args.M or ([100] if args.quick else [100, 400, 10_000])
    args.threads = args.threads or (1 if args.quick else torch.get_num_threads())
    args.budget = 1.0 if args.quick else 20.0
    args.device = torch.device(args.device)
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    args = parsed(argv)
    torch.set_num_threads(args.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    print(f"{machine(args.device)}; d = {D}; medians of contestants that took turns.\n")
    if args.only in (None, "gradient"):
        print("A single gradient in float32, all examples forced.\n")
        table(("N", "M", "ours, ms", "(a)/ours", "(b)/ours", "ours/(c)", "ours/(c′)"), gradient_rows(args))
    if args.only in (None, "way"):
        how = "run all the way" if args.full else "number of steps × time of a step at the initial nodes"
        print(f"The whole way; ours with its observations, (a) and (b) without: {how}.\n")
        cost = ("ended", "steps", "drives", "ours, s", "steps of (a)", "(a), s", "(b), s", "(a)/ours", "(b)/ours")
        table(("way", "dtype", *cost, "(a) float32/ours", "Δ train error", "Δ test error"), way_rows(args))
    if args.only in (None, "memory"):
        print("Peak memory of float32 in MiB, over the data and the parameters.\n")
        table(("N", "M", "a drive", "3 steps of the flow", "a step of (a)"), memory_rows(args))
    if args.only in (None, "ensemble"):
        torch.set_num_threads(1)  # many threads are slower for single flows of this size
        print("An ensemble (M = 100, N = 1000, d = 20, α = 1, to t = 500) against its single flows, on one thread.\n")
        ways = ("together, s", "one after the other, s", "ratio", "ratio of processor time")
        table(("R", "dtype", *ways, "same end and steps", "median |Δw|", "largest |Δw|"), ensemble_rows(args))


if __name__ == "__main__":
    main()
