"""Evaluates a network by the fused kernel in Triton's interpreter, on the CPU; run as a process of its own.

Prints, for each case, the relative errors of everything that an evaluator computes, by the kernel and by torch's
products, against torch's products in float64. The interpreter does not multiply bfloat16: it is given the same numbers
as float32.
"""

import json
import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from mfnet.flow import fused, fused_kernel
from mfnet.flow.fused import Fused
from mfnet.flow.streamed import Streamed
from mfnet.network import MeanFieldNetwork
from mfnet.network.losses import Hinge
from support.problems import make_problem

N, M, D = 75, 70, 5  # no multiples of blocks


def as_float32(split):
    """What it gives, in float32."""
    return lambda *args, **more: tuple(part._replace(values=part.values.float()) for part in split(*args, **more))


def everything(kind, problem, precision, force):
    """What an evaluator computes, in the order of `NAMES`."""
    network = problem.network
    if precision != "full":
        network = MeanFieldNetwork(
            M, D, network.activation, generator=torch.Generator(), dtype=network.w.dtype, precision=precision
        )
        network.load_state_dict(problem.network.state_dict())
    x, y = (part[None] for part in problem.batch)
    own = kind(network, Hinge(), torch.tensor([2.0], dtype=torch.float64), network.initial_nodes, x, y)
    n_forced, nodes = force.count_nonzero(dim=1).tolist(), network.nodes
    given = own.rates_and_margins(nodes, force, n_forced)
    start = own.margins(network.initial_nodes).square().mean().sqrt()
    return [own.rates(nodes, force, n_forced), *given, *own.present_rates_and_margins(nodes)], float(start)


def lost_of(activation):
    """How many margins are not finite when a node has overflowed, by the kernel and by torch's products."""
    counts = []
    for kind in (Fused, Streamed):
        problem = make_problem(M, N, D, activation=activation, dtype=torch.float32)
        network, (x, y) = problem.network, problem.batch
        own = kind(network, Hinge(), torch.ones(1), network.initial_nodes, x[None], y[None])
        nodes = network.nodes._replace(w=network.nodes.w.clone())
        nodes.w[0, 3] = torch.inf
        counts.append(own.outcomes(own.margins(nodes))[0]["lost"])
    return counts


def errors(found, expected):
    """Relative, of each."""
    return [float((a.double() - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True)]


def main():
    fused_kernel.split = as_float32(fused_kernel.split)
    fused.LAUNCH_NODES, fused.LAUNCH_ROWS = 64, 50  # several launches
    force = torch.rand(1, N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cases = [(name, "full") for name in fused_kernel.KNOWN]
    cases += [(name, precision) for name in ("relu", "tanh") for precision in ("tf32", "bf16")]
    for few in (force, force * (force > 0.6)):
        for activation, precision in cases if few is force else cases[:3]:
            exact, _ = everything(
                Streamed, make_problem(M, N, D, activation=activation, dtype=torch.float64, moved=True), "full", few
            )
            found = {}
            for kind in (Fused, Streamed):
                problem = make_problem(M, N, D, activation=activation, dtype=torch.float32, moved=True)
                values, start = everything(kind, problem, precision, few.float())
                found[kind.name] = errors(values, exact)
            print(json.dumps([activation, precision, found["fused"], found["streamed"], start]))
    print(json.dumps([lost_of(name) for name in fused_kernel.KNOWN]))


if __name__ == "__main__":
    main()
