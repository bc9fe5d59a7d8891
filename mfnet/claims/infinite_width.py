"""M = ∞ on a given training set: `InfiniteWidth` and the kernel closure against large networks on the same examples."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mfnet.claims.claim import Evidence, Row, claim, inside, near
from mfnet.claims.effort import Effort
from mfnet.claims.simulation import Record, draw_of, setup_of, stack, train
from mfnet.figures.claims import Line, Plot
from mfnet.flow import InfiniteWidth
from mfnet.record.series import MEAN_FORCE, TEST_ERROR, UNSATISFIED
from mfnet.setup.setup import Setup
from mfnet.theory import Curve, KernelClosure, MeanField, Theory

#: Allowed differences: of the minimum and the final test error, relative; of n_u, absolute.
RELATIVE, ABSOLUTE = 0.05, 0.02

#: The end of a run, in units of `MeanField.time_scale`, by α.
ENDS = {1e-3: 20.0, 0.05: 20.0, 1.0: 30.0, 1e3: 60.0}


class Case(NamedTuple):
    """A training set, and the networks on it."""

    alpha: float
    flip: float
    N: int
    d: int
    M: int
    n_seeds: int

    def __str__(self) -> str:
        return f"α={self.alpha:g}, N/d={self.N // self.d}, ε={self.flip:g}"


@claim(
    "infinite-width",
    statement="balanced networks of M′ and 2M′ nodes, M′ doubled until they agree, are M = ∞ on a given training set",
    regime="any α, N/d and ε, to the end: minimum and final test error within 5 %, and ⟨φ̄⟩, n_u averaged over sliding, "
    "within 0.02 at all times",
    source="theory.md 7",
)
def infinite_width(effort: Effort) -> Evidence:
    """Independent networks of M = 100d nodes on the same examples, and the kernel closure for comparison."""
    d, n_seeds = effort.choose((25, 4), (10, 2))
    cases = [
        Case(alpha, flip, ratio * d, d, effort.choose(100 * d, 40 * d), n_seeds)
        for alpha in effort.choose((1e-3, 0.05, 1.0, 1e3), (1.0,))
        for ratio in effort.choose((10, 40), (10,))
        for flip in effort.choose((0.0, 0.05), (0.05,))
    ]
    found = effort.map(_compared, cases)
    return Evidence([row for rows, _ in found for row in rows], [plot for _, plot in found])


def _compared(case: Case) -> tuple[list[Row], Plot]:
    model = MeanField(d=case.d, alpha=case.alpha, flip=case.flip)
    times = model.time_scale * np.geomspace(0.05, ENDS[case.alpha], 25)
    setups = [_setup(case, seed) for seed in range(case.n_seeds)]
    runs: list[Record] = list(map(partial(train, times=times), setups))
    draw = draw_of(setups[0])
    simulation = f"{case.n_seeds} networks of M={case.M} on the same N={case.N} examples, d={case.d}"
    theories: dict[str, Theory] = {
        "infinite_width": InfiniteWidth(case.alpha).of_draw(lambda: draw),
        "kernel_closure": KernelClosure(model).of_draw(lambda: draw),
    }
    rows, lines = [], [Line("networks", times, stack(runs, "test_error").mean(axis=0), None, "network", 0)]
    for colour, (name, theory) in enumerate(theories.items(), 1):
        started = time.monotonic()
        series = theory.series(np.concatenate([[0.0], times]))
        how = f"{simulation}; {time.monotonic() - started:.1f} s"
        if isinstance(theory, InfiniteWidth):
            how += f", M′={theory.sizes(np.concatenate([[0.0], times]))[0]}"
        rows += _rows(f"{case}, {name}", how, series, runs, claimed=name == "infinite_width")
        lines.append(Line(name, times, series[TEST_ERROR.name].value[1:], None, "theory", colour))
    labels = "$t$", "test error"
    slug = f"{case.alpha:g}-{case.N // case.d}-{case.flip:g}"
    return rows, Plot(f"infinite-width-{slug}", f"Test error, {case}. {simulation}.", *labels, lines, "xy")


def _setup(case: Case, seed: int) -> Setup:
    """Of networks that differ, on data that do not."""
    double, data = case.alpha >= 100.0, {"data.flip": case.flip, "data.seed": 0}
    return setup_of(case.M, case.d, case.N, case.alpha, n_test=4000, double=double).but(seed=seed, **data)


def _rows(name: str, simulation: str, series: Mapping[str, Curve], runs: list[Record], *, claimed: bool) -> list[Row]:
    errors = stack(runs, "test_error")
    predicted = series[TEST_ERROR.name].value[1:]
    rows = []
    for what, measured, value in (
        ("minimum", errors.min(axis=1), predicted.min()),
        ("final", errors[:, -1], predicted[-1]),
    ):
        se = float(measured.std(ddof=1)) / np.sqrt(len(measured))
        rows.append(
            near(
                f"{name}: {what} test error",
                simulation,
                float(value),
                float(measured.mean()),
                se,
                neglected=RELATIVE * float(measured.mean()),
                because="5 %",
                claimed=claimed,
            )
        )
    for symbol, column, recorded in (("⟨φ̄⟩", MEAN_FORCE, "mean_force"), ("n_u", UNSATISFIED.name, "unsatisfied")):
        if column in series:
            deviation = _largest(series[column].value[1:], stack(runs, recorded).mean(axis=0))
            case = f"{name}: largest deviation of {symbol}"
            judged = claimed and column == MEAN_FORCE
            rows.append(inside(case, simulation, 0.0, deviation, (0.0, ABSOLUTE), claimed=judged))
    return rows


def _largest(one: Float[np.ndarray, " T"], other: Float[np.ndarray, " T"]) -> float:
    return float(np.abs(one - other).max())
