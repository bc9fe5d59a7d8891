"""Experiments: their settings, what their figures compute, and that each figure is drawn, from made-up runs."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from mfnet.collection import Points, collect, onsets, spread, until_first_end
from mfnet.figures.experiments import EXPERIMENTS, caption, crossover, fig2, mislabeled, universality
from mfnet.theory import MeanField, Onset
from support.finished_runs import composed, jobs, model, moved_nodes, write

SMALL = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "experiment" / "small").glob("*.yaml"))


# ---------------------------------------------------------------- settings


def test_every_figure_has_an_experiment_in_two_sizes():
    assert set(SMALL) == set(EXPERIMENTS)


@pytest.mark.unchecked
@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_both_sizes_are_allowed_and_one_is_smaller(name):
    size = {}
    for experiment in (name, f"small/{name}"):
        sweep = jobs(experiment)
        configs = [composed(experiment, job)[0] for job in (sweep[0], sweep[-1])]  # which checks them
        size[experiment] = len(sweep) * max(config["M"] * config["N"] * config["d"] for config in configs)
    assert 3.0 * size[f"small/{name}"] <= size[name]


def test_a_small_experiment_keeps_what_it_does_not_change():
    large, small = composed("crossover")[0], composed("small/crossover")[0]
    assert small.pop("data") == large.pop("data") | {"n_test": 4000}
    assert small == large  # but for a smaller sweep
    nodes = composed("small/fig2")[0]["callbacks"]["node_log"]["n"]
    assert nodes == composed("small/fig2")[0]["M"]


@pytest.mark.parametrize(
    ("name", "N", "alpha", "learning_rate", "n_steps"),
    [("fig1", 100_000, 1.0, 1e3, 2000), ("fig2a", 10_000, 1e3, 1e4, 3000), ("fig2b", 10_000, 1e-3, 1.0, 300)],
)
def test_the_papers_runs_and_steps(name, N, alpha, learning_rate, n_steps):
    """As the captions give them: a step of the learning rate η advances t by η/M."""
    for paper, flow in ((name, "mfnet.flow.Averaged"), (f"{name}_euler", "mfnet.flow.Euler")):
        config = composed(name[:4], [f"paper={paper}"])[0]
        assert (config["M"], config["N"], config["d"], config["alpha"], config["h"]) == (400, N, 100, alpha, 1.0)
        assert config["flow"]["_target_"] == flow
        assert config["schedule"]["t_max"] == pytest.approx(n_steps * learning_rate / 400, rel=1e-12)
    assert config["flow"]["dt"] == pytest.approx(learning_rate / 400, rel=1e-12)


def test_a_caption_is_quoted_beside_the_papers_runs_alone():
    ended = {"train_error": 0.0, "test_error": 0.0371, "n_unsatisfied": 23}
    config = composed("fig2", ["paper=fig2a"])[0]
    measured, said = caption.lines({"config": config, **ended})
    assert measured == r"training error $0$, test error $0.0371$, $n_\mathrm{u}$ = $2.3\times 10^{-3}$"
    assert said == r"paper, $t$ = $7.5\times 10^{4}$: fitted, test error 0.04"
    for change in ({"M": 200}, {"N": 5000}, {"alpha": 1.0}):
        assert caption.lines({"config": config | change, **ended})[1:] == []


# ---------------------------------------------------------------- what figures compute


def test_the_spread_of_shifted_lines_is_their_shift():
    """y = ln x shifted by k·s in ln x, k = 0, 1, 2: standard deviation s√(2/3), whatever the range."""
    x, s = np.geomspace(1e-2, 1e2, 9), math.log(4.0)
    curves = [Points(x * math.exp(k * s), np.log(x)) for k in range(3)]
    assert spread(curves) == pytest.approx(s * math.sqrt(2.0 / 3.0) / (4.0 * math.log(10.0)), rel=1e-12)
    assert spread([Points(x, np.log(x)), Points(x[2:7], np.log(x[2:7]))]) == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ([Points(np.array([1.0, 2.0]), np.array([0.0, 1.0]))], "at least two curves"),
        ([Points(np.array([1.0, 2.0]), np.arange(2.0)), Points(np.array([3.0, 4.0]), np.arange(2.0))], "no common"),
        ([Points(np.array([1.0, 2.0]), np.ones(2))] * 2, "equal"),
    ],
)
def test_a_spread_that_means_nothing_is_refused(curves, message):
    with pytest.raises(ValueError, match=message):
        spread(curves)


def test_spreads_tell_which_scaling_depends_on_alpha_alone():
    """Power laws of alpha for every M: no spread against α in 1/M scaling; M of ratio 16 are ln 4 apart in α√M."""
    alphas = np.geomspace(0.1, 1e3, 9)
    table = pd.DataFrame(
        [{"alpha": a, "M": M, "displacement_mean": 1 / a, "kernel_change_mean": 1 / a, "test_error_mean": np.log(a)}
         for a in alphas for M in (100, 1600)]
    )  # fmt: skip
    found = crossover.spreads(table)
    apart = 0.5 * math.log(4.0) / (4.0 * math.log(10.0))
    expected = dict(zip((view.name for view in crossover.VIEWS), (0.0, apart, apart, 0.0), strict=True))
    for observable in crossover.OBSERVABLES:
        assert found[observable.name] == pytest.approx(expected, abs=1e-12)


def test_onsets_are_where_the_made_up_error_is_least():
    t = np.geomspace(1.0, 1e3, 31)
    curves = pd.concat(
        [
            pd.DataFrame(
                {
                    "N": N,
                    "t": t,
                    "test_error_network_mean": 0.02 + 0.01 * (np.log(t / least)) ** 2,
                    "unsatisfied_network_mean": 1.0 / t,
                }
            )
            for N, least in ((100, 30.0), (400, 2e3))
        ]
    )
    found = onsets(curves, ["N"])
    assert list(found) == ["N", *Onset._fields]
    assert found["t"][0] == pytest.approx(30.0, rel=1e-6)
    assert found["test_error"][0] == pytest.approx(0.02, rel=1e-6)
    assert found["unsatisfied"][0] == pytest.approx(1.0 / 30.0, rel=0.02)
    assert found["inside"].tolist() == [True, False]


def test_predictions_are_averaged_until_the_first_run_ends():
    curves = pd.DataFrame({"N": [1, 1, 1, 2, 2], "t": [0.0, 1.0, 2.0, 1.0, 2.0]})
    runs = pd.DataFrame({"N": [1, 1, 2], "t_end": [1.0, 2.0, 2.0]})
    kept = until_first_end(curves, runs, ["N"])
    assert kept.to_dict("list") == {"N": [1, 1, 2, 2], "t": [0.0, 1.0, 1.0, 2.0]}


def test_ellipses_are_those_of_the_density():
    """Axes from the covariance, of cosh 2γ and sinh 2γ; on the ellipse the density is e^{−n²/2} of its peak."""
    gamma = 0.7
    covariance = np.array([[np.cosh(2 * gamma), np.sinh(2 * gamma)], [np.sinh(2 * gamma), np.cosh(2 * gamma)]])
    across, along = 2.0 * 2.0 * np.sqrt(np.linalg.eigvalsh(covariance))
    assert fig2.ellipse(gamma, 2.0) == pytest.approx((along, across))
    solution = MeanField(d=20).solve([0.0, float(MeanField(d=20).time_of(gamma))])
    on = along / 2.0 / math.sqrt(2.0)
    assert solution.density(on, on) / solution.density(0.0, 0.0) == pytest.approx(math.exp(-2.0), rel=1e-6)


def test_fixed_points_are_those_of_theory():
    """z_c* = √(2 ln((1−ε)/(1−2ε))), γ* = ½ asinh(2√d h/(α z_c*)), n_u* = ε + (1−ε) erf(z_c*/√2)."""
    z_c = math.sqrt(2.0 * math.log(0.9 / 0.8))
    gamma, n_u = mislabeled.fixed_point(MeanField(d=100, flip=0.1))
    assert gamma == pytest.approx(0.5 * math.asinh(20.0 / z_c), rel=1e-8)
    assert n_u == pytest.approx(0.1 + 0.9 * math.erf(z_c / math.sqrt(2.0)), rel=1e-6)
    assert mislabeled.fixed_point(MeanField(d=100)) == (math.inf, 0.0)


# ---------------------------------------------------------------- figures of made-up runs


def drawn(name, sweep, tmp_path):
    """The figure, as an image that is not blank."""
    path = EXPERIMENTS[name].draw(collect(sweep), tmp_path / "new" / f"{name}.png")
    assert path == tmp_path / "new" / f"{name}.png"
    image = matplotlib.image.imread(path)[..., :3]
    assert min(image.shape[:2]) > 600
    assert image.std() > 0.05


def test_figure_1(tmp_path):
    config, t = composed("small/fig1")[0], np.array([0.0, *np.geomspace(1.0, 1000.0, 9)])
    examples = {"x_par": np.array([0.3, 1.0, 2.0]), "t_sat": np.array([200.0, 60.0, 30.0]), "t": t}
    write(tmp_path / "sweep" / "0", config, t, {}, moved_nodes(config, t, 30), examples)
    drawn("fig1", tmp_path / "sweep", tmp_path)


@pytest.mark.slow
def test_figure_2_has_the_lazy_run_first(tmp_path):
    for number, job in enumerate(jobs("small/fig2")[::-1]):
        config = composed("small/fig2", job)[0]
        t = model(config).time_scale * np.array([0.0, 0.1, 0.5, 1.0, 5.0])
        write(tmp_path / "sweep" / str(number), config, t, {"test_error_network": 0.01 * t}, moved_nodes(config, t, 50))
    lazy, rich = fig2.motions(collect(tmp_path / "sweep"))
    assert (lazy.model.alpha, rich.model.alpha) == (1e3, 1e-3)
    assert lazy.summary["test_error"] == pytest.approx(0.05 * lazy.model.time_scale)
    np.testing.assert_allclose(np.cosh(rich.gamma), np.cosh(rich.model.solve(rich.nodes["t"]).gamma))
    drawn("fig2", tmp_path / "sweep", tmp_path)


@pytest.mark.unchecked
@pytest.mark.slow
@pytest.mark.parametrize("name", ["overfitting", "mislabeled", "crossover"])
def test_figures_over_settings(name, tmp_path):
    t = np.array([0.0, *np.geomspace(0.1, 1000.0, 12)])
    for number, job in enumerate(jobs(f"small/{name}")):
        config = composed(f"small/{name}", job)[0]
        error = 0.02 + 0.01 * np.log(np.maximum(t, 0.1) / (50.0 + config["seed"])) ** 2 + 1e-4 * config["alpha"]
        ends = {"displacement_network": t / config["alpha"], "kernel_change_network": t / config["alpha"] ** 2}
        columns = {"test_error_network": error, "test_error_kernel_closure": 0.9 * error, **ends}
        write(tmp_path / "sweep" / str(number), config, t, columns)
    drawn(name, tmp_path / "sweep", tmp_path)


@pytest.mark.unchecked
@pytest.mark.slow
def test_runs_on_their_clocks_do_not_deviate_from_universality(tmp_path):
    """Nor do they but for the factor by which a measured γ is off; n_u is then compared at that γ."""
    for number, job in enumerate(jobs("small/universality")[:5]):
        config = composed("small/universality", job)[0]
        t = model(config).time_scale * np.array([0.0, 0.5, 2.0])
        solution = model(config).solve(t)
        if number == 0:  # one run of five
            columns = {"gamma_network": 1.1 * solution.gamma}
            reach = np.sinh(2.2 * solution.gamma[1:]) * model(config).odd_slope / math.sqrt(config["d"])
            off = solution.unsatisfied[1:] - [math.erf(1.0 / (r * math.sqrt(2.0))) for r in reach]
        write(tmp_path / "sweep" / str(number), config, t, columns if number == 0 else {}, moved_nodes(config, t, 12))
    found = universality.deviations(universality.clocked(collect(tmp_path / "sweep")))
    assert found["gamma"] == pytest.approx(0.1 / math.sqrt(5.0), rel=1e-6)
    assert found["unsatisfied"] == pytest.approx(math.sqrt(np.mean(off**2) / 5.0), rel=1e-5)
    drawn("universality", tmp_path / "sweep", tmp_path)
