"""The fused kernel: what it computes, in Triton's interpreter; and, where there is a GPU, on it."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import mfnet.flow.forecast
import mfnet.flow.objective
import support
from mfnet.compute.graphs import Recorded
from mfnet.compute.seeding import generator
from mfnet.flow import Averaged, Batch, Objective
from mfnet.flow.fused import Fused, fuses, knows
from mfnet.flow.streamed import Streamed
from mfnet.network import ACTIVATIONS, MeanFieldNetwork
from mfnet.network.losses import Hinge
from support.problems import make_problem, objective_of

triton = pytest.importorskip("triton", reason="Triton is made for Linux alone")
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is available to torch here")


@pytest.fixture(scope="module")
def lines():
    """What the interpreter's process says."""
    script = Path(support.__file__).parent / "fused_in_interpreter.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def interpreted(lines):
    """Errors by (activation, precision, whether all examples have a force)."""
    *cases, _ = lines
    return {(name, precision, i < len(cases) - 3): rest for i, (name, precision, *rest) in enumerate(cases)}


@pytest.mark.slow
def test_at_full_precision_it_is_as_exact_as_float32(interpreted):
    """Against float64: no further from it than twice what torch's products in float32 are, or a few roundings."""
    seen = {key: both for key, both in interpreted.items() if key[1] == "full"}
    assert {name for name, _, _ in seen} == set(ACTIVATIONS) - {"linear"}
    for key, (fused, streamed, _) in seen.items():
        assert all(mine < max(2.0 * theirs, 5e-7) for mine, theirs in zip(fused, streamed, strict=True)), key


@pytest.mark.slow
def test_where_few_examples_have_a_force_it_is_the_same(interpreted):
    few = [both for (_, _, everyone), both in interpreted.items() if not everyone]
    assert len(few) == 3
    assert all(error < 1e-6 for fused, _, _ in few for error in fused)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_two_parts_are_more_exact_than_tf32_and_one_as_exact_as_bf16(interpreted, activation):
    """Two parts keep 16 bits and TF32 11; one keeps what bfloat16 has, so that both are off by about as much."""
    fused, streamed, _ = interpreted[activation, "tf32", True]
    assert all(mine < 0.2 * theirs for mine, theirs in zip(fused, streamed, strict=True))
    fused, streamed, _ = interpreted[activation, "bf16", True]
    assert all(0.3 * theirs < mine < 3.0 * theirs for mine, theirs in zip(fused, streamed, strict=True))


@pytest.mark.slow
def test_outputs_at_the_start_are_those_of_f0(interpreted):
    """F is 0 there, in every precision, because f and f₀ come from the same passes."""
    assert all(start == 0.0 for _, _, start in interpreted.values())


@pytest.mark.slow
def test_a_node_that_overflows_is_seen_in_the_margins(lines):
    """By the kernel in at least as many as by torch's products, so that a run that diverges is known to."""
    lost = lines[-1]
    assert len(lost) == len(ACTIVATIONS) - 1
    assert all(fused >= streamed for fused, streamed in lost)
    assert all(fused > 0 for fused, _ in lost)


def test_it_is_for_activations_that_it_knows_and_inputs_that_fit():
    def network(activation, d=10):
        return MeanFieldNetwork(4, d, activation, generator=generator(0, "network"))

    assert knows(network("gelu"))
    assert knows(network("relu", 128))
    assert not knows(network("relu", 129))
    assert not knows(network("linear"))
    assert not knows(network(torch.cos))
    own = replace(
        ACTIVATIONS["tanh"],
        name="mine",
        value=lambda z: 2.0 * torch.tanh(z),
        derivative=lambda z: 2.0 / torch.cosh(z) ** 2,
    )
    assert not knows(network(own))


def test_it_is_not_for_a_cpu():
    problem = make_problem(dtype=torch.float32)
    assert not fuses(problem.network, problem.batch.x)


def test_sub_steps_that_are_recorded_are_those_that_are_not(monkeypatch):
    """A recording has as many sub-steps as a block; where fewer are left, what follows them is not used."""

    def end():
        problem = make_problem(M=50, N=300, d=5, dtype=torch.float32)
        flow = Averaged(objective_of([problem], Hinge(), 1.0))
        flow.step(until=50.0)
        return *(each.detach().clone() for each in problem.network.nodes), flow.margins(), torch.tensor(flow.n_sub)

    alone, calls = end(), []
    monkeypatch.setattr(Recorded, "possible", staticmethod(lambda example: True))
    monkeypatch.setattr(Recorded, "__call__", lambda self, *inputs: calls.append(1) or self.function(*inputs))
    recorded = end()
    assert calls
    assert int(alone[-1]) % mfnet.flow.forecast.BLOCK != 0
    assert all(torch.equal(a, b) for a, b in zip(alone, recorded, strict=True))


def on_the_gpu(N=3000, M=300, precision="full"):
    """A network and its examples there."""
    network = MeanFieldNetwork(M, 100, generator=generator(0, "network"), precision=precision).cuda()
    x = torch.randn(N, 100, generator=generator(0, "x")).cuda()
    batch = Batch(x, x[:, 0].sign())
    return network, Objective(network, Hinge(), 1.0, lambda _: batch, fixed=True)


@on_a_gpu
def test_on_a_gpu_it_is_as_exact_as_float32_and_reproducible():
    network, objective = on_the_gpu()
    x, y = (part[None] for part in objective.batches(0)[0])
    force = torch.rand(1, 3000, generator=generator(0, "force")).cuda() * (y > 0)
    n_forced = force.count_nonzero(dim=1).tolist()
    exact = copy.deepcopy(network).double()
    alpha, found = torch.ones(1, dtype=torch.float64), {}
    for kind, net in ((Fused, network), (Streamed, network), (Streamed, exact)):
        dtype = net.w.dtype
        own = kind(net, Hinge(), alpha, net.initial_nodes, x.to(dtype), y.to(dtype))
        nodes = net.nodes._replace(w=1.1 * net.nodes.w)
        found[kind, dtype] = rates, _ = own.rates_and_margins(nodes, force.to(dtype), n_forced)
        assert torch.equal(rates, own.rates_and_margins(nodes, force.to(dtype), n_forced)[0])
    expected = found[Streamed, torch.float64]
    for mine, theirs, right in zip(found[Fused, torch.float32], found[Streamed, torch.float32], expected, strict=True):
        error, other = ((each.double() - right).norm() / right.norm() for each in (mine, theirs))
        assert error < max(2.0 * other, 5e-7)


@on_a_gpu
@pytest.mark.parametrize("precision", ["full", "bf16"])
def test_on_a_gpu_a_run_that_is_cut_is_the_run_that_is_not(monkeypatch, precision):
    """Bit for bit, with the kernel and recorded sub-steps; and neither recording changes anything."""
    monkeypatch.setitem(mfnet.flow.objective.BATCHED, "cuda", 0)
    ends = []
    for case in ("whole", "cut", "not recorded"):
        if case == "not recorded":
            monkeypatch.setattr(Recorded, "possible", staticmethod(lambda example: False))
        network, objective = on_the_gpu(precision=precision)
        flow = Averaged(objective)
        flow.step(until=10.0)
        if case == "cut":
            saved = copy.deepcopy((network.state_dict(), flow.state_dict()))
            network, objective = on_the_gpu(precision=precision)
            network.load_state_dict(saved[0])
            flow = Averaged(objective)
            flow.load_state_dict(saved[1])
        flow.step(until=60.0)
        assert objective.evaluators[0].name == "fused"
        ends.append((network.w.detach().clone(), flow.margins()))
    for other in ends[1:]:
        assert all(torch.equal(a, b) for a, b in zip(ends[0], other, strict=True))
