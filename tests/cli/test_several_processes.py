"""A run that is divided among several processes: one set of files, and a checkpoint that any number goes on with."""

from __future__ import annotations

import shutil
import signal
import socket

import numpy as np
import psutil
import pytest
import torch

from support.command import NO_EVENTS, call, rows, summary
from support.processes import PATIENCE, Started, started

pytestmark = pytest.mark.slow

SMALL = [
    *("M=41", "N=401", "d=20", "data.n_test=301", "flow=rotation", "flow.dt=0.5", "theory=mean_field"),
    *("schedule=listed", "trainer.accelerator=cpu", "trainer.precision=float64"),
]
HALF, WHOLE = "schedule.times=[1,5,10,20]", "schedule.times=[1,5,10,20,40,80]"
TORCHRUN = "torch.distributed.run"
ALONE_AGAIN, BY_ROWS, BY_NODES = (
    ["trainer.devices=1"],
    ["trainer.devices=2", "trainer.divide=rows"],
    ["trainer.devices=2", "trainer.divide=nodes"],
)


def assert_same_run(ours, theirs):
    history, expected = rows(ours), rows(theirs)
    assert [list(row) for row in history] == [list(row) for row in expected]
    for row, other in zip(history, expected, strict=True):
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
    call("train", *SMALL, WHOLE, "hydra.run.dir=whole", cwd=cwd, figures=True).ok()
    return cwd / "whole"


def test_two_processes_leave_one_run_which_others_may_go_on_with(whole, tmp_path):
    """Lightning starts the second process; one process goes on, or two by torchrun that divide the run otherwise."""
    done = started("train", *SMALL, HALF, *BY_NODES, "hydra.run.dir=r", cwd=tmp_path).ok()
    assert done.err == ""
    assert done.out.count("ended by t_max") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    assert {path.name for path in (tmp_path / "r").iterdir()} == {path.name for path in whole.iterdir()}
    events = [len(list((run / "tensorboard" / "network").glob("events.*"))) for run in (tmp_path / "r", whole)]
    assert events[0] == events[1]

    shutil.copytree(tmp_path / "r", tmp_path / "s")
    alone = started("train", "ckpt=r/checkpoints/last.ckpt", WHOLE, *ALONE_AGAIN, cwd=tmp_path).ok()
    group = ["--standalone", "--nproc_per_node=2", "-m", "mfnet"]
    command = [*group, "train", "ckpt=s/checkpoints/last.ckpt", WHOLE, *BY_ROWS]
    together = started(*command, cwd=tmp_path, module=TORCHRUN).ok()
    for directory, printed in (("r", alone.out), ("s", together.out)):
        assert printed.count("ended by t_max") == 1
        assert_same_run(tmp_path / directory, whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r", "s"]


def test_two_machines_leave_the_run_of_one(whole, tmp_path):
    """Both on this machine, as torchrun would start them on two."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = [*SMALL, *NO_EVENTS, WHOLE, "trainer.nodes=2", "trainer.divide=nodes", "hydra.run.dir=r"]
    group = ["--nnodes=2", "--master_addr=127.0.0.1", f"--master_port={port}"]
    both = [
        Started(*group, f"--node_rank={rank}", "-m", "mfnet", "train", *settings, cwd=tmp_path, module=TORCHRUN)
        for rank in (0, 1)
    ]
    first, second = (machine.end().ok() for machine in both)
    assert "ended by t_max" in first.out
    assert second.out == ""
    assert_same_run(tmp_path / "r", whole)


def test_an_interrupted_run_says_so_and_leaves_no_process(tmp_path):
    settings = [*SMALL, *BY_ROWS, "flow.dt=0.001", "theory=none", "schedule.times=[0.01,0.02,1e6]", "hydra.run.dir=r"]
    first = Started("train", *settings, cwd=tmp_path)
    first.wait_for(lambda: (tmp_path / "r" / "history.csv").exists() and len(rows(tmp_path / "r")) == 3)
    others = first.children
    first.send(signal.SIGINT)
    assert first.end().status != 0
    assert len(others) == 1
    assert psutil.wait_procs(others, PATIENCE)[1] == []
    assert summary(tmp_path / "r")["stop_reason"] == "interrupted"
