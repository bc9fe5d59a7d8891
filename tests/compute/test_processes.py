"""What is shared out among several processes, and that together they compute what one does."""

from __future__ import annotations

import time

import pytest
import torch

from mfnet.compute.processes import ALONE, Processes
from support import two_processes
from support.problems import make_problem
from support.processes import PATIENCE, prepared
from support.shared import made_once


@pytest.mark.parametrize("n", [1, 2, 7, 100])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_cover_everything_once(n, size):
    shares = [Processes("rows", rank, size).share(n) for rank in range(size)]
    assert [i for share in shares for i in range(n)[share]] == list(range(n))
    lengths = [len(range(n)[share]) for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_only_what_is_divided_is_taken_apart():
    whole = torch.arange(7)
    assert Processes("rows", 1, 2).take_rows(whole).tolist() == [3, 4, 5, 6]
    assert Processes("rows", 1, 2).take_nodes(whole) is whole
    assert Processes("nodes", 0, 2).take_nodes(whole).tolist() == [0, 1, 2]
    assert Processes("nodes", 0, 2).take_rows(whole) is whole


def test_a_single_process_needs_no_group():
    values = torch.arange(3.0)
    for method in (ALONE.take_rows, ALONE.gather_nodes, ALONE.sum_rows, ALONE.sum_nodes):
        assert method(values) is values
    assert ALONE.count_rows(3) == 3
    assert ALONE.agree(True)


def compute_in_two(folder):
    arguments = {"args": (2, folder), "nprocs": 2, "join": False, "start_method": prepared().get_start_method()}
    context = torch.multiprocessing.start_processes(two_processes.compute, **arguments)
    deadline = time.monotonic() + PATIENCE
    while not context.join(1.0):  # returns when any has ended
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            pytest.fail("the processes wait for one another")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of two processes has found."""
    folder = made_once(tmp_path_factory, "two", compute_in_two)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("divide", ["rows", "nodes"])
@pytest.mark.parametrize("name", two_processes.RUNS)
def test_two_processes_end_where_one_does(name, divide, found):
    alone = found[0]["alone"][name]
    assert float((alone[:31] - make_problem(M=31).network.a0).norm()) > 0.1  # it has moved
    for process in found:
        difference = float((process[divide][name] - alone).norm() / alone.norm())
        print(f"{name}, divided by {divide}: relative difference {difference:.1e}")
        assert difference < 1e-10
    assert torch.equal(found[0][divide][name], found[1][divide][name])


@pytest.mark.slow
@pytest.mark.parametrize("divide", ["rows", "nodes"])
def test_what_processes_tell_one_another(divide, found):
    expected = {
        "sum_rows": {"rows": [3.0, 3.0], "nodes": [1.0, 2.0]},
        "sum_nodes": {"rows": [1.0, 2.0], "nodes": [3.0, 3.0]},
        "count_rows": {"rows": [11, 11], "nodes": [5, 6]},
        "gather_rows": dict.fromkeys(("rows", "nodes"), [torch.arange(10.0).tolist()] * 2),
        "gather_nodes": dict.fromkeys(("rows", "nodes"), [torch.arange(10.0).reshape(5, 2).tolist()] * 2),
        "agree": dict.fromkeys(("rows", "nodes"), [[True, False]] * 2),
    }
    for method, of in expected.items():
        assert [process[divide]["collectives"][method] for process in found] == of[divide], method
