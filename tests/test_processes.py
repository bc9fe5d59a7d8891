"""Several processes: they compute what one does, leave one set of files, and their checkpoints are one process's."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time

import divided
import numpy as np
import psutil
import pytest
import torch
from problems import make_problem

from mfnet.processes import ALONE, Processes

#: Seconds after which processes that wait for one another are given up.
PATIENCE = 120.0


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


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of two processes has found."""
    folder = tmp_path_factory.mktemp("two")
    context = torch.multiprocessing.start_processes(divided.compute, (2, folder), nprocs=2, join=False)
    deadline = time.monotonic() + PATIENCE
    while not context.join(1.0):  # returns when any has ended
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            pytest.fail("the processes wait for one another")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("divide", ["rows", "nodes"])
@pytest.mark.parametrize("name", divided.RUNS)
def test_two_processes_end_where_one_does(name, divide, found):
    alone = found[0]["alone"][name]
    assert float((alone[:31] - make_problem(M=31).network.a0).norm()) > 0.1  # it has moved
    for process in found:
        difference = float((process[divide][name] - alone).norm() / alone.norm())
        print(f"{name}, divided by {divide}: relative difference {difference:.1e}")
        assert difference < 1e-10
    assert torch.equal(found[0][divide][name], found[1][divide][name])


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


# ---------------------------------------------------------------- the command

SMALL = [
    *("M=41", "N=401", "d=20", "data.n_test=301", "flow=rotation", "flow.dt=0.5", "theory=mean_field"),
    *("schedule=listed", "trainer.accelerator=cpu", "trainer.precision=float64"),
]
HALF, WHOLE = "schedule.times=[1,5,10,20]", "schedule.times=[1,5,10,20,40,80]"
#: Lightning starts the other processes, or torchrun all of them.
LIGHTNING = ["-m", "mfnet"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "mfnet"]


def train(*arguments, cwd, command=LIGHTNING):
    """The finished command."""
    command = [sys.executable, *command, "train", *arguments]
    options = {"capture_output": True, "text": True, "check": False, "timeout": PATIENCE}
    return subprocess.run(command, cwd=cwd, env=own_environment(), **options)


def own_environment():
    """Without what a launcher, which an earlier test may have been, says to its processes."""
    return {key: value for key, value in os.environ.items() if key not in ("LOCAL_RANK", "RANK", "WORLD_SIZE")}


def history(directory):
    with (directory / "history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def assert_same_run(ours, theirs):
    rows, expected = history(ours), history(theirs)
    assert [list(row) for row in rows] == [list(row) for row in expected]
    for row, other in zip(rows, expected, strict=True):
        np.testing.assert_allclose(list(row.values()), list(other.values()), rtol=1e-9, atol=1e-12)
    for name in ("nodes.npz", "examples.npz"):
        arrays, others = np.load(ours / name), np.load(theirs / name)
        assert set(arrays) == set(others)
        for key in others:
            np.testing.assert_allclose(arrays[key], others[key], rtol=1e-9, atol=1e-12, err_msg=key)
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (ours, theirs)]
    for key, value in states[1].items():
        assert float((states[0][key] - value).norm()) <= 1e-10 * float(value.norm()), key


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run of a single process that was left alone."""
    cwd = tmp_path_factory.mktemp("one")
    done = train(*SMALL, WHOLE, "hydra.run.dir=whole", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "whole"


ALONE_AGAIN, BY_ROWS, BY_NODES = (
    ["trainer.devices=1"],
    ["trainer.devices=2", "trainer.divide=rows"],
    ["trainer.devices=2", "trainer.divide=nodes"],
)


@pytest.mark.parametrize(
    ("first", "then", "command"),
    [(BY_NODES, ALONE_AGAIN, LIGHTNING), (BY_ROWS, BY_NODES, TORCHRUN)],
    ids=["nodes, then one process", "rows, then nodes by torchrun"],
)
def test_two_processes_leave_one_run_which_others_may_go_on_with(first, then, command, whole, tmp_path):
    done = train(*SMALL, HALF, *first, "hydra.run.dir=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("ended by t_max") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    assert {path.name for path in (tmp_path / "r").iterdir()} == {path.name for path in whole.iterdir()}
    events = [len(list((run / "tensorboard" / "network").glob("events.*"))) for run in (tmp_path / "r", whole)]
    assert events[0] == events[1]

    done = train("ckpt=r/checkpoints/last.ckpt", WHOLE, *then, cwd=tmp_path, command=command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ended by t_max") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    assert_same_run(tmp_path / "r", whole)


def test_two_machines_leave_the_run_of_one(whole, tmp_path):
    """Both on this machine, as torchrun would start them on two."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = [*SMALL, WHOLE, "trainer.nodes=2", "trainer.divide=nodes", "hydra.run.dir=r"]
    group = ["-m", "torch.distributed.run", "--nnodes=2", "--master_addr=127.0.0.1", f"--master_port={port}"]
    commands = [[sys.executable, *group, f"--node_rank={rank}", "-m", "mfnet", "train", *settings] for rank in (0, 1)]
    both = [
        subprocess.Popen(command, cwd=tmp_path, env=own_environment(), stdout=subprocess.PIPE) for command in commands
    ]
    printed = [process.communicate(timeout=PATIENCE)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert b"ended by t_max" in printed[0]
    assert printed[1] == b""
    assert_same_run(tmp_path / "r", whole)


def test_an_interrupted_run_says_so_and_leaves_no_process(tmp_path):
    settings = [*SMALL, *BY_ROWS, "flow.dt=0.001", "theory=none", "schedule.times=[0.01,0.02,1e6]", "hydra.run.dir=r"]
    command = [sys.executable, *LIGHTNING, "train", *settings]
    first = subprocess.Popen(command, cwd=tmp_path, env=own_environment(), stdout=subprocess.DEVNULL)
    log, deadline = tmp_path / "r" / "history.csv", time.monotonic() + PATIENCE
    while not (log.exists() and len(history(tmp_path / "r")) == 3):
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    others = psutil.Process(first.pid).children()
    first.send_signal(signal.SIGINT)
    assert first.wait(PATIENCE) != 0
    assert len(others) == 1
    assert psutil.wait_procs(others, PATIENCE)[1] == []
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["stop_reason"] == "interrupted"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trainer.devices=0"], "trainer.devices=0"),
        (["trainer.devices=2.5"], "trainer.devices=2.5"),
        (["trainer.devices=2", "trainer.divide=both"], "must be one of rows, nodes"),
        (["trainer.devices=2", "flow=sgd"], "trainer.devices=2"),
        (["trainer.nodes=2"], "torchrun"),
        (["trainer.devices=5", "trainer.divide=nodes", "M=4"], "M=4"),
        (["trainer.devices=5", "N=4"], "N=4"),
        (["-m", "trainer.devices=1,2", "trainer.accelerator=cpu"], "leave out -m"),
    ],
)
def test_what_cannot_be_divided_costs_one_line(arguments, expected, tmp_path, monkeypatch, capsys):
    from mfnet.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments]) == 2
    printed = capsys.readouterr()
    assert expected in printed.err
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_more_gpus_than_there_are(monkeypatch, capsys):
    from mfnet.cli import main

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert main(["train", "trainer.devices=2"]) == 2
    assert "trainer.devices=2: torch sees 1 GPU here" in capsys.readouterr().err
