"""The onset of overfitting: where the test error of a finite training set is least."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mfnet.claims.claim import Evidence, Row, claim, inside, near
from mfnet.claims.effort import Effort
from mfnet.claims.simulation import Record, seeds, setup_of, stack, train
from mfnet.figures.claims import Line, Plot
from mfnet.setup.setup import Setup
from mfnet.theory import MeanField
from mfnet.theory.onset import Onset, onset, onset_time_exponent, onset_unsatisfied_law

#: Draws of the seeds from which errors are estimated.
DRAWS = 400

#: Observations a decade of t.
PER_DECADE = 24


class Minimum(NamedTuple):
    """The minimum of the seeds' mean test error (`mfnet.theory.onset`), and the same of resampled seeds.

    Attributes:
        t: Its time, in units of the theory's time scale.
        n_u: Unsatisfied fraction there (averaged force).
        error: Test error there.
        inside: Whether it lies before the end of the runs; else the error was still falling there.
        draws: t and n_u (rows) for each draw of the seeds.
    """

    t: float
    n_u: float
    error: float
    inside: bool
    draws: Float[np.ndarray, "2 b"]

    @property
    def described(self) -> str:
        """Time and error in words."""
        where = f"ε_g={self.error:.4f} at t={self.t:.3g} time scales"
        return where if self.inside else f"{where}, the end of the runs: no minimum"


def minimum_of(runs: list[Record], unit: float) -> Minimum:
    """The minimum of several runs; averaged forces are those of the middle of their intervals."""
    t = runs[0].t
    middle = np.sqrt(t[1:] * t[:-1])
    errors, forces = stack(runs, "test_error"), stack(runs, "mean_force")

    def of(seeds: np.ndarray) -> Onset:
        force = np.interp(np.log(t), np.log(middle), forces[seeds].mean(axis=0)[1:])
        return onset(t, errors[seeds].mean(axis=0), force)

    rng = np.random.default_rng(0)
    resampled = [of(rng.integers(len(runs), size=len(runs))) for _ in range(DRAWS)]
    draws = np.array([[each.t / unit, each.unsatisfied] for each in resampled]).T
    whole = of(np.arange(len(runs)))
    return Minimum(whole.t / unit, whole.unsatisfied, whole.test_error, whole.inside, draws)


def exponent(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], draws: Float[np.ndarray, "n b"]
) -> tuple[float, float]:
    """Slope of ln y against ln x, weighted by the spread of the draws, and its standard error from them.

    A spread below 5 % weighs no more than one of 5 %. A draw of 0 (all satisfied at the minimum) counts as 10⁻⁶, so
    that a point with such draws has next to no weight. With fewer than three points both are nan.
    """
    if len(x) < 3:
        return math.nan, math.nan
    y, draws = np.maximum(y, 1e-6), np.maximum(draws, 1e-6)
    weight = 1.0 / np.maximum(np.log(draws).std(axis=1), 0.05)

    def slope(values: np.ndarray) -> float:
        return float(np.polynomial.polynomial.polyfit(np.log(x), np.log(values), 1, w=weight)[1])

    return slope(y), float(np.std([slope(column) for column in draws.T]))


def runs_at(effort: Effort, setup: Setup, last: float, n_seeds: int) -> tuple[list[Record], float]:
    """Runs from 0.7 to ``last`` units of time, and the unit."""
    unit = MeanField(d=setup.d, alpha=setup.alpha).time_scale
    times = unit * np.geomspace(0.7, last, math.ceil(PER_DECADE * math.log10(last / 0.7)) + 1)
    return effort.map(partial(train, times=times), seeds(setup, n_seeds)), unit


@dataclass(frozen=True)
class Study:
    """Onsets at several N, for several numbers of nodes.

    Attributes:
        alpha: Scale α.
        power: Predicted exponent of t against N/d.
        sizes: N.
        nodes: M.
        last: Where runs end at N/d = 50, in units of the time scale.
        growth: Exponent with which their length grows with N/d.
        d: Input dimension.
        n_seeds: Seeds at each N and M.
        n_test: Test examples.
        claimed: Whether N ≫ d, as the claim wants.
    """

    alpha: float
    power: float
    sizes: tuple[int, ...]
    nodes: tuple[int, ...]
    last: float
    growth: float
    d: int = 50
    n_seeds: int = 12
    n_test: int = 10_000
    claimed: bool = True

    def small(self) -> Study:
        """For a test."""
        return replace(self, sizes=(200, 400, 800), nodes=(60,), d=20, n_seeds=4, n_test=2000, claimed=False)

    def evidence(self, effort: Effort, name: str) -> Evidence:
        """Exponents of n_u and t at the minima, and the minima; ``name`` is that of the figures."""
        n_plot = Plot(f"{name}-unsatisfied", "Unsatisfied fraction at the minimum.", "$d/N$", "$n_u$", [], "xy")
        t_plot = Plot(f"{name}-time", "Time of the minimum.", "$N/d$", "$t$ / time scale", [], "xy")
        e_plot = Plot(
            f"{name}-error",
            f"Mean test error and its minimum, M={self.nodes[0]}.",
            "$t$ / time scale",
            r"$\epsilon_g$",
            [],
            "xy",
        )
        rows: list[Row] = []
        for number, M in enumerate(self.nodes):
            found: dict[int, Minimum] = {}
            for colour, N in enumerate(self.sizes):
                setup = setup_of(M, self.d, N, self.alpha, n_test=self.n_test, double=self.alpha > 100.0)
                last = self.last * (N / self.d / 50.0) ** self.growth
                runs, unit = runs_at(effort, setup, last, self.n_seeds)
                found[N] = least = minimum_of(runs, unit)
                if number == 0:
                    error = stack(runs, "test_error").mean(axis=0)
                    e_plot.lines.append(Line(f"N = {N}", runs[0].t / unit, error, None, "theory", colour))
                    e_plot.lines.append(Line("", [least.t], [least.error], None, "network", colour))
            rows += self._rows(M, found)
            minima = {N: least for N, least in found.items() if least.inside}
            n_u, t = (np.array([getattr(least, name) for least in minima.values()]) for name in ("n_u", "t"))
            t_error, n_error = (np.array([least.draws[k].std() for least in minima.values()]) for k in (0, 1))
            x = self.d / np.array(list(minima), dtype=float)
            n_plot.lines.append(Line(f"M = {M}", x, n_u, n_error, "network", number))
            t_plot.lines.append(Line(f"M = {M}", 1.0 / x, t, t_error, "network", number))
        x = self.d / np.array(self.sizes)
        n_plot.lines.append(
            Line(r"$(d/N)^{1/3}$", x, [onset_unsatisfied_law(N, self.d) for N in self.sizes], None, "theory")
        )
        t_plot.lines.append(Line(f"power {self.power:.3g}", 1.0 / x, 10.0 * (0.01 / x) ** self.power, None, "guide"))
        return Evidence(rows, [n_plot, t_plot, e_plot])

    def _rows(self, M: int, found: dict[int, Minimum]) -> list[Row]:
        """Exponents over the sizes that have a minimum; n_u beside (d/N)^{1/3}, of which no constant is claimed.

        The claim is of many nodes: it speaks of the largest M, and the others show what M does.
        """
        claimed = self.claimed and max(self.nodes) == M
        minima = {N: least for N, least in found.items() if least.inside}
        x = self.d / np.array(list(minima), dtype=float)
        n_u, t = (np.array([getattr(least, name) for least in minima.values()]) for name in ("n_u", "t"))
        draws = np.array([least.draws for least in minima.values()]).reshape(len(minima), 2, DRAWS)
        sizes = f"M={M}, d={self.d}, α={self.alpha:g}, {self.n_seeds} seeds"
        fitted = f"{sizes} at each of N={', '.join(map(str, minima))}"
        fits = (
            ("n_u against d/N", 1.0 / 3.0, exponent(x, n_u, draws[:, 1])),
            ("t against N/d", self.power, exponent(1.0 / x, t, draws[:, 0])),
        )
        return [
            *(
                near(f"exponent of {of}, M={M}", fitted, predicted, *fit, claimed=claimed)
                for of, predicted, fit in fits
            ),
            *(
                near(
                    f"n_u at the minimum, N={N}, M={M}",
                    f"{sizes}; {least.described}",
                    onset_unsatisfied_law(N, self.d),
                    least.n_u,
                    float(least.draws[1].std()),
                    claimed=False,
                )
                for N, least in found.items()
            ),
        ]


RICH = Study(
    1.0, onset_time_exponent(lazy=False), (2000, 4000, 8000, 16_000, 32_000), (400, 100), last=14.0, growth=0.5
)
LAZY = Study(1e3, onset_time_exponent(lazy=True), (1000, 2000, 4000, 8000, 16_000), (1600, 400), last=90.0, growth=0.8)


@claim(
    "onset-rich",
    statement="the test error is least at n_u ∝ (d/N)^(1/3), t ∝ (N/d)^(2/3)",
    regime="α ≲ 1, N ≫ d, M large; exponents, not constants",
    source="theory.md 4, Sec. 3.3",
)
def onset_rich(effort: Effort) -> Evidence:
    """At α = 1."""
    return effort.choose(RICH, RICH.small()).evidence(effort, "onset-rich")


@claim(
    "onset-lazy",
    statement="the test error is least at n_u ∝ (d/N)^(1/3), t ∝ N/d",
    regime="α → ∞, N ≫ d, M large; exponents, not constants",
    source="theory.md 4, Sec. 3.3",
)
def onset_lazy(effort: Effort) -> Evidence:
    """At α = 10³."""
    return effort.choose(LAZY, LAZY.small()).evidence(effort, "onset-lazy")


@claim(
    "onset-noise",
    statement="flipped labels bring the minimum of the test error forward: to an earlier t and a larger n_u",
    regime="α = 1, N ≫ d; the sign of the effect, by more than three standard errors",
    source="theory.md 4, Sec. 3.4",
)
def onset_noise(effort: Effort) -> Evidence:
    """The minimum against ε at fixed N."""
    n_seeds = effort.choose(12, 4)
    flips = effort.choose((0.0, 0.05, 0.1, 0.2), (0.0, 0.2))
    M, d, N, n_test = effort.choose((400, 50, 4000, 10_000), (60, 20, 400, 2000))
    rows: list[Row] = []
    lines: list[Line] = []
    clean: Minimum | None = None
    for number, flip in enumerate(flips):
        setup = setup_of(M, d, N, n_test=n_test, data__flip=flip)
        runs, unit = runs_at(effort, setup, effort.choose(20.0, 12.0), n_seeds)
        least = minimum_of(runs, unit)
        simulation = f"M={M}, d={d}, N={N}, α=1, {n_seeds} seeds; {least.described}"
        clean, claimed = clean or least, clean is not None
        error = np.hypot(least.draws.std(axis=1), clean.draws.std(axis=1))
        earlier, more = (0.0, clean.t - 3.0 * error[0]), (clean.n_u + 3.0 * error[1], 1.0)
        case = f"ε={flip:g}: {{}} at the minimum, beside ε=0"
        rows += [
            inside(case.format("t"), simulation, clean.t, least.t, earlier, float(error[0]), claimed=claimed),
            inside(case.format("n_u"), simulation, clean.n_u, least.n_u, more, float(error[1]), claimed=claimed),
        ]
        lines.append(
            Line(f"ε = {flip:g}", runs[0].t / unit, stack(runs, "test_error").mean(axis=0), None, "theory", number)
        )
        lines.append(Line("", [least.t], [least.error], None, "network", number))
    caption = f"Mean test error on true labels, with its minimum, for label noise ε; N={N}."
    return Evidence(rows, [Plot("onset-noise", caption, "$t$ / time scale", r"$\epsilon_g$", lines, "xy")])
