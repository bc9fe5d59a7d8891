"""Errors, unsatisfied fraction and clock with reversed training labels: ``experiment=mislabeled``."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from mfnet.collection import Collection, curves, until_first_end
from mfnet.figures import style
from mfnet.figures.experiments import panels, saved
from mfnet.record.series import GAMMA, TEST_ERROR, TRAIN_ERROR, UNSATISFIED, Series
from mfnet.theory import MeanField

FLIP = "data.flip"

#: How the theory of infinitely many examples is drawn, and where its flow ends.
POPULATION: dict[str, Any] = {"ls": "--"}
FIXED_POINT: dict[str, Any] = {"ls": ":"}


def fixed_point(model: MeanField) -> tuple[float, float]:
    """γ* and n_u*, where the flow on infinitely many examples ends (Sec. 3.4); inf and 0 without noise."""
    gamma = model.gamma_star
    if math.isinf(gamma):
        return gamma, 0.0
    return gamma, float(model.law.cdf(model.threshold(model.slope(math.cosh(gamma), math.sinh(gamma)))))


def draw(collection: Collection, path: Path) -> Path:
    """Four panels over ε: test error with its minimum, training error, n_u and γ with their fixed points."""
    measured = curves(collection, [FLIP])
    predicted = until_first_end(measured, collection.runs, [FLIP])
    model = saved.model(saved.config(collection))
    with style.figure(path, 12.5, 9.4) as figure:
        grid = figure.subplots(2, 2).ravel()
        style.letter(grid)
        panels.errors(grid[0], measured, predicted, TEST_ERROR, FLIP, r"$\epsilon$")
        panels.errors(grid[1], measured, predicted, TRAIN_ERROR, FLIP, r"$\epsilon$")
        for flip, colour in panels.shaded(measured[FLIP]):
            grid[1].axhline(flip, color=colour, lw=1.5, **FIXED_POINT)  # of 0 it is below the axis
        _with_fixed_point(grid[2], measured, predicted, UNSATISFIED, model)
        _with_fixed_point(grid[3], measured, predicted, GAMMA, model)
        further = ("theory of infinite samples", POPULATION), ("its fixed point", FIXED_POINT)
        panels.legend(figure, *further, ncols=3)
    return path


def _with_fixed_point(
    axes: Axes, measured: pd.DataFrame, predicted: pd.DataFrame, series: Series, model: MeanField
) -> None:
    """A series against t for each ε, with the closure, the theory of infinite samples and where that ends."""
    for flip, colour in panels.shaded(measured[FLIP]):
        own, closure = (table[table[FLIP] == flip] for table in (measured, predicted))
        panels.network(axes, own, series, colour)
        panels.theory(axes, closure, series, panels.CLOSURE, colour)
        panels.theory(axes, own, series, "theory", colour, **POPULATION)
        end = fixed_point(replace(model, flip=flip))[series is UNSATISFIED]
        if flip > 0.0:
            axes.axhline(end, color=colour, lw=1.5, **FIXED_POINT)
    style.log_time(axes, measured.loc[measured["t"] > 0.0, "t"].min(), 1.2 * measured["t"].max())
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel(f"{series.label} {series.symbol}")
