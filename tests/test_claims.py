"""The validation page: rules that can fail, claims that can be refuted, and a page that survives both."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from mfnet.claims import CLAIMS, Claim, Effort, Evidence, Verdict, command, inside, near
from mfnet.claims.onset import exponent, minimum_of
from mfnet.claims.simulation import Record, Setup, final_nodes, population, train
from mfnet.claims.width import first_crossing
from mfnet.figures.claims import Line, Plot
from mfnet.flow import Averaged, Euler, Rotation
from mfnet.theory import MeanField

SETUP = Setup(30, 20, 60, n_test=200)


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [(1.0, "holds"), (1.49, "holds"), (0.51, "holds"), (1.51, "fails"), (0.49, "fails"), (math.nan, "fails")],
)
def test_near_allows_three_standard_errors_and_what_is_neglected(measured, verdict):
    row = near("case", "simulation", 1.0, measured, 0.1, neglected=0.2, because="terms of order 1/M")
    assert row.verdict == verdict
    assert row.deviation == pytest.approx(measured - 1.0, nan_ok=True)
    assert row.rule == "within 3 standard errors + 0.2 (terms of order 1/M)"


def test_a_share_holds_between_its_bounds_alone():
    verdicts = [inside("c", "s", 0.683, share, (0.6, 0.75)).verdict for share in (0.59, 0.6, 0.75, 0.76)]
    assert verdicts == ["fails", "holds", "holds", "fails"]
    assert inside("c", "s", 0.683, 0.9, (0.6, 0.75), claimed=False).verdict is Verdict.NOT_CLAIMED


def test_every_claim_says_what_where_and_by_whom():
    for name, claim in CLAIMS.items():
        assert claim.name == name
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert claim.statement
        assert claim.regime
        assert claim.source
        assert claim.check.__doc__


#: Those whose quick form does not depend on the luck of a few seeds.
SURE = ("clock", "regimes", "population", "start", "ways")


@pytest.mark.parametrize("name", SURE)
def test_quick_claims_hold(name):
    evidence = CLAIMS[name].check(Effort(quick=True))
    verdicts = {row.case: row.verdict for row in evidence.rows}
    assert Verdict.HOLDS in verdicts.values()
    assert [case for case, verdict in verdicts.items() if verdict is Verdict.FAILS] == []


@pytest.mark.parametrize("name", [name for name in CLAIMS if name not in SURE])
def test_quick_claims_run(name):
    evidence = CLAIMS[name].check(Effort(quick=True))
    assert all(math.isfinite(row.measured) for row in evidence.rows if row.claimed)
    assert len({plot.name for plot in evidence.plots}) == len(evidence.plots)
    assert len({row.case for row in evidence.rows}) == len(evidence.rows)


def test_a_wrong_theory_is_refuted(monkeypatch):
    """A force that is 20 % too large."""
    right = MeanField.force
    monkeypatch.setattr(MeanField, "force", lambda self, slope: 1.2 * right(self, slope))
    for name in ("clock", "population"):
        verdicts = [row.verdict for row in CLAIMS[name].check(Effort(quick=True)).rows]
        assert verdicts.count(Verdict.FAILS) >= len(verdicts) / 2


# ---------------------------------------------------------------- the page


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
    monkeypatch.setattr(command, "CLAIMS", claims)
    return seen


def test_a_claim_that_raises_or_fails_does_not_lose_the_others(three_claims, tmp_path, capsys):
    page = tmp_path / "page"
    assert command.main(["--out", str(page), "--processes", "1"]) == 1
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
    command.main(["--out", str(tmp_path / "page"), "--processes", "1"])
    assert "Not checked yet: holds, raises, fails." in three_claims["holds"]
    assert "## holds" in three_claims["raises"]
    assert "Not checked yet: fails." in three_claims["fails"]


def test_claims_are_run_by_name(three_claims, tmp_path):
    assert command.main(["holds", "--out", str(tmp_path / "page"), "--processes", "1"]) == 0
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
    assert command.main(arguments) == 2
    assert capsys.readouterr().err == f"mfnet validate: error: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_page_once(tmp_path):
    def validate(*arguments):
        line = [sys.executable, "-m", "mfnet", "validate", *arguments]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = validate("clock", "--quick", "--out", "page")
    assert done.returncode == 0, done.stderr
    before = (tmp_path / "page" / "validation.md").read_bytes()
    again = validate("clock", "--quick", "--out", "page")
    assert again.returncode == 2
    assert len(again.stderr.splitlines()) == 1
    assert (tmp_path / "page" / "validation.md").read_bytes() == before


def test_the_list_names_every_claim(capsys):
    assert command.main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(CLAIMS)


# ---------------------------------------------------------------- simulations


def _final(setup):
    return train(setup, [5.0, 20.0]).gamma


def test_results_depend_on_the_seed_and_not_on_the_processes():
    setups = SETUP.seeds(3)
    one = Effort(quick=True).map(_final, setups)
    with Effort(quick=True, processes=2) as effort:
        two = effort.map(_final, setups)
    assert np.array_equal(one, two)
    assert len({tuple(values) for values in one}) == 3


def test_the_number_of_threads_is_restored():
    before = torch.get_num_threads()
    inside_map = Effort(quick=True).map(lambda _: torch.get_num_threads(), [0])
    assert inside_map == [1]
    assert torch.get_num_threads() == before


def test_a_run_that_ends_stays_where_it_is():
    record = train(SETUP, [1.0, 1e5, 2e5], Averaged, probes=np.eye(20))
    assert record.t_end < 1e5
    assert record.unsatisfied[1] == record.unsatisfied[2] == 0.0
    assert record.mean_force[2] == 0.0
    assert record.gamma[0] < record.gamma[1] == record.gamma[2]
    assert np.array_equal(record.excess[1], record.excess[2])
    nodes = final_nodes(SETUP, 1.0, Averaged)
    assert nodes.shape == (30, 21)
    assert record.overlap[0] == pytest.approx(np.mean(nodes[:, 0] * nodes[:, 1]), rel=1e-6)


def test_a_run_that_is_lost_says_so():
    with pytest.raises(RuntimeError, match="diverged"):
        train(Setup(30, 5, 100, alpha=1e-3, loss="square"), [1e4, 2e4], lambda objective: Euler(objective, 1e3))


def test_excess_is_that_of_the_nodes():
    """F(x) of numpy's sum over the nodes, at the same initial network."""
    probes = np.random.default_rng(0).normal(size=(4, 5))
    setup = Setup(30, 5, 100, double=True)
    record = train(setup, [3.0], lambda objective: Rotation(objective, 0.1), probes)
    nodes = final_nodes(setup, 3.0, lambda objective: Rotation(objective, 0.1))
    network = setup.network()
    a0, w0 = network.a0.numpy(), network.w0.numpy()
    f = np.maximum(probes @ nodes[:, 1:].T / math.sqrt(5), 0.0) @ nodes[:, 0] / 30
    f0 = np.maximum(probes @ w0.T / math.sqrt(5), 0.0) @ a0 / 30
    assert record.excess[0] == pytest.approx(f - f0, rel=1e-12)


def test_fresh_labels_are_flipped_and_test_labels_are_not():
    """A linear network learns the population with ε = 0.3 to a small error on true labels."""
    setup = Setup(400, 5, 4000, activation="linear", flip=0.3, n_test=4000)
    record = population(setup, [10.0], lambda objective: Rotation(objective, 0.5))
    assert record.test_error[0] < 0.03
    assert record.unsatisfied[0] > 0.3
    twin = population(Setup(400, 5, 4000, activation="linear", n_test=4000), [10.0], lambda o: Rotation(o, 0.5))
    assert twin.gamma[0] > 1.3 * record.gamma[0]


# ---------------------------------------------------------------- analysis


def _records(errors, t):
    """Runs with these test errors, and n_u = t^{−1/2} as the averaged force of the middle of each interval."""
    force = np.append(0.0, (t[1:] * t[:-1]) ** -0.25)
    zero = np.zeros_like(t)
    return [Record(t, zero, zero, zero, force, error, np.zeros((len(t), 0)), 1, 1.0, t[-1]) for error in errors]


def test_the_minimum_of_several_runs_and_its_error():
    """Minima at ln t* = ln 30 ± 0.3 over 16 seeds: the mean's is at 30 within 0.3/4, which resampling must find."""
    rng = np.random.default_rng(0)
    t = np.geomspace(1.0, 1000.0, 73)
    found = []
    for _ in range(20):
        bottoms = 30.0 * np.exp(0.3 * rng.normal(size=(16, 1)))
        found.append(minimum_of(_records(0.02 + 0.01 * np.log(t / bottoms) ** 2, t), unit=10.0))
    times = np.array([least.t for least in found])
    spread = np.array([np.log(least.draws[0]).std() for least in found])
    assert np.log(times / 3.0).std() == pytest.approx(0.3 / 4, rel=0.5)
    assert np.log(times / 3.0).mean() == pytest.approx(0.0, abs=4 * 0.3 / 4 / math.sqrt(20))
    assert spread.mean() == pytest.approx(0.3 / 4, rel=0.15)
    for least in found:
        assert least.inside
        assert least.n_u == pytest.approx((10.0 * least.t) ** -0.5, rel=2e-3)


def test_an_error_that_only_falls_has_no_minimum():
    t = np.geomspace(1.0, 100.0, 49)
    least = minimum_of(_records([1.0 / t, 2.0 / t], t), unit=1.0)
    assert not least.inside
    assert "no minimum" in least.described


def test_an_exponent_and_its_error():
    """y = x^0.4 with 5 % scatter: the error agrees with the spread of fits to many such data sets."""
    rng = np.random.default_rng(0)
    x = np.geomspace(0.01, 0.1, 5)
    fits = []
    for _ in range(100):
        y = x**0.4 * np.exp(0.05 * rng.normal(size=5))
        draws = y[:, None] * np.exp(0.05 * rng.normal(size=(5, 100)))
        fits.append(exponent(x, y, draws))
    slopes, errors = np.array(fits).T
    assert slopes.mean() == pytest.approx(0.4, abs=4 * slopes.std() / math.sqrt(100))
    assert errors.mean() == pytest.approx(slopes.std(), rel=0.15)


def test_the_first_crossing_is_interpolated():
    times = np.array([1.0, 2.0, 4.0])
    excess = np.array([[0.0, 0.5, 1.5], [0.0, 0.2, 0.4], [0.0, 1.2, 0.5]])
    assert first_crossing(times, excess, 2.0) == pytest.approx([2.0, math.inf, 1.0 + 0.5 / 1.2])
