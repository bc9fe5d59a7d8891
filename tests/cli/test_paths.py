"""Paths with any characters that a file system allows: of runs, sweeps, checkpoints and data."""

from __future__ import annotations

import numpy as np
import pytest
from omegaconf import OmegaConf

from mfnet.cli.jobs import parsed, quoted
from mfnet.setup.compose import Source
from support.command import NO_EVENTS, rows

TINY = ["M=10", "N=40", "d=5", "data.n_test=50", "schedule.per_decade=2", "schedule.t_max=2", *NO_EVENTS]

NAMES = ["é ü", "a=b", "a,b", "a(b", "it's", 'a"b', "a\\b", "{a}", "[a]", "a#b", "a\\", "$a", "a:b", "~a", "a*?", " a "]
NAMES += ["-a", "a;b&c|d", "a\nb", "日本", "null", "1e3"]


@pytest.fixture(params=NAMES)
def odd(request, tmp_path):
    """A directory with such a name, in which a command is started."""
    folder = tmp_path / request.param
    folder.mkdir()
    return folder


def test_a_run_goes_on_wherever_it_is(odd, command, monkeypatch):
    """By its relative and its absolute path, as it would be typed for a shell."""
    monkeypatch.chdir(odd)
    command("train", *TINY, "hydra.run.dir=r", cwd=odd).ok()
    for t_max, path in ((3, "r/checkpoints/last.ckpt"), (4, str(odd / "r/checkpoints/last.ckpt"))):
        command("train", f"ckpt={path}", f"schedule.t_max={t_max}", cwd=odd).ok()
        assert rows(odd / "r")[-1]["t"] == t_max
    command("collect", str(odd), cwd=odd.parent).ok()
    assert (odd / "collected" / "runs.csv").exists()


def test_a_sweep_goes_on_wherever_it_is(odd, command, monkeypatch):
    monkeypatch.chdir(odd)
    asked = ["train", "-m", *TINY, "seed=0,1"]
    command(*asked, cwd=odd).ok()
    assert len(list((odd / "multirun").glob("*/summary.json"))) == 2
    assert command(*asked, cwd=odd).ok().out.splitlines()[0] == "2 runs in multirun: 2 complete"


def test_data_are_read_wherever_they_are(odd, command, monkeypatch):
    monkeypatch.chdir(odd)
    x = np.random.default_rng(0).normal(size=(60, 3))
    np.savez(odd / "data.npz", x=x, y=np.sign(x[:, 0]))
    settings = [word for word in TINY if word.partition("=")[0] not in ("N", "d", "data.n_test")]
    command(
        "train", *settings, "data=npz", f"data.source.file={quoted(str(odd / 'data.npz'))}", "hydra.run.dir=r", cwd=odd
    ).ok()
    assert rows(odd / "r")[-1]["t"] == 2.0
    command("train", "ckpt=r/checkpoints/last.ckpt", "schedule.t_max=3", cwd=odd).ok()
    assert rows(odd / "r")[-1]["t"] == 3.0


TEXTS = [*NAMES, "a\\'b", "\\\\'", "'", "''", "\\", "a\\\\", "${a}", "\\${a}", "a'${b}\\"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_is_quoted_is_read_as_it_is(text):
    with Source().opened():
        (override,) = parsed([f"ckpt={quoted(text)}"])
    assert OmegaConf.create({"x": override.value()}).x == text


def test_where_hydra_cannot_work_is_said(tmp_path, command):
    (tmp_path / "${a}").mkdir()
    ended = command("train", *TINY, cwd=tmp_path / "${a}")
    assert ended.status == 2
    assert "Hydra takes ${ for a setting" in ended.err
    assert ended.err.count("\n") == 1
    assert not list((tmp_path / "${a}").iterdir())
