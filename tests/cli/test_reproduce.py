"""The figures of the paper and more, in small, from the runs that they need."""

from __future__ import annotations

import pytest

from mfnet.figures.experiments import EXPERIMENTS
from support.command import NO_EVENTS
from support.finished_runs import jobs


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_reproduced_in_small(name, command, tmp_path):
    """All of its runs come to their end, and its figure is drawn."""
    printed = command("reproduce", name, "small=true", *NO_EVENTS).ok().out
    sweep, n_runs = tmp_path / "outputs" / "reproduced" / "small" / name, len(jobs(f"small/{name}"))
    assert f"{n_runs} of {n_runs} run" in printed
    assert len(list(sweep.glob("*/summary.json"))) == n_runs
    assert (sweep / f"{name}.png").stat().st_size > 20_000


@pytest.mark.slow
def test_what_is_reproduced_already_is_not_run_again(command, tmp_path):
    tiny = ["reproduce", "fig2", "small=true", "M=20", "N=50", "d=5", "data.n_test=50", "schedule.per_decade=2"]
    assert "2 new" in command(*tiny, *NO_EVENTS).ok().out
    (sweep,) = (tmp_path / "outputs" / "reproduced" / "small").iterdir()
    files = {path: path.stat().st_mtime_ns for path in sweep.glob("*/*") if path.is_file()}
    assert len(files) > 6
    (sweep / "fig2.png").unlink()
    assert "2 complete" in command(*tiny, *NO_EVENTS).ok().out
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert (sweep / "fig2.png").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fgi1"], "did you mean fig1"),
        (["fig1", "small=yes"], "small=yes"),
        (["fig1", "alhpa=1"], "did you mean alpha"),
        (["all", "N=0"], "N=0"),
        (["overfitting", "seed=0"], "seed=0: the figure of overfitting compares several, such as seed=range(4)"),
        (["all", "small=true", "network.activation=gelu"], "compares several, such as network.activation=relu,tanh"),
    ],
)
def test_a_mistake_in_what_is_reproduced_costs_one_line(arguments, expected, command, tmp_path):
    ended = command("reproduce", *arguments)
    assert ended.status == 2
    assert expected in ended.err
    assert ended.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
