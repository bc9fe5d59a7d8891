"""Lazy networks on a finite training set against the flow of their tangent kernel."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mfnet.claims.claim import Evidence, Row, claim, inside, near
from mfnet.claims.effort import Effort
from mfnet.claims.simulation import Record, draw_of, seeds, setup_of, stack, train
from mfnet.figures.claims import Line, Plot
from mfnet.flow import Averaged
from mfnet.setup.setup import Setup
from mfnet.theory import KernelFlow, MeanField

#: Difference of test errors that the two flows may make by their tolerances, 0.003 each: between those that the tables
#: of `mfnet.flow.averaged` have for 0.01 and 0.001.
FLOWS = 0.0015

#: Seeds whose actual kernel is followed too.
N_ACTUAL = 2


class Prediction(NamedTuple):
    """A kernel flow at K times: the series that `Record` has too, and αF at the probes."""

    test_error: Float[np.ndarray, " K"]
    mean_force: Float[np.ndarray, " K"]
    output: Float[np.ndarray, "K p"]


def _kernel_flow(
    case: tuple[Setup, str], times: Float[np.ndarray, " K"], probes: Float[np.ndarray, "p d"]
) -> Prediction:
    """The flow of the 'limit' or the 'actual' kernel on the draw of a setup."""
    setup, kernel = case
    flow = KernelFlow(MeanField(d=setup.d, alpha=setup.alpha), kernel)  # type: ignore[arg-type]  # KernelFlow checks the name
    flow = flow.of_draw(partial(draw_of, setup))
    series = flow.series(times)
    return Prediction(series["test_error"].value, series["mean_force"].value, flow.output(times, probes))


@claim(
    "lazy-kernel",
    statement="Ġ(x) = (1/N) Σ_n K(x, x_n) φ(y_n G_n) y_n, G = αF: test error and unsatisfied fraction (averaged force) "
    "of networks, extrapolated to M = ∞ from 1000 and 4000 nodes, lie within the seeds' spread of the kernel flow on "
    "the same draws; the distance falls with M, that of αF as M^{−1/2}",
    regime="α → ∞, any N, t. M = ∞ for the limit kernel; any M for the kernel of the actual nodes. 4000 nodes alone "
    "are too few late for N = 2000, d = 100: the test error is an eighth higher. This is noise of the nodes, of "
    "relative variance 1/M, which the kernel of the actual nodes has: what M adds is of first order in 1/M",
    source="theory.md 4",
)
def lazy_kernel(effort: Effort) -> Evidence:
    """Networks of several M on the same draws, and the flow of the limit kernel on these."""
    d, N, nodes, n_seeds = effort.choose((100, 2000, (250, 1000, 4000), 5), (20, 200, (50, 200), 3))
    largest = nodes[-1]
    unit = MeanField(d=d, alpha=1e3).time_scale
    times = unit * np.geomspace(0.03, 30.0, effort.choose(13, 7))
    probes = np.random.default_rng(0).normal(size=(500, d))
    n_test = effort.choose(10_000, 2000)

    def setups(M: int) -> list[Setup]:
        return seeds(setup_of(M, d, N, 1e3, n_test=n_test, double=True), n_seeds)

    run = partial(train, times=times, method=partial(Averaged, rtol=0.003), probes=probes)
    runs: dict[int, list[Record]] = {M: effort.map(run, setups(M)) for M in reversed(nodes)}
    follow = partial(_kernel_flow, times=times, probes=probes)
    limit: list[Prediction] = effort.map(follow, [(setup, "limit") for setup in setups(largest)])
    sizes = f"N={N}, d={d}, α=10³"

    rows: list[Row] = []
    names = {"test_error": "ε_g", "mean_force": "⟨φ̄⟩"}
    for series, symbol in names.items():
        predicted = np.array([getattr(flow, series) for flow in limit])
        few, many = (stack(runs[M], series) for M in nodes[-2:])
        share = nodes[-2] / (largest - nodes[-2])
        for case, measured, claimed in (
            (f"M={nodes[-2]} and {largest} → ∞", many + share * (many - few), True),
            (f"M={largest}", many, False),
        ):
            simulation = f"{sizes}, {n_seeds} seeds"
            rows += _within_spread(f"{case}: {symbol}", simulation, times, predicted, measured, N, claimed=claimed)
    for name, symbol, expected in (
        ("excess", "αF", 0.1),
        *((series, symbol, None) for series, symbol in names.items()),
    ):
        rows.append(_fall(runs, limit, name, symbol, expected, sizes))
    rows.append(_late_excess(runs, limit, sizes))
    for M in nodes[-2:]:
        flows: list[Prediction] = effort.map(follow, [(setup, "actual") for setup in setups(M)[:N_ACTUAL]])
        off = stack(runs[M][:N_ACTUAL], "test_error") - np.array([flow.test_error for flow in flows])
        rows.append(
            inside(
                f"M={M}: ε_g against the kernel of the actual nodes, r.m.s. over t and seeds",
                f"{sizes}, {N_ACTUAL} seeds; largest {np.abs(off).max():.2g}",
                0.0,
                float(np.sqrt(np.mean(off**2))),
                (0.0, effort.choose(FLOWS, 0.01)),
            )
        )
    return Evidence(rows, _plots(runs, limit, times / unit, sizes))


def _within_spread(
    case: str,
    simulation: str,
    times: Float[np.ndarray, " K"],
    predicted: Float[np.ndarray, "n K"],
    measured: Float[np.ndarray, "n K"],
    N: int,
    *,
    claimed: bool = True,
) -> list[Row]:
    """The seeds' means at each time, within one spread of the kernel flow's seeds (and one example of N)."""
    n_seeds = len(predicted)
    spread = predicted.std(axis=0, ddof=1) + 1.0 / N
    off = measured - predicted
    error = off.std(axis=0, ddof=1) / math.sqrt(n_seeds)
    rows = []
    for k, t in enumerate(times):
        centre = float(predicted[:, k].mean())
        bounds = (centre - float(spread[k]), centre + float(spread[k]))
        mean = float(measured[:, k].mean())
        rows.append(inside(f"{case}, t={t:.3g}", simulation, centre, mean, bounds, float(error[k]), claimed=claimed))
    rows.append(
        inside(
            f"{case}: share of runs and times within one spread of the flow of the same draw",
            simulation,
            1.0,
            float((np.abs(off) <= spread).mean()),
            (0.0, 1.0),
            claimed=False,
        )
    )
    return rows


def _distances(runs: list[Record], limit: list[Prediction], name: str) -> Float[np.ndarray, " n"]:
    """R.m.s. distance of each run from the kernel flow of its draw, over times (and probes, where relative)."""
    if name != "excess":
        off = stack(runs, name) - np.array([getattr(flow, name) for flow in limit])
        return np.sqrt((off**2).mean(axis=1))
    outputs = np.array([flow.output for flow in limit])
    off = ((1e3 * stack(runs, "excess") - outputs) ** 2).mean(axis=2) / (outputs**2).mean(axis=2)
    return np.sqrt(off.mean(axis=1))


def _fall(
    runs: dict[int, list[Record]], limit: list[Prediction], name: str, symbol: str, expected: float | None, sizes: str
) -> Row:
    """The exponent of the r.m.s. distance against M, its error from leaving out a seed at a time.

    Where ``expected`` is a number the exponent has to be −½ to so much; else the distance has only to fall.
    """
    nodes = sorted(runs)
    squares = np.array([_distances(runs[M], limit, name) ** 2 for M in nodes])
    n = squares.shape[1]

    def slope(seeds: list[int]) -> float:
        distance = np.sqrt(squares[:, seeds].mean(axis=1))
        return float(np.polynomial.polynomial.polyfit(np.log(nodes), np.log(distance), 1)[1])

    left_out = np.array([slope([i for i in range(n) if i != j]) for j in range(n)])
    error = math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))
    means = ", ".join(f"{value:.2g}" for value in np.sqrt(squares.mean(axis=1)))
    case = f"{symbol}: exponent of the r.m.s. distance against M"
    simulation = f"{sizes}, M={', '.join(map(str, nodes))}: {means}"
    exponent = slope(list(range(n)))
    if expected is None:
        return inside(case, simulation, -0.5, exponent, (-math.inf, 0.0), error)
    return near(
        case,
        simulation,
        -0.5,
        exponent,
        error,
        neglected=expected,
        because="higher orders in 1/M",
    )


def _late_excess(runs: dict[int, list[Record]], limit: list[Prediction], sizes: str) -> Row:
    """What the mean test error at the last time has over that of the kernel flow: exponent between the largest M."""
    nodes = sorted(runs)[-2:]
    last = np.array([flow.test_error[-1] for flow in limit])
    off = np.array([stack(runs[M], "test_error")[:, -1] - last for M in nodes])
    mean, error = off.mean(axis=1), off.std(axis=1, ddof=1) / math.sqrt(off.shape[1])
    x = np.log(nodes) - np.log(nodes).mean()
    weight = x / (x @ x)
    means = ", ".join(f"{value:.2g} ± {spread:.1g}" for value, spread in zip(mean, error, strict=True))
    return near(
        "ε_g at the last time: exponent of network − kernel flow against M",
        f"{sizes}, M={', '.join(map(str, nodes))}: {means}",
        -1.0,
        float(weight @ np.log(mean)) if (mean > 0.0).all() else math.nan,
        math.sqrt(float(((weight * error / mean) ** 2).sum())),
        claimed=False,
    )


def _plots(
    runs: dict[int, list[Record]], limit: list[Prediction], times: Float[np.ndarray, " K"], sizes: str
) -> list[Plot]:
    """Both series against time, and the distances against M."""
    plots = []
    for series, label, axes in (
        ("test_error", r"$\epsilon_g$", "xy"),
        ("mean_force", r"$\langle\bar\phi\rangle$", "x"),
    ):
        lines = []
        for number, M in enumerate(sorted(runs)):
            values = stack(runs[M], series)
            error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
            lines.append(Line(f"M = {M}", times, values.mean(axis=0), error, "network", number))
        predicted = np.array([getattr(flow, series) for flow in limit])
        spread = predicted.std(axis=0, ddof=1)
        lines.append(Line("kernel flow", times, predicted.mean(axis=0), None, "theory"))
        lines += [
            Line(
                "± spread of its seeds" if sign > 0 else "",
                times,
                predicted.mean(axis=0) + sign * spread,
                None,
                "guide",
            )
            for sign in (1.0, -1.0)
        ]
        caption = f"Networks and the flow of the limit kernel on the same draws, {sizes}; t in time scales."
        plots.append(Plot(f"lazy-kernel-{series.replace('_', '-')}", caption, "$t$ / time scale", label, lines, axes))
    nodes = np.array(sorted(runs))
    lines = []
    for number, (name, label) in enumerate(
        (
            ("excess", r"$\alpha F$, relative"),
            ("test_error", r"$\epsilon_g$"),
            ("mean_force", r"$\langle\bar\phi\rangle$"),
        )
    ):
        distance = np.array([math.sqrt(float((_distances(runs[M], limit, name) ** 2).mean())) for M in nodes])
        lines.append(Line(label, nodes, distance, None, "network", number))
        lines.append(Line("", nodes, distance[0] * np.sqrt(nodes[0] / nodes), None, "guide", number))
    caption = f"R.m.s. distance from the kernel flow against M, beside M^(−1/2) (dotted), {sizes}."
    return [*plots, Plot("lazy-kernel-distance", caption, "$M$", "r.m.s. distance", lines, "xy")]
