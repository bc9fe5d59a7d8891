"""The benchmarks: every table is made and written, and the contestants that are timed compute the same."""

from __future__ import annotations

import math
import runpy
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mfnet.flow import Averaged, Euler
from support.shared import made_once
from support.type_checks import unchecked

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"
CPU = torch.device("cpu")
TABLES = ("A single gradient", "Whole ways", "Small problems", "Reduced precision", "Peak memory", "An ensemble")

pytestmark = [pytest.mark.slow, pytest.mark.unchecked]


@pytest.fixture(scope="module", autouse=True)
def package():
    """The package, which is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        yield


@contextmanager
def tiny(**changes):
    """With sizes that take no time, and without the time of a real compiler."""
    from benchmark import ensemble, plain, settings, small

    way = settings.Way(1.0, 1.0, 100, 20, (10.0, 20.0))
    sizes = {
        "sizes": ((80, 20),),
        "ways": (way,),
        "small": ((60, 20, 4),),
        "halvings": 1,
        "memory_sizes": ((100, 20),),
        "precision_sizes": ((80, 20), (60, 20)),
    }
    quick = replace(settings.QUICK, **sizes, replicas=(2,), budget=0.0)
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, unchecked():
        patch.setattr(settings, "QUICK", quick)
        patch.setattr(small, "TIMES", (10.0, 20.0))
        patch.setattr(ensemble, "N", 60)
        patch.setattr(ensemble, "M", 20)
        patch.setattr(plain, "BACKEND", changes.get("backend", "eager"))
        plain.compiles.cache_clear()
        yield
    plain.compiles.cache_clear()
    torch.set_num_threads(threads)


def made(path, *arguments):
    """The sections of the page after a run."""
    from benchmark.command import main
    from benchmark.page import sections_of

    main(["--quick", *arguments, "--output", str(path)])
    return sections_of(path.read_text(encoding="utf-8"))


def rows(section):
    """The rows of a section's table, by the names of its columns."""
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    columns, _, *cells = lines
    return [dict(zip(columns, row, strict=True)) for row in cells]


@pytest.fixture(scope="module")
def page(package, tmp_path_factory):
    def make(folder):
        with tiny():
            made(folder / "page.md", "--reference")

    return made_once(tmp_path_factory, "benchmark", make) / "page.md"


@pytest.fixture
def sections(page):
    from benchmark.page import sections_of

    return sections_of(page.read_text(encoding="utf-8"))


def test_every_table_says_what_made_it(page, sections):
    text = page.read_text(encoding="utf-8")
    assert tuple(sections) == TABLES
    for section in sections.values():
        first = section.splitlines()[0]
        assert first.startswith("`python scripts/benchmark --quick --reference`: ")
        assert all(what in first for what in ("cores, 1 thread;", "Python 3.", f"torch {torch.__version__}", "commit"))
    assert text.index("# Benchmarks") == 0
    assert str(ROOT) not in text
    assert str(page.parent) not in text


@pytest.mark.parametrize(
    ("title", "n_rows", "numbers"),
    [
        ("A single gradient", 1, ("ours, ms", "(a)/ours", "(a′)/ours", "(b)/ours", "ours/(c)", "ours/(c′)")),
        ("Whole ways", 5, ("steps", "gradients", "s", "s/ours")),
        ("Small problems", 4, ("steps", "processor s", "wall s", "processor/ours", "wall/ours", "Δγ")),
        ("Reduced precision", 3, ("ms", "rates", "outputs", "margins, α = 1", "displacement, α = 1")),
        ("Peak memory", 1, ("one gradient", "3 steps of the flow", "a step of (a)")),
        ("An ensemble", 2, ("together, s", "one after the other, s", "ratio", "median Δw", "largest Δw")),
    ],
)
def test_every_table_has_its_numbers(sections, title, n_rows, numbers):
    found = rows(sections[title])
    assert len(found) == n_rows
    for row in found:
        assert all(math.isfinite(float(row[name])) and float(row[name]) >= 0.0 for name in numbers)


def test_ways_and_small_problems_have_every_contestant(sections):
    assert [row["who"] for row in rows(sections["Whole ways"])] == ["ours", "(a)", "(a′)", "(b)", "(d)"]
    assert [row["who"] for row in rows(sections["Small problems"])] == ["ours", "(a)", "(a′)", "(d)"]


def test_errors_are_compared_with_the_reference_where_they_are_known(sections):
    for row in rows(sections["Whole ways"]):
        errors = [row["Δ train error"], row["Δ test error"]]
        if row["who"] in ("ours", "(d)"):
            assert all(0.0 <= float(error) < 0.1 for error in errors)
        else:
            assert errors == ["–", "–"]


def test_replicas_are_the_single_flows(sections):
    """In float64; in float32 rounding may change a step."""
    _, row = rows(sections["An ensemble"])
    assert (row["dtype"], row["same end and steps"]) == ("float64", "2 of 2")
    assert float(row["largest Δw"]) < 1e-10


def test_a_run_of_one_table_replaces_its_section_alone(page, sections, tmp_path):
    copy = tmp_path / "page.md"
    copy.write_text(page.read_text(encoding="utf-8") + "\n## Notes\n\nBy hand.\n", encoding="utf-8")
    with tiny():
        new = made(copy, "--only", "gradient", "--N", "60", "90")
    assert tuple(new) == (*TABLES, "Notes")
    assert [row["N"] for row in rows(new["A single gradient"])] == ["60", "90"]
    assert new["Notes"] == "By hand."
    assert all(new[title] == sections[title] for title in TABLES[1:])


def test_without_a_compiler_there_is_a_dash_and_a_word(tmp_path):
    def broken(*_):
        raise FileNotFoundError("no compiler")

    with tiny(backend=broken):
        section = made(tmp_path / "page.md", "--only", "gradient")["A single gradient"]
    assert "there is no (a′)" in section
    (row,) = rows(section)
    assert row["(a′)/ours"] == "–"
    assert float(row["(a)/ours"]) > 0.0


def difference(nodes, others, initial):
    """Relative to how far the others have moved."""
    moved = sum(float((b - c).square().sum()) for b, c in zip(others, initial, strict=True))
    return math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(nodes, others, strict=True)) / moved)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 100.0])
def test_contestants_go_the_same_way(alpha):
    """In equal steps to rounding; where steps adapt, to what these may miss."""
    from benchmark.adaptive_euler import AdaptiveEuler
    from benchmark.following import FlowOf
    from benchmark.plain import PlainLoop
    from benchmark.problems import make_problem

    end = min(alpha, 1.0)
    dt = end / 200.0
    problem = make_problem(100, 20, 10, device=CPU, dtype=torch.float64)

    def nodes(traveller):
        assert traveller.advance(end)
        return [values.clone() for values in traveller.nodes]

    euler = nodes(FlowOf(problem, Euler(problem.objective(alpha), dt)))
    initial = problem.networks.initial_nodes
    with tiny():
        same = [
            nodes(PlainLoop(problem, alpha, dt)),
            nodes(PlainLoop(problem, alpha, dt, compiled=True)),
            nodes(AdaptiveEuler(problem, alpha, dt, shortest=dt, bound=0.0)),
        ]
    assert all(difference(each, euler, initial) < 1e-10 for each in same)
    adaptive = nodes(AdaptiveEuler(problem, alpha, 20.0 * dt, shortest=0.1 * dt, bound=1e-3))
    assert 1e-10 < difference(adaptive, euler, initial) < 0.02
    ours = nodes(FlowOf(problem, Averaged(problem.objective(alpha))))
    assert difference(ours, euler, initial) < 0.02


def test_adaptive_steps_grow_and_shrink():
    from benchmark.adaptive_euler import GROW, SHRINK, AdaptiveEuler, relative_change
    from benchmark.problems import make_problem

    one, two = torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0])
    assert relative_change((one, one), (one, two)) == 0.5
    assert relative_change((0.0 * one,), (one,)) == 0.0
    problem = make_problem(100, 20, 10, device=CPU)
    flow = AdaptiveEuler(problem, 1.0, 0.01, shortest=1e-3, bound=1e9)
    flow.advance(0.021)
    assert flow.t == pytest.approx(0.021)
    assert (flow.n_steps, flow.n_gradients, flow.dt) == (2, 3, pytest.approx(0.01 * GROW**2))
    flow.bound = 0.0  # refused once, then as short as steps may be
    flow.advance(0.022)
    assert (flow.n_steps, flow.n_gradients, flow.dt) == (3, 4, pytest.approx(0.01 * GROW**2))
    flow.advance(0.032)
    assert flow.dt == pytest.approx(max(0.01 * SHRINK, 1e-3))
    assert AdaptiveEuler(problem, 1.0, 0.01, shortest=1e-3, patience=0.0).advance(1.0) is False


def test_the_command_runs_from_anywhere(tmp_path, monkeypatch, capsys):
    """As Python runs a directory; what it imports is found by what it does to the path, not by that of the tests."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(SCRIPTS)])
    monkeypatch.setattr(sys, "argv", ["benchmark", "--help"])
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmark"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(SCRIPTS / "benchmark"), run_name="__main__")
    assert "--reference" in capsys.readouterr().out
