"""What the README shows in Python is run as it stands, and what it says of commands is true."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

import mfnet
from support.command import NO_EVENTS, SMALL, columns, summary

README = (Path(mfnet.__file__).parent.parent / "README.md").read_text()

#: Settings that make a run of an example small.
SHORT = ["M=20", "schedule.t_max=5", "schedule.per_decade=4", "trainer.accelerator=cpu", *NO_EVENTS]


def block(section: str) -> str:
    """The first indented block of a section."""
    text = README.split(f"\n## {section}\n")[1]
    return dedent(re.search(r"(?m)(?:^    .*\n(?:^\n(?=    ))?)+", text)[0])


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """The section's module, in a working directory of the test's own."""
    (tmp_path / "my_module.py").write_text(block("Adding your own"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_module", None)
    sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path)]


@pytest.mark.unchecked
def test_the_session_in_python_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = block("From Python")
    assert len(code.strip().splitlines()) <= 17
    found: dict[str, object] = {}
    exec(code, found)
    run, runs = found["run"], found["runs"]
    assert isinstance(run, mfnet.Run)
    assert {"t", "gamma_network", "gamma_theory"} <= set(run.history)
    assert list(runs.finals()["n"]) == [4, 4, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits", "errors.png", "sweep"]
    assert len(mfnet.collect("sweep").runs) == 12


def examples() -> list[tuple[str, list[str], str]]:
    """The rows of the table of pieces of one's own: what, the settings of the command, and the arguments in Python."""
    table = README.split("\n## Adding your own\n")[1].split("| | command | Python |")[1]
    rows = re.findall(r"(?m)^\| (\w+) \| `(.+?)` \| `(.+?)` \|$", table)
    return [(what, typed.split(), given) for what, typed, given in rows]


def test_there_is_an_example_of_each_piece():
    assert [what for what, *_ in examples()] == ["activation", "loss", "data", "theory", "observable", "flow"]


def test_each_piece_is_short():
    pieces = re.split(r"(?m)^(?=class |def )", block("Adding your own"))[1:]
    assert len(pieces) == 5
    assert max(len(piece.strip().splitlines()) for piece in pieces) <= 15


@pytest.mark.unchecked
@pytest.mark.parametrize(("what", "typed", "given"), examples(), ids=[what for what, *_ in examples()])
def test_a_piece_of_ones_own_is_named_or_passed_and_is_the_same(what, typed, given, own_module, command):
    size = [] if what == "data" else ["N=200", "d=10", "data.n_test=100"]
    short = [entry for entry in SHORT if not (what == "flow" and entry.startswith("schedule.t_max"))]
    dt = ["flow.dt=0.1", "schedule.t_max=5"] if what == "flow" else []
    command("train", *short, *size, *typed, *dt, "hydra.run.dir=r").ok()
    settings = "M=20, schedule={'t_max': 5, 'per_decade': 4}, trainer={'accelerator': 'cpu'}, logger=[]"
    settings += "" if what == "data" else ", N=200, d=10, data__n_test=100"
    imports = "import torch, mfnet\nfrom functools import partial\nfrom my_module import *"
    code = f"{imports}\nrun = mfnet.train({given}, {settings})"
    found: dict[str, object] = {}
    exec(code, found)
    left, run = columns(own_module / "r"), found["run"]
    for name in ("t", "gamma_network", "test_error_network"):
        assert np.array_equal(left[name], run.history[name])
    if what == "theory":
        assert left["gamma_mine_hi"] == pytest.approx(0.04 * left["t"])
        assert summary(own_module / "r")["theories"] == ["theory", "mine"]
    if what == "observable":
        assert left["mean_a2_network"][0] == pytest.approx(np.square(run.network.a0.numpy()).mean(), rel=1e-6)
        assert np.array_equal(left["mean_a2_network"], run.history["mean_a2_network"])


def test_the_command_and_python_give_the_same_history(command, tmp_path):
    """Bit for bit, files as well."""
    command("train", *SMALL, *NO_EVENTS, "schedule.t_max=20", "hydra.run.dir=r").ok()
    schedule = {"t_max": 20, "per_decade": 6}
    settings = {"M": 40, "N": 400, "d": 20, "data": {"n_test": 400}, "schedule": schedule, "logger": []}
    mfnet.train(**settings, trainer={"accelerator": "cpu"}, directory=tmp_path / "p")
    assert (tmp_path / "r" / "history.csv").read_bytes() == (tmp_path / "p" / "history.csv").read_bytes()
    known = [summary(tmp_path / name)["identity"] for name in ("r", "p")]
    assert known[0] == known[1]
