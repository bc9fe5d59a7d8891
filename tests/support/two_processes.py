"""What one process of a divided run computes; `tests/test_processes.py` starts two and compares them with one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist

from mfnet.compute.processes import ALONE, Processes
from mfnet.flow import AdaptiveRotation, Averaged, Euler, Flow, Heun, Objective, Rotation
from mfnet.network.losses import loss_of
from support.problems import make_problem, objective_of

#: Flow, activation, loss, α and final time of each run; sizes are odd, so that no share is like another.
RUNS: dict[str, tuple[Callable[[Objective], Flow], str, str, float, float]] = {
    "euler": (partial(Euler, dt=0.25), "gelu", "logistic", 1.0, 50.0),
    "euler, hinge": (partial(Euler, dt=0.25), "relu", "hinge", 1.0, 50.0),
    "rotation": (partial(Rotation, dt=0.25), "relu", "hinge", 1.0, 50.0),
    "rotation, rich": (partial(Rotation, dt=0.002), "leaky_relu", "squared_hinge", 0.01, 0.4),
    "adaptive rotation": (AdaptiveRotation, "relu", "hinge", 1.0, 50.0),
    "heun": (Heun, "softplus", "square", 1.0, 50.0),
    "averaged": (Averaged, "relu", "hinge", 1.0, 50.0),
    "averaged, lazy": (partial(Averaged, rtol=0.03), "relu", "hinge", 100.0, 1000.0),
    "averaged, squared hinge": (partial(Averaged, rtol=0.03), "relu", "squared_hinge", 1.0, 50.0),
    "averaged, logistic": (partial(Averaged, rtol=0.03), "relu", "logistic", 1.0, 50.0),
    "averaged, two replicas": (Averaged, "relu", "hinge", 1.0, 30.0),
    "heun, two replicas": (Heun, "gelu", "hinge", 1.0, 30.0),
}


def end(name: str, processes: Processes = ALONE) -> torch.Tensor:
    """Parameters of all nodes and margins of all examples at the end."""
    kind, activation, loss, alpha, t = RUNS[name]
    seeds = range(2 if "replicas" in name else 1)
    problems = [make_problem(M=31, N=203, d=10, activation=activation, seed=s, processes=processes) for s in seeds]
    objective = objective_of(problems, loss_of(loss), alpha)
    kind(objective).step(until=t)
    a, w = (processes.gather_nodes(values, dim=1) for values in objective.networks.nodes)
    return torch.cat([a.ravel(), w.ravel(), processes.gather_rows(objective.margins(), dim=1).ravel()])


def collectives(processes: Processes) -> dict[str, object]:
    """What each method gives for numbers that differ from process to process."""
    ten, rank = torch.arange(10.0), processes.rank
    return {
        "sum_rows": processes.sum_rows(torch.tensor(1.0 + rank)).item(),
        "sum_nodes": processes.sum_nodes(torch.tensor(1.0 + rank)).item(),
        "count_rows": processes.count_rows(5 + rank),
        "gather_rows": processes.gather_rows(processes.take_rows(ten)).tolist(),
        "gather_nodes": processes.gather_nodes(processes.take_nodes(ten.reshape(5, 2))).tolist(),
        "agree": [processes.agree(rank == 0), processes.agree(rank == 1)],
    }


def compute(rank: int, size: int, folder: Path) -> None:
    """One process: every run and every method, divided by rows, by nodes and not at all, saved in ``folder``."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=size)
    divisions: tuple[Literal["rows", "nodes"], ...] = ("rows", "nodes")
    found = {"alone": {name: end(name) for name in RUNS}}
    for divide in divisions:
        processes = Processes(divide, rank, size)
        found[divide] = {**{name: end(name, processes) for name in RUNS}, "collectives": collectives(processes)}
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()
