"""The onset of overfitting: where the test error of a finite training set is least."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from mfnet.claims.claim import Evidence, Row, claim, inside, near
from mfnet.claims.effort import Effort
from mfnet.claims.simulation import Record, seeds, setup_of, stack, train
from mfnet.figures.claims import Line, Plot
from mfnet.setup.setup import Setup
from mfnet.theory import FiniteSamples, MeanField, Onset, onset

#: Draws of the seeds from which errors are estimated.
DRAWS = 400

#: Observations a decade of t.
PER_DECADE = 24

#: Times at which curves are held against the theory, in time scales.
TIMES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

#: What terms of the next order may change: of an exponent, and of ε_g in units of ε_g²/n_u.
NEXT, SECOND = 0.1, 1.5


class Minimum(NamedTuple):
    """The minimum of the seeds' mean test error (`mfnet.theory.onset`), and the same of resampled seeds.

    Attributes:
        t: Its time, in units of the theory's time scale.
        n_u: Unsatisfied fraction there (averaged force).
        error: Test error there.
        inside: Whether it lies before the end of the runs; else the error was still falling there.
        draws: t, n_u and error (rows) for each draw of the seeds.
    """

    t: float
    n_u: float
    error: float
    inside: bool
    draws: Float[np.ndarray, "3 b"]

    @property
    def described(self) -> str:
        """Time and error in words."""
        where = f"ε_g={self.error:.4f} at t={self.t:.3g} time scales"
        return where if self.inside else f"{where}, the end of the runs: no minimum"


class Runs(NamedTuple):
    """Runs of several seeds; with those of half the nodes on the same data they are extrapolated to M = ∞.

    What finitely many nodes add to ε_g² is of first order in 1/M, and so is what they change of ⟨φ̄⟩.

    Attributes:
        of: A record for each seed.
        half: The same of networks of half as many nodes, or nothing.
    """

    of: list[Record]
    half: list[Record]

    @property
    def t(self) -> Float[np.ndarray, " K"]:
        """Times."""
        return self.of[0].t

    def curves(self, seeds: Integer[np.ndarray, " n"] | slice = slice(None)) -> Float[np.ndarray, "2 K"]:
        """Test error and ⟨φ̄⟩ (averaged since the time before), in the mean over these seeds."""
        many, few = (
            np.array([stack(runs, name)[seeds].mean(axis=0) for name in ("test_error", "mean_force")])
            for runs in (self.of, self.half or self.of)
        )
        return np.array([np.sqrt(np.maximum(2.0 * many[0] ** 2 - few[0] ** 2, 0.0)), 2.0 * many[1] - few[1]])

    def resampled(self) -> Iterator[Float[np.ndarray, "2 K"]]:
        """The same of resampled seeds."""
        rng = np.random.default_rng(0)
        for _ in range(DRAWS):
            yield self.curves(rng.integers(len(self.of), size=len(self.of)))


def minimum_of(runs: Runs, unit: float) -> Minimum:
    """The minimum of several runs; averaged forces are those of the middle of their intervals."""
    t = runs.t
    middle = np.sqrt(t[1:] * t[:-1])

    def of(curves: np.ndarray) -> Onset:
        return onset(t, curves[0], np.interp(np.log(t), np.log(middle), curves[1, 1:]))

    draws = np.array([[each.t / unit, each.unsatisfied, each.test_error] for each in map(of, runs.resampled())]).T
    whole = of(runs.curves())
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


class Law(NamedTuple):
    """An exponent at the minimum: what of, against what, as `FiniteSamples` has it and as Sec. 3.3 argues."""

    name: str
    attribute: str
    against: str
    predicted: float
    paper: float


@dataclass(frozen=True)
class Study:
    """Onsets at several N, extrapolated to M = ∞.

    Attributes:
        alpha: Scale α.
        power: Exponent of t against N/d in Sec. 3.3.
        last: Where runs end, in units of the time scale: behind the first minimum, before the error falls again.
        sizes: N.
        M: Nodes, balanced; and twice as many.
        d: Input dimension.
        n_seeds: Seeds at each N and M.
        n_test: Test examples.
        claimed: Whether seeds are enough for exponents.
    """

    alpha: float
    power: float
    last: float
    sizes: tuple[int, ...] = (8000, 32_000, 128_000)
    M: int = 320
    d: int = 20
    n_seeds: int = 16
    n_test: int = 40_000
    claimed: bool = True

    def small(self) -> Study:
        """For a test."""
        return replace(self, sizes=(1000, 2000, 4000), M=80, d=10, n_seeds=4, n_test=4000, claimed=False)

    @property
    def laws(self) -> list[Law]:
        """Of all that the minimum has."""
        return [
            Law("n_u", "n_u", "d/N", 0.0, 1.0 / 3.0),
            Law("t", "t", "N/d", 0.0, self.power),
            Law("ε_g", "error", "d/N", 0.5, math.nan),
        ]

    def evidence(self, effort: Effort, name: str) -> Evidence:
        """Exponents over N, and the largest N beside the theory; ``name`` is that of the figures."""
        found: dict[int, Minimum] = {}
        runs: dict[int, Runs] = {}
        unit = 1.0
        for N in self.sizes:
            of = {}
            for M in (self.M, 2 * self.M):
                setup = setup_of(M, self.d, N, self.alpha, n_test=self.n_test, double=self.alpha > 100.0)
                of[M], unit = runs_at(effort, setup.but(network={"init": "balanced"}), self.last, self.n_seeds)
            runs[N] = Runs(of[2 * self.M], of[self.M])
            found[N] = minimum_of(runs[N], unit)
        N = self.sizes[-1]
        theory = FiniteSamples(MeanField(d=self.d, alpha=self.alpha), N)
        rows = [*self._exponents(found), *self._beside(theory, found[N], runs[N], unit)]
        return Evidence(rows, self._plots(name, theory, found, runs, unit))

    def _said(self) -> str:
        return f"d={self.d}, α={self.alpha:g}, M={self.M} and {2 * self.M} → ∞, {self.n_seeds} seeds"

    def _exponents(self, found: dict[int, Minimum]) -> list[Row]:
        """Over the sizes that have a minimum."""
        minima = {N: least for N, least in found.items() if least.inside}
        ratio = np.array(list(minima), dtype=float) / self.d
        fitted = f"{self._said()} at each of N={', '.join(map(str, minima))}"
        draws = np.array([least.draws for least in minima.values()]).reshape(len(minima), 3, DRAWS)
        rows = []
        for law in self.laws:
            values = np.array([getattr(least, law.attribute) for least in minima.values()])
            scatter = draws[:, ("t", "n_u", "error").index(law.attribute)]
            fit = exponent(ratio if law.against == "N/d" else 1.0 / ratio, values, scatter)
            case = f"exponent of {law.name} at the minimum against {law.against}"
            rows.append(
                near(
                    case,
                    fitted,
                    law.predicted,
                    *fit,
                    neglected=NEXT,
                    because="next order, ε_g/n_u",
                    claimed=self.claimed,
                )
            )
            if not math.isnan(law.paper):
                rows.append(near(f"{case}: Sec. 3.3", fitted, law.paper, *fit, claimed=False))
        return rows

    def _beside(self, theory: FiniteSamples, least: Minimum, runs: Runs, unit: float) -> list[Row]:
        """The largest N: the minimum, and the curve."""
        simulation = f"{self._said()}, N={theory.N}"
        predicted = theory.onset()
        t, n_u = (
            near(
                f"{symbol} at the minimum",
                simulation,
                value,
                measured,
                error,
                neglected=0.1 * value,
                because="10 %",
                claimed=self.claimed,
            )
            for symbol, value, measured, error in (
                ("t / time scale", predicted.t / unit, least.t, float(least.draws[0].std())),
                ("n_u", predicted.unsatisfied, least.n_u, float(least.draws[1].std())),
            )
        )
        return [t, n_u, *curve_rows("", simulation, theory, runs, unit)]

    def _plots(
        self, name: str, theory: FiniteSamples, found: dict[int, Minimum], runs: dict[int, Runs], unit: float
    ) -> list[Plot]:
        """E(t) at each N beside the theory; and n_u at the minimum against N/d, with Sec. 3.3."""
        said = f"d = {self.d}, α = {self.alpha:g}, balanced nodes, extrapolated to M = ∞."
        t = next(iter(runs.values())).t
        curve = Plot(
            f"{name}-error",
            f"√N times the mean test error at several N/d, beside FiniteSamples (line); {said}",
            "$t$ / time scale",
            r"$\sqrt{N/d}\,\epsilon_g$",
            [Line("theory, $N\\to\\infty$", t / unit, theory.scaled_error(t) / math.sqrt(self.d), None, "theory")],
            "x",
        )
        for colour, (N, of) in enumerate(runs.items()):
            scale = math.sqrt(N / self.d)
            spread = np.std([each[0] for each in of.resampled()], axis=0)
            curve.lines.append(
                Line(f"N/d = {N // self.d}", t / unit, scale * of.curves()[0], scale * spread, "network", colour)
            )
        ratio = np.array(self.sizes) / self.d
        place = Plot(
            f"{name}-place",
            f"Unsatisfied fraction at the minimum of the test error; {said}",
            "$N/d$",
            "$n_u$",
            [
                Line(
                    "networks",
                    ratio,
                    [least.n_u for least in found.values()],
                    [least.draws[1].std() for least in found.values()],
                    "network",
                ),
                Line("FiniteSamples", ratio, np.full(len(ratio), theory.onset().unsatisfied), None, "theory"),
                Line("$(d/N)^{1/3}$", ratio, ratio ** (-1.0 / 3.0), None, "guide"),
            ],
            "xy",
        )
        return [curve, place]


def curve_rows(name: str, simulation: str, theory: FiniteSamples, runs: Runs, unit: float) -> list[Row]:
    """√(N/d) ε_g at each factor of two in t, beside the theory; what is neglected is of relative size ε_g/n_u."""
    mean_field, scale = theory.mean_field, math.sqrt(theory.N / theory.mean_field.d)
    chosen = [int(np.abs(np.log(runs.t / unit / t)).argmin()) for t in TIMES if t < 1.2 * runs.t[-1] / unit]
    measured = runs.curves()[0][chosen]
    errors = np.std([each[0][chosen] for each in runs.resampled()], axis=0)
    solution = mean_field.solve(runs.t[chosen])
    predicted = theory.generalisation_error(solution)
    return [
        near(
            f"{name}√(N/d) ε_g at t={runs.t[k] / unit:.2g} time scales",
            simulation,
            scale * value,
            scale * found,
            scale * error,
            neglected=scale * SECOND * value**2 / n_u,
            because=f"next order, {SECOND:g} ε_g/n_u",
        )
        for k, value, found, error, n_u in zip(chosen, predicted, measured, errors, solution.unsatisfied, strict=True)
    ]


#: Powers of t against N/d in Sec. 3.3: n_u ∝ t^(−1/2) in the rich regime, t^(−1/3) in the lazy one.
RICH, LAZY = Study(1.0, 2.0 / 3.0, last=20.0), Study(1e3, 1.0, last=60.0)


@claim(
    "onset-rich",
    statement="√N ε_g(t) is a function of d, α and t (`FiniteSamples`): at its first minimum neither t nor n_u depends "
    "on N, and ε_g ∝ N^(−1/2). Sec. 3.3 argues for n_u ∝ (d/N)^(1/3), t ∝ (N/d)^(2/3): not seen",
    regime="α = 1, M = ∞, N/d from 400 to 6400; first order in 1/√N",
    source="mfnet.theory.finite_samples; Sec. 3.3",
)
def onset_rich(effort: Effort) -> Evidence:
    """At α = 1."""
    return effort.choose(RICH, RICH.small()).evidence(effort, "onset-rich")


@claim(
    "onset-lazy",
    statement="√N ε_g(t) is a function of d and t (`FiniteSamples`): at its first minimum neither t nor n_u depends on "
    "N, and ε_g ∝ N^(−1/2). Sec. 3.3 argues for n_u ∝ (d/N)^(1/3), t ∝ N/d: not seen",
    regime="α → ∞, M = ∞, N/d from 400 to 6400; first order in 1/√N",
    source="mfnet.theory.finite_samples; Sec. 3.3",
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
        least = minimum_of(Runs(runs, []), unit)
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
