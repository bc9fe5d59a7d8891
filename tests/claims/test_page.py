"""The validation page: it survives claims that raise or fail."""

from __future__ import annotations

import json
import math
import re

import pytest

from mfnet.claims import CLAIMS, Claim, Evidence, near
from mfnet.cli import validate
from mfnet.figures.claims import Line, Plot


def _claim(name, check):
    return Claim(name, f"statement of {name}", "regime", "source", check)


@pytest.fixture
def three_claims(monkeypatch, tmp_path):
    """One that holds, one that raises, one that fails; each sees the page as it was before it."""
    seen = {}

    def look(name):
        seen[name] = (tmp_path / "page" / "validation.md").read_text()

    def holds(effort):
        look("holds")
        plot = Plot("curve", "A | curve.", "$t$", "$y$", [Line("y", [1.0, 10.0], [2.0, 3.0], [0.1, 0.1])], "x")
        return Evidence([near("a|b", "s", 1.0, 1.0)], [plot])

    def raises(effort):
        look("raises")
        raise RuntimeError("the flow was lost")

    def fails(effort):
        look("fails")
        return Evidence([near("x", "s", 1.0, 2.0), near("y", "s", math.inf, 2.0), near("z", "s", 0.0, 0.0)])

    claims = {name: _claim(name, check) for name, check in (("holds", holds), ("raises", raises), ("fails", fails))}
    monkeypatch.setattr(validate, "CLAIMS", claims)
    return seen


def test_a_claim_that_raises_or_fails_does_not_lose_the_others(three_claims, tmp_path, capsys):
    page = tmp_path / "page"
    assert validate.main(["--out", str(page), "--processes", "1"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[:3]] == ["holds", "raises", "fails"]
    assert all(re.search(r"\d+\.\d s", line) for line in printed[:3])
    text = (page / "validation.md").read_text()
    assert "RuntimeError: the flow was lost" in text
    assert "| **fails** |" in text
    assert "Not checked yet" not in text
    for link in re.findall(r"\]\((figures/.*?)\)", text):
        assert (page / link).stat().st_size > 1000
    assert "![A | curve.](figures/curve.png)" in text
    cells = {line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("| a")}
    assert cells == {9}  # eight columns; a bar in a cell is escaped
    saved = json.loads((page / "claims.json").read_text(), parse_constant=pytest.fail)
    assert [claim["name"] for claim in saved] == ["holds", "raises", "fails"]
    assert [row["verdict"] for row in saved[2]["rows"]] == ["fails", "fails", "holds"]
    assert saved[2]["rows"][0]["deviation"] == 1.0
    assert saved[2]["rows"][1]["predicted"] is None  # infinity is not JSON
    assert saved[0]["figures"] == ["figures/curve.png"]
    assert "the flow was lost" in saved[1]["error"]


def test_the_page_is_complete_after_each_claim(three_claims, tmp_path):
    validate.main(["--out", str(tmp_path / "page"), "--processes", "1"])
    assert "Not checked yet: holds, raises, fails." in three_claims["holds"]
    assert "## holds" in three_claims["raises"]
    assert "Not checked yet: fails." in three_claims["fails"]


def test_claims_are_run_by_name(three_claims, tmp_path):
    assert validate.main(["holds", "--out", str(tmp_path / "page"), "--processes", "1"]) == 0
    assert list(three_claims) == ["holds"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clok"], "'clok' is not a claim; did you mean clock? (mfnet validate --list)"),
        (["--out", "."], ". exists already; name another directory with --out"),
        (["--processes", "0"], "--processes 0: must be at least 1"),
    ],
)
def test_mistakes_cost_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert validate.main(arguments) == 2
    assert capsys.readouterr().err == f"mfnet validate: error: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_page_once(command, tmp_path):
    command("validate", "clock", "--quick", "--out", "page").ok()
    before = (tmp_path / "page" / "validation.md").read_bytes()
    again = command("validate", "clock", "--quick", "--out", "page")
    assert again.status == 2
    assert len(again.err.splitlines()) == 1
    assert (tmp_path / "page" / "validation.md").read_bytes() == before


def test_the_list_names_every_claim(capsys):
    assert validate.main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(CLAIMS)
