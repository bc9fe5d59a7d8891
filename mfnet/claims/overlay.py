"""What is laid over a run by default: how often its test error is that of the network, to the end."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float

from mfnet.claims.claim import Evidence, Row, claim, inside
from mfnet.claims.effort import Effort
from mfnet.claims.simulation import setup_of
from mfnet.figures.claims import Line, Plot
from mfnet.record.series import TEST_ERROR
from mfnet.setup.setup import Setup
from mfnet.training import Training

#: Deviation from the network, relative, up to which a prediction counts as right.
TOLERANCE = 0.15

#: Scales α, N/d and M/d, and the dimension.
ALPHAS, SAMPLES, WIDTHS, DIMENSION = (1e-3, 0.05, 1.0, 30.0, 1e3), (5, 25, 100), (1, 4, 32), 40

#: Theories that are compared: the default, under its name in the files, and the average over draws.
THEORIES = ("theory", "finite_width")

#: Shares of runs that are claimed of the default: of whole curves, and of curves where they are not faded.
WHOLE, TRUSTED = 0.6, 0.85


def _deviations(setup: Setup) -> Float[np.ndarray, "2 3"]:
    """Of each theory's test error the largest relative deviation, at all observations and where it is not faded.

    Third is the share of observations at which it is not.
    """
    run = Training(setup).run()
    t = run.history["t"].to_numpy()[1:]
    network = run.history[f"{TEST_ERROR.name}_network"].to_numpy()[1:]
    found = []
    for theory in THEORIES:
        predicted = run.history[f"{TEST_ERROR.name}_{theory}"].to_numpy()[1:]
        deviation = np.abs(predicted / network - 1.0)
        trusted = t <= run.contents.trusted_until(theory, TEST_ERROR.name)
        found.append([deviation.max(), deviation[trusted].max(initial=0.0), trusted.mean()])
    return np.array(found)


@claim(
    "overlay",
    statement="what is laid over a run by default (theory=auto) has a test error within 15 % of the network's: over "
    "the whole run, and wherever its curve is not faded",
    regime=f"d = {DIMENSION}, hinge, one training set: at least {WHOLE:.0%} of whole curves, {TRUSTED:.0%} where they "
    "are not faded; the average over draws (theory=finite_width) is shown beside it",
    source="Sec. 3.3",
)
def default_overlay(effort: Effort) -> Evidence:
    """Runs on a grid of α, N/d and M/d, each a draw of its own, to full fit or the end of the automatic schedule."""
    d = effort.choose(DIMENSION, 10)
    grid = effort.choose((ALPHAS, SAMPLES, WIDTHS), ((1.0, 30.0), (25,), (4, 16)))
    setups: list[Setup] = []
    for alpha, samples, width in itertools.product(*grid):
        setup = setup_of(width * d, d, samples * d, alpha, n_test=10_000, double=alpha > 100.0)
        setups.append(setup.but(theory="auto", overlay=["finite_width"], schedule="log", seed=len(setups)))
    found = np.array(effort.map(_deviations, setups))
    rows = [row for alpha in grid[0] for row in _rows(f"α={alpha:g}", found[[s.alpha == alpha for s in setups]], False)]
    rows += _rows("all", found, claimed=True)
    ends = np.sort(found[:, :, 0], axis=0)
    share = np.arange(1, len(found) + 1) / len(found)
    lines = [Line(name, ends[:, i], share, None, "network", i) for i, name in enumerate(("default", "finite_width"))]
    caption = "Share of runs whose whole test-error curve is within a relative deviation of its prediction."
    return Evidence(rows, [Plot("overlay", caption, "largest relative deviation", "share of runs", lines, "x")])


def _rows(name: str, found: Float[np.ndarray, "n 2 3"], claimed: bool) -> list[Row]:
    rows, n = [], len(found)
    for (i, theory), (j, what) in itertools.product(
        enumerate(("default", "finite_width")), enumerate(("whole curve", "where not faded"))
    ):
        share = float((found[:, i, j] < TOLERANCE).mean())
        least = (WHOLE, TRUSTED)[j]
        error = float(np.sqrt(share * (1.0 - share) / n))
        case = f"{name}: {theory}, {what}, share of runs within 15 %"
        rows.append(
            inside(
                case,
                f"{n} runs, {found[:, i, 2].mean():.0%} of the observations not faded",
                least,
                share,
                (least, 1.0),
                error,
                claimed=claimed and i == 0,
            )
        )
    return rows
