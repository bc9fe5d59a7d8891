"""The onset of overfitting: where the test error of a finite training set is least."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mfnet.claims.claim import Evidence, Row, claim, inside, near
from mfnet.claims.effort import Effort
from mfnet.claims.simulation import Record, Setup, stack, train
from mfnet.figures.claims import Line, Plot
from mfnet.flow import Averaged
from mfnet.theory import MeanField

#: Half width, in decades of t, of the window in which a parabola is laid through the test error.
WINDOW = 0.5

#: Draws of the seeds from which errors are estimated.
DRAWS = 400

#: Observations a decade of t.
PER_DECADE = 24


class Onset(NamedTuple):
    """The minimum of the test error, and draws of it from resampled seeds.

    Attributes:
        t: Time of the minimum, in units of the theory's time scale.
        n_u: Unsatisfied fraction there (averaged force).
        error: Test error there.
        draws: The same three (rows) for each draw of the seeds.
    """

    t: float
    n_u: float
    error: float
    draws: Float[np.ndarray, "3 b"]


def minimum(
    t: Float[np.ndarray, " K"], error: Float[np.ndarray, " K"], n_u: Float[np.ndarray, " K"]
) -> tuple[float, float, float]:
    """Vertex of a parabola in ln t, fitted to the error within `WINDOW` of the vertex itself, and n_u there.

    The window starts around the smallest of the errors and is moved until it stays.
    """
    x = np.log10(t)
    centre = x[error.argmin()]
    for _ in range(20):
        weight = np.maximum(1.0 - ((x - centre) / WINDOW) ** 2, 0.0)
        used = weight > 0.0
        c, b, a = np.polynomial.polynomial.polyfit(x[used] - centre, error[used], 2, w=np.sqrt(weight[used]))
        shift = np.clip(-b / (2.0 * a), -WINDOW, WINDOW) if a > 0.0 else 0.0
        moved = float(np.clip(centre + 0.5 * shift, x[0], x[-1]))
        if abs(moved - centre) < 1e-4:
            break
        centre = moved
    at = float(c + b * shift + a * shift**2)
    return 10.0**centre, float(np.exp(np.interp(centre, x, np.log(np.maximum(n_u, 1e-12))))), at


def onset_of(runs: list[Record], unit: float) -> Onset:
    """The minimum of the seeds' mean test error; averaged forces are those of the middle of their intervals."""
    t = runs[0].t
    middle = np.sqrt(t[1:] * t[:-1])
    errors, forces = stack(runs, "test_error"), stack(runs, "mean_force")

    def of(seeds: np.ndarray) -> tuple[float, float, float]:
        force = np.interp(np.log(t), np.log(middle), forces[seeds].mean(axis=0)[1:])
        return minimum(t, errors[seeds].mean(axis=0), force)

    rng = np.random.default_rng(0)
    draws = np.array([of(rng.integers(len(runs), size=len(runs))) for _ in range(DRAWS)]).T
    time, n_u, error = of(np.arange(len(runs)))
    return Onset(time / unit, n_u, error, np.stack([draws[0] / unit, draws[1], draws[2]]))


def exponent(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], draws: Float[np.ndarray, "n b"]
) -> tuple[float, float]:
    """Slope of ln y against ln x, weighted by the spread of the draws, and its standard error from them."""
    weight = 1.0 / np.log(draws).std(axis=1)

    def slope(values: np.ndarray) -> float:
        return float(np.polynomial.polynomial.polyfit(np.log(x), np.log(values), 1, w=weight)[1])

    return slope(y), float(np.std([slope(column) for column in draws.T]))


def runs_at(effort: Effort, setup: Setup, last: float, n_seeds: int) -> tuple[list[Record], float]:
    """Runs from 0.7 to ``last`` units of time, and the unit."""
    unit = MeanField(d=setup.d, alpha=setup.alpha).time_scale
    times = unit * np.geomspace(0.7, last, math.ceil(PER_DECADE * math.log10(last / 0.7)) + 1)
    return effort.map(partial(train, times=times, method=partial(Averaged, rtol=0.02)), setup.seeds(n_seeds)), unit


def scaling(effort: Effort, alpha: float, first: float, power: float, name: str) -> Evidence:
    """Exponents of the minimum against d/N, for two numbers of nodes.

    Args:
        effort: The effort.
        alpha: Scale α.
        first: Expected time of the minimum at N/d = 50, in units of the time scale; runs go four times as far.
        power: Predicted exponent of t against N/d.
        name: Of the figures.
    """
    d, n_seeds, n_test = 20, effort.choose(20, 4), effort.choose(10_000, 2000)
    sizes = effort.choose((500, 1000, 2000, 4000, 8000), (200, 400, 800))
    n_plot = Plot(
        f"{name}-unsatisfied", "Unsatisfied fraction at the minimum of the test error.", "$d/N$", "$n_u$", [], "xy"
    )
    t_plot = Plot(
        f"{name}-time", "Time of the minimum of the test error, in units of the time scale.", "$N/d$", "$t$", [], "xy"
    )
    rows: list[Row] = []
    x = d / np.array(sizes, dtype=float)
    for number, M in enumerate(effort.choose((300, 100), (60,))):
        found, curves = [], []
        for N in sizes:
            setup = Setup(M, d, N, alpha, n_test=n_test, double=alpha > 100.0)
            runs, unit = runs_at(effort, setup, 4.0 * first * (N / d / 50.0) ** power, n_seeds)
            found.append(onset_of(runs, unit))
            curves.append((runs[0].t / unit, stack(runs, "test_error").mean(axis=0)))
        simulation = f"M={M}, d={d}, α={alpha:g}, N={sizes[0]}…{sizes[-1]} ({len(sizes)} sizes), {n_seeds} seeds each"
        n_u, t = np.array([o.n_u for o in found]), np.array([o.t for o in found])
        draws = np.stack([o.draws for o in found])
        slope_n, error_n = exponent(x, n_u, draws[:, 1])
        slope_t, error_t = exponent(1.0 / x, t, draws[:, 0])
        rows.append(near(f"exponent of n_u against d/N, M={M}", simulation, 1.0 / 3.0, slope_n, error_n))
        rows.append(near(f"exponent of t against N/d, M={M}", simulation, power, slope_t, error_t))
        rows += [_size_row(setup, N, o, n_seeds) for N, o in zip(sizes, found, strict=True)]
        n_plot.lines.append(Line(f"M = {M}", x, n_u, draws[:, 1].std(axis=1), "network", number))
        t_plot.lines.append(Line(f"M = {M}", 1.0 / x, t, draws[:, 0].std(axis=1), "network", number))
        if number == 0:
            t_line = t[0] * (x[0] / x) ** power
            colours = range(len(sizes))
            labels = [f"N = {N}" for N in sizes]
            curve_lines = [
                Line(label, *curve, None, "theory", c) for label, curve, c in zip(labels, curves, colours, strict=True)
            ]
            marks = [Line("", [o.t], [o.error], None, "network", c) for o, c in zip(found, colours, strict=True)]
    n_plot.lines.append(Line(r"$(d/N)^{1/3}$", x, np.cbrt(x), None, "theory"))
    t_plot.lines.append(Line(f"power {power:.3g}", 1.0 / x, t_line, None, "theory"))
    e_plot = Plot(
        f"{name}-error",
        "Mean test error, with its minimum.",
        "$t$ / time scale",
        r"$\epsilon_g$",
        curve_lines + marks,
        "xy",
    )
    return Evidence(rows, [n_plot, t_plot, e_plot])


def _size_row(setup: Setup, N: int, onset: Onset, n_seeds: int) -> Row:
    """n_u at the minimum beside (d/N)^{1/3}; the scaling law claims no constant."""
    sizes = f"M={setup.M}, d={setup.d}, α={setup.alpha:g}, {n_seeds} seeds"
    simulation = f"{sizes}; ε_g={onset.error:.4f} at t={onset.t:.3g} time scales"
    error = float(onset.draws[1].std())
    return near(
        f"n_u at the minimum, N={N}, M={setup.M}",
        simulation,
        (setup.d / N) ** (1.0 / 3.0),
        onset.n_u,
        error,
        claimed=False,
    )


@claim(
    "onset-rich",
    statement="the test error is least at n_u ∝ (d/N)^(1/3), t ∝ (N/d)^(2/3)",
    regime="α ≲ 1, N ≫ d, M large; exponents, not constants",
    source="theory.md 4, Sec. 3.3",
)
def onset_rich(effort: Effort) -> Evidence:
    """At α = 1."""
    return scaling(effort, 1.0, 4.0, 2.0 / 3.0, "onset-rich")


@claim(
    "onset-lazy",
    statement="the test error is least at n_u ∝ (d/N)^(1/3), t ∝ N/d",
    regime="α → ∞, N ≫ d, M large; exponents, not constants",
    source="theory.md 4, Sec. 3.3",
)
def onset_lazy(effort: Effort) -> Evidence:
    """At α = 10³."""
    return scaling(effort, 1e3, 14.0, 1.0, "onset-lazy")


@claim(
    "onset-noise",
    statement="flipped labels bring the minimum of the test error forward: t falls and n_u rises with ε",
    regime="α = 1, N ≫ d; sign of the effect",
    source="theory.md 4, Sec. 3.4",
)
def onset_noise(effort: Effort) -> Evidence:
    """The minimum against ε at fixed N."""
    n_seeds = effort.choose(20, 4)
    flips = effort.choose((0.0, 0.05, 0.1, 0.2), (0.0, 0.2))
    base = effort.choose(Setup(300, 20, 4000, n_test=10_000), Setup(60, 20, 400, n_test=2000))
    rows: list[Row] = []
    lines: list[Line] = []
    before: Onset | None = None
    for number, flip in enumerate(flips):
        runs, unit = runs_at(effort, replace(base, flip=flip), effort.choose(25.0, 12.0), n_seeds)
        onset = onset_of(runs, unit)
        simulation = f"M={base.M}, d={base.d}, N={base.N}, α=1, {n_seeds} seeds; ε_g={onset.error:.4f}"
        error = onset.draws.std(axis=1)
        claimed = before is not None
        last = before or onset
        rows += [
            inside(
                f"ε={flip:g}: t at the minimum, against the ε before",
                simulation,
                last.t,
                onset.t,
                (0.0, last.t),
                float(error[0]),
                claimed=claimed,
            ),
            inside(
                f"ε={flip:g}: n_u at the minimum, against the ε before",
                simulation,
                last.n_u,
                onset.n_u,
                (last.n_u, 1.0),
                float(error[1]),
                claimed=claimed,
            ),
        ]
        before = onset
        lines.append(
            Line(f"ε = {flip:g}", runs[0].t / unit, stack(runs, "test_error").mean(axis=0), None, "theory", number)
        )
        lines.append(Line("", [onset.t], [onset.error], None, "network", number))
    caption = f"Mean test error on true labels, with its minimum, for label noise ε; N={base.N}."
    return Evidence(rows, [Plot("onset-noise", caption, "$t$ / time scale", r"$\epsilon_g$", lines, "xy")])
