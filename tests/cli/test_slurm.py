"""On a real Slurm, whose commands are on the path and whose nodes are up: steps of several tasks, sweeps as jobs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from support.command import Ended, call, rows, summary

SMALL = ["M=20", "N=200", "d=5", "flow=rotation", "flow.dt=0.5", "schedule.t_max=20", "theory=mean_field"]
SMALL += ["trainer.accelerator=cpu", "trainer.precision=float64", "logger=[]"]
BY_SLURM = ["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=5", "hydra.launcher.array_parallelism=2"]

#: Ends one of two runs.
FAILS = """
from lightning.pytorch import Callback


class Full(Callback):
    def on_train_batch_end(self, trainer, module, *_):
        if module.alpha.item() == 2.0:
            raise OSError("the disk is full")
"""

#: Seconds after which what should happen is given up.
PATIENCE = 180.0


def is_up() -> bool:
    """Whether Slurm has a node that takes jobs."""
    if shutil.which("sinfo") is None:
        return False
    try:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%t"], capture_output=True, text=True, check=False, timeout=20.0
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and bool({"idle", "mix", "alloc"} & set(done.stdout.split()))


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_up(), reason="there is no Slurm here, or none of its nodes is up"),
]


def command(*arguments, before=()):
    return [*before, sys.executable, "-m", "mfnet", "train", *arguments]


def run(words, cwd, **variables):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{cwd}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        words, cwd=cwd, env=environment | variables, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def jobs(cwd):
    """Numbers of the jobs that were submitted from here."""
    names = [path.name.partition("_")[0] for path in (cwd / "runs" / ".submitit").glob("*")]
    return {name for name in names if name.isdecimal()}


def states(cwd):
    """State of every such job."""
    found = []
    for name in jobs(cwd):
        shown = subprocess.run(["scontrol", "show", "job", name], capture_output=True, text=True, check=True).stdout
        found += re.findall(r"JobState=(\w+)", shown)
    return sorted(found)


def test_of_several_tasks_the_first_runs_what_is_not_divided(tmp_path):
    done = run(command(*SMALL, "hydra.run.dir=r", before=["srun", "-n2"]), tmp_path).ok()
    assert done.out.count("ended by t_max") == 1
    assert done.err.count("task 1 of 2 of this job ends: the first one runs alone what is not divided") == 1
    assert "Traceback" not in done.err
    call("train", *SMALL, "hydra.run.dir=alone", cwd=tmp_path).ok()
    assert rows(tmp_path / "r") == rows(tmp_path / "alone")


def test_a_divided_run_takes_its_tasks_and_says_what_is_wrong_with_their_number(tmp_path):
    divided = ["trainer.devices=2", "trainer.divide=nodes"]
    done = run(command(*SMALL, *divided, "hydra.run.dir=r", before=["srun", "-n2"]), tmp_path).ok()
    assert done.out.count("ended by t_max") == 1
    call("train", *SMALL, "hydra.run.dir=alone", cwd=tmp_path).ok()
    for row, other in zip(rows(tmp_path / "r"), rows(tmp_path / "alone"), strict=True):
        assert row["gamma_network"] == pytest.approx(other["gamma_network"], rel=1e-9, abs=1e-12)
    three = command(*SMALL, "trainer.devices=3", "trainer.divide=rows", "hydra.run.dir=s", before=["srun", "-n2"])
    refused = run(three, tmp_path)
    assert refused.status != 0
    assert refused.err.count("trainer.devices=3: srun has started 2 on each of 1 nodes") == 1
    assert not (tmp_path / "s").exists()


def test_a_batch_job_of_several_tasks_runs_a_process_that_is_alone(tmp_path):
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/bash\n" + " ".join(command(*SMALL, "hydra.run.dir=r")) + "\n")
    run(["sbatch", "--wait", "--ntasks=2", "--output=out.txt", str(script)], tmp_path).ok()
    assert summary(tmp_path / "r")["stop_reason"] == "t_max"


def test_a_sweep_of_jobs_is_cancelled_half_way_and_goes_on(tmp_path):
    """Two at a time; the sweep is ended by SIGTERM and its jobs by scancel, and the same command makes the table."""
    long = [*SMALL, "M=400", "N=4000", "d=50", "flow.dt=0.1", "schedule.t_max=100"]
    words = command("-m", *long, "seed=range(6)", "hydra.sweep.dir=runs", *BY_SLURM)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as first:
        deadline = time.monotonic() + PATIENCE
        while not list(tmp_path.glob("runs/*/checkpoints/last.ckpt")):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        first.send_signal(signal.SIGTERM)
        subprocess.run(["scancel", *jobs(tmp_path)], check=True)
        assert first.wait(PATIENCE) == 130
        first.communicate()
    while subprocess.run(["squeue", "--noheader"], capture_output=True, check=True).stdout:
        time.sleep(0.5)
    unfinished = [path for path in tmp_path.glob("runs/M*") if summary(path)["stop_reason"] == "interrupted"]
    assert unfinished
    done = run(words, tmp_path).ok()
    assert "6 of 6 runs complete in runs" in done.out
    for path in unfinished:
        seed = re.search(r"seed(\d)", path.name)[1]
        call("train", *long, f"seed={seed}", f"hydra.run.dir=alone{seed}", cwd=tmp_path).ok()
        assert rows(path) == rows(tmp_path / f"alone{seed}")


def test_a_job_whose_run_has_failed_is_failed_for_slurm_too(tmp_path):
    (tmp_path / "own.py").write_text(FAILS)
    failing = ["+callbacks.full._target_=own.Full", "alpha=1,2", "hydra.sweep.dir=runs"]
    done = run(command("-m", *SMALL, *failing, *BY_SLURM), tmp_path)
    assert done.status == 1
    assert "1 of 2 runs complete in runs" in done.out
    assert "the disk is full" in done.out
    assert states(tmp_path) == ["COMPLETED", "FAILED"]
