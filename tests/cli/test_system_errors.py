"""What the system does to a command: it refuses files and memory, leaves variables, closes streams, ends processes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import psutil
import pytest
import torch

from mfnet.cli.system import refusal
from mfnet.compute.launch import PARENT, launch
from mfnet.record.directory import RunDirectory
from support.command import NO_EVENTS, SMALL, rows, summary
from support.processes import PATIENCE, Started

TINY = ["M=10", "N=60", "d=5", "data.n_test=50", "schedule.per_decade=2", "schedule.t_max=5", "trainer.accelerator=cpu"]
RUN = [*TINY, *NO_EVENTS, "hydra.run.dir=r"]
NO_MEMORY = "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."


def refused(number):
    """The error of the system with this number."""
    return OSError(number, os.strerror(number))


def failing(error, since=0):
    """What raises an error from one call on, before does nothing."""
    calls = iter([None] * since)

    def fail(*_, **__):
        next(calls, raised := object()) is raised and raise_(error)

    return fail


def raise_(error):
    raise error


# ---------------------------------------------------------------- what the system refuses


@pytest.mark.parametrize(
    ("error", "said"),
    [
        *((refused(number), os.strerror(number)) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)),
        *((refused(number), os.strerror(number)) for number in (errno.EMFILE, errno.ENFILE, errno.EACCES)),
        (MemoryError("Unable to allocate 8 TiB"), "out of memory: Unable to allocate 8 TiB"),
        (RuntimeError(NO_MEMORY), "not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory."), "CUDA out of memory"),
        (RuntimeError("can't start new thread"), "can't start new thread"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("writer", ["write_history", "append_history", "write_arrays"])
def test_a_refusal_costs_one_line_and_keeps_what_was_observed(error, said, writer, tmp_path, command):
    with mock.patch.object(RunDirectory, writer, failing(error)):
        ended = command("train", *RUN)
    assert ended.status == 1
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("mfnet: error: ")
    assert said in ended.err
    if writer == "append_history":
        assert "observations up to t = " in ended.err or "1 observation up to t = 0 " in ended.err
        assert rows(tmp_path / "r")[0]["t"] == 0.0


def test_a_run_on_a_full_disk_goes_on_as_is_said(tmp_path, command):
    appended = RunDirectory.append_history
    left = iter(range(2))

    def append(self, new):
        if next(left, None) is None:
            raise refused(errno.ENOSPC)
        appended(self, new)

    with mock.patch.object(RunDirectory, "append_history", append):
        ended = command("train", *RUN)
    assert "r: No space left on device; " in ended.err
    said = ended.err.strip().rpartition("go on with: mfnet ")[2]
    assert said == "train ckpt=r/checkpoints/last.ckpt"
    command(*said.split()).ok()
    command("train", *TINY, *NO_EVENTS, "hydra.run.dir=s").ok()
    assert (tmp_path / "r" / "history.csv").read_bytes() == (tmp_path / "s" / "history.csv").read_bytes()


def test_what_fails_after_a_refusal_does_not_hide_it(tmp_path, command):
    full = refused(errno.ENOSPC)
    with (
        mock.patch.object(RunDirectory, "append_history", side_effect=full),
        mock.patch.object(RunDirectory, "write_summary", side_effect=refused(errno.EIO)),
    ):
        ended = command("train", *RUN)
    assert ended.err.startswith("mfnet: error: r: No space left on device; ")
    assert ended.err.count("\n") == 1


def test_a_full_disk_does_not_hide_a_mistake_in_the_code(command):
    with (
        mock.patch.object(RunDirectory, "append_history", side_effect=KeyError("bug")),
        mock.patch.object(RunDirectory, "write_summary", side_effect=refused(errno.ENOSPC)),
        pytest.raises(KeyError, match="bug"),
    ):
        command("train", *RUN)


def test_a_run_without_figures_says_how_they_are_drawn(tmp_path, command):
    with mock.patch("mfnet.training.sinks.files.save_figures", side_effect=refused(errno.EMFILE)):
        ended = command("train", *RUN, figures=True)
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert ended.err.endswith("the run is complete but for its figures; draw them with: mfnet figures r\n")
    assert summary(tmp_path / "r")["stop_reason"] == "t_max"
    with mock.patch("mfnet.cli.figures.save_figures", side_effect=refused(errno.ENOSPC)):
        ended = command("figures", "r")
    assert (ended.status, ended.err) == (1, "mfnet: error: r/figures: No space left on device\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE])
def test_a_collection_that_cannot_be_written_leaves_the_earlier_one(number, tmp_path, command):
    command("train", *RUN).ok()
    command("collect", ".").ok()
    before = (tmp_path / "collected" / "runs.csv").read_bytes()
    with mock.patch("pandas.DataFrame.to_parquet", side_effect=refused(number)):
        ended = command("collect", ".")
    assert (ended.status, ended.err) == (1, f"mfnet: error: collected: {os.strerror(number)}\n")
    assert (tmp_path / "collected" / "runs.csv").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["collected", "r"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_prediction_that_cannot_be_written(number, command):
    with mock.patch.object(RunDirectory, "write_history", side_effect=refused(number)):
        ended = command("predict", *TINY, "hydra.run.dir=p")
    assert (ended.status, ended.err) == (1, f"mfnet: error: p: {os.strerror(number)}\n")


@pytest.mark.parametrize("asked", [["predict", *TINY, "hydra.run.dir=p"], ["train", *RUN]], ids=lambda asked: asked[0])
@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_directory_that_cannot_be_made(asked, number, command):
    with mock.patch.object(Path, "mkdir", side_effect=OSError(number, os.strerror(number), "r")):
        ended = command(*asked)
    assert ended.status == 1
    assert ended.err.startswith(f"mfnet: error: r: {os.strerror(number)}")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "elsewhere"),
        ValueError("x"),
        RuntimeError("shapes"),
        OSError("in words"),
    ],
)
def test_what_may_be_somebodys_mistake_is_none(error):
    assert refusal(error, Path("r")) is None


@pytest.mark.parametrize("name", ["train", "predict"])
def test_a_current_directory_that_is_gone(name, tmp_path):
    words = " ".join([sys.executable, "-m", "mfnet", name, *TINY])
    done = subprocess.run(
        ["bash", "-c", f"mkdir gone; cd gone; rmdir ../gone; {words}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.endswith("mfnet: error: the current directory is gone; change to another one\n")
    assert "Traceback" not in done.stderr


def test_a_directory_that_is_taken_away(tmp_path, command):
    taken = FileNotFoundError(errno.ENOENT, "No such file or directory", "r/history.csv")
    with mock.patch.object(RunDirectory, "append_history", side_effect=taken):
        ended = command("train", *RUN)
    assert ended.err.startswith("mfnet: error: r/history.csv: No such file or directory; ")
    assert ended.err.count("\n") == 1


# ---------------------------------------------------------------- streams


COLD = [sys.executable, "-m", "mfnet"]


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["| true", ">&-", "> /dev/full", "2>&-"])
def test_closed_streams_cost_no_run(closed, tmp_path):
    words = " ".join([*COLD, "train", *SMALL, *NO_EVENTS, "figures=false", "hydra.run.dir=r"])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {words} {closed}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert summary(tmp_path / "r")["stop_reason"] == "all_satisfied"


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", "a learning rate eta is"), ("latin-1", "eta is"), ("utf-8", "η is")]
)
def test_a_plain_terminal_shows_plain_letters(encoding, shown, tmp_path):
    done = subprocess.run(
        [*COLD, "train", "lr=3"], cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True
    )
    assert done.returncode == 2
    assert shown in done.stderr.decode(encoding)


# ---------------------------------------------------------------- the environment of processes


@pytest.mark.parametrize(
    "left",
    [
        *({name: "1"} for name in ("LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "MASTER_ADDR")),
        *({name: value} for name in ("WORLD_SIZE", "MASTER_PORT", "LOCAL_WORLD_SIZE") for value in ("2", "abc", "-1")),
        {"LOCAL_RANK": "1", "WORLD_SIZE": "2", PARENT: str(os.getppid())},
    ],
    ids=lambda left: ",".join(f"{name}={value}" for name, value in left.items() if name != PARENT),
)
def test_variables_that_were_left_change_no_run_alone(left, tmp_path, command, monkeypatch):
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    assert "ended by t_max" in command("train", *RUN).ok().out
    assert (tmp_path / "r" / ".hydra" / "config.yaml").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {name: value}
            for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
            for value in ("abc", "-1")
        ),
        *(
            {"TORCHELASTIC_RUN_ID": "x", "RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": "1"}
            for rank, size in (("0", "abc"), ("0", "-1"), ("0", "0"), ("1", "1"), ("abc", "1"))
        ),
    ],
    ids=lambda wrong: ",".join(f"{name}={value}" for name, value in wrong.items()),
)
def test_variables_that_count_must_be_numbers(wrong, tmp_path, command, monkeypatch):
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    ended = command("train", *RUN)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "unset it" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_process_knows_its_number(monkeypatch):
    monkeypatch.setenv(PARENT, str(os.getppid()))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert launch() == ("lightning", 1, 2, 2)


@pytest.mark.slow
def test_of_three_starts_at_once_one_trains(tmp_path):
    all_three = [
        Started("train", *SMALL, *NO_EVENTS, f"seed={seed}", "hydra.run.dir=r", cwd=tmp_path) for seed in range(3)
    ]
    ended = [each.end() for each in all_three]
    assert sorted(each.status for each in ended) == [0, 2, 2]
    winner = next(seed for seed, each in enumerate(ended) if each.status == 0)
    assert f"seed={winner}" in (tmp_path / "r" / ".hydra" / "overrides.yaml").read_text()
    assert summary(tmp_path / "r")["config"]["seed"] == winner
    for each in ended:
        assert each.err.count("\n") == (each.status == 2)
        assert each.status == 0 or "another process" in each.err or "exists already" in each.err


@pytest.mark.parametrize("asked", [["train", *RUN], ["predict", *TINY, "hydra.run.dir=r"]], ids=lambda asked: asked[0])
def test_nothing_is_written_where_another_process_is_at_work(asked, tmp_path, command):
    (tmp_path / "r").mkdir()
    with RunDirectory(tmp_path / "r").lock():
        ended = command(*asked)
    assert (ended.status, ended.err) == (2, "mfnet: error: r: another process is at work on this run\n")
    assert [path.name for path in (tmp_path / "r").iterdir()] == [".lock"]
    command(*asked).ok()


@pytest.mark.slow
@pytest.mark.parametrize("who", ["the first", "the second"])
def test_processes_end_with_one_another(who, tmp_path):
    settings = ["M=41", "N=401", "d=20", "flow=rotation", "flow.dt=0.001", "theory=none", *NO_EVENTS]
    settings += ["schedule=listed", "schedule.times=[0.01,0.02,1e6]", "trainer.accelerator=cpu", "trainer.devices=2"]
    first = Started("train", *settings, "trainer.divide=rows", "hydra.run.dir=r", cwd=tmp_path)
    first.wait_for(lambda: (tmp_path / "r" / "history.csv").exists() and len(rows(tmp_path / "r")) == 3)
    (second,) = first.children
    if who == "the first":
        first.send(signal.SIGKILL)
    else:
        second.kill()
    assert psutil.wait_procs([second], PATIENCE)[1] == []
    ended = first.end()
    said = {"the first": "another process of this run has died", "the second": "process 1 of 2 of this run has died"}
    assert ended.status == {"the first": -signal.SIGKILL, "the second": 1}[who]
    assert ended.err.count("\n") == 1
    assert said[who] in ended.err
    assert ended.err.endswith("go on with: mfnet train ckpt=r/checkpoints/last.ckpt\n")
    assert len(rows(tmp_path / "r")) == 3


# ---------------------------------------------------------------- devices


def test_apples_gpu_is_left_alone(tmp_path, command):
    from mfnet.training.train import _say_once

    asked = [setting for setting in RUN if "accelerator" not in setting]
    _say_once.cache_clear()
    with (
        mock.patch("torch.cuda.is_available", return_value=False),
        mock.patch("torch.backends.mps.is_available", return_value=True),
        mock.patch("lightning.pytorch.accelerators.mps.MPSAccelerator.is_available", return_value=True),
    ):
        ended = command("train", *asked).ok()
        for accelerator in ("mps", "gpu"):
            wrong = command("train", *asked[:-1], "hydra.run.dir=s", f"trainer.accelerator={accelerator}")
            assert wrong.status == 2
            assert wrong.err.startswith(f"mfnet: error: trainer.accelerator={accelerator}: ")
            assert wrong.err.count("\n") == 1
    assert ended.err.startswith("mfnet: trains on the CPU")
    assert ended.err.count("\n") == 1
    assert summary(tmp_path / "r")["device"] != "mps"
