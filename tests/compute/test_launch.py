"""How a process was started, as its environment says: what counts, what is ignored, what is refused."""

from __future__ import annotations

import os

import pytest

from mfnet.compute.launch import PARENT, Launch, launch
from support.command import SMALL
from support.processes import started

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
LIGHTNING = {PARENT: str(os.getppid()), "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
#: A batch job of four tasks, and a step of two of them on two machines.
JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "x", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
JOB |= {"SLURM_NODEID": "0"}
STEP = JOB | {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "1"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Launch()),
        ({"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}, Launch()),
        (LIGHTNING, Launch("lightning", 1, 2, 2)),
        ({**LIGHTNING, PARENT: "1"}, Launch()),
        (TORCHRUN, Launch("torchrun", 3, 4, 2)),
        (JOB, Launch()),
        (STEP, Launch("srun", 1, 2, 1)),
        ({**STEP, "SLURM_STEP_NUM_TASKS": "1"}, Launch()),
        ({**STEP, **TORCHRUN}, Launch("torchrun", 3, 4, 2)),
    ],
)
def test_what_counts(monkeypatch, environment, expected):
    for name in {*TORCHRUN, *LIGHTNING, *STEP}:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launch() == expected


def test_what_is_no_number(monkeypatch):
    for name, value in {**TORCHRUN, "RANK": "abc"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="RANK='abc' in the environment must be a whole number"):
        launch()


@pytest.mark.slow
@pytest.mark.parametrize("environment", [JOB, {"LOCAL_RANK": "1"}, {"RANK": "1", "WORLD_SIZE": "abc"}])
def test_a_process_alone_ignores_what_others_have_left(tmp_path, environment):
    """It has a lock, a history and events of its own."""
    done = started("train", *SMALL, "hydra.run.dir=r", cwd=tmp_path, environment=environment).ok()
    assert done.err == ""
    assert done.out.count("ended by") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    assert (tmp_path / "r" / "history.csv").exists()
    assert list((tmp_path / "r" / "tensorboard" / "network").glob("events.*"))


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["-m", "seed=1,2"]])
def test_a_later_task_leaves_what_is_not_divided_to_the_first(tmp_path, more):
    done = started("train", *SMALL, *more, cwd=tmp_path, environment=STEP).ok()
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert done.err.startswith("mfnet: task 1 of 2 of this job ends: the first one runs alone what is not divided")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LOCAL_RANK", "RANK", "SLURM_PROCID"])
def test_a_variable_that_is_no_number_costs_a_line(tmp_path, name):
    done = started("train", *SMALL, cwd=tmp_path, environment={name: "abc"})
    assert done.status == 2
    assert done.err == f"mfnet: error: {name}='abc' in the environment must be a whole number; unset it\n"
    assert list(tmp_path.iterdir()) == []
