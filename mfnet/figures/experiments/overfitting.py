"""Training and test error over N and M, beside the theory of finite samples: ``experiment=overfitting``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mfnet.collection import Collection, curves, onsets, until_first_end
from mfnet.figures import style
from mfnet.figures.experiments import panels, saved
from mfnet.record.series import TEST_ERROR, TRAIN_ERROR
from mfnet.theory import FiniteSamples, MeanField, starting_error

BY = ["N", "M"]


def draw(collection: Collection, path: Path) -> Path:
    """Errors against t over N and over M, and against N the errors at start and minimum, and the minimum's time."""
    measured = curves(collection, BY)
    predicted = until_first_end(measured, collection.runs, BY)
    M, N = measured["M"].max(), measured["N"].max()
    with style.figure(path, 16.0, 9.2) as figure:
        grid = figure.subplots(2, 3)
        style.letter(grid.ravel())
        for column, (over, fixed, value) in enumerate((("N", "M", M), ("M", "N", N))):
            for axes, series in zip(grid[:, column], (TEST_ERROR, TRAIN_ERROR), strict=True):
                own, closure = (table[table[fixed] == value] for table in (measured, predicted))
                panels.errors(axes, own, closure, series, over, f"${over}$")
                axes.set_title(f"{series.label}, ${fixed}={value}$", fontsize=13)
        model = saved.model(saved.config(collection))
        single = onsets(curves(collection, [*BY, "seed"]), [*BY, "seed"])
        ends = onsets(measured, BY), onsets(predicted, BY, panels.CLOSURE)
        _errors(grid[0, 2], measured, *ends, model)
        _times(grid[1, 2], *ends, single, model)
        panels.legend(figure)
    return path


def _errors(axes: Axes, measured: pd.DataFrame, found: pd.DataFrame, closure: pd.DataFrame, model: MeanField) -> None:
    """Test error at the first observation and at its minimum, over N for each M."""
    start = measured[measured["t"] == measured.loc[measured["t"] > 0.0, "t"].min()]
    aside = _aside(measured["M"])
    sizes = np.geomspace(measured["N"].min(), measured["N"].max(), 30)
    for M, colour in panels.shaded(measured["M"]):
        own = start[start["M"] == M]
        mean, error = (own[f"{TEST_ERROR.name}_network_{of}"] for of in ("mean", "se"))
        axes.errorbar(own["N"] * aside[M], mean, error, **panels.POINTS, color=colour, label=f"$M={M}$, at the start")
        axes.plot(sizes, [starting_error(model, N, M) for N in sizes], color=colour, lw=1.5)
        for table, look in ((found, panels.ONSET), (closure, panels.PREDICTED)):
            own = table[table["M"] == M]
            axes.plot(own["N"] * aside[M], own["test_error"], **look, color=colour)
    axes.set(yscale="log", ylabel=f"{TEST_ERROR.label} {TEST_ERROR.symbol}")
    axes.set_ylim(top=0.5)
    axes.set_title("test error at start and minimum", fontsize=13)
    _over_sizes(axes, measured)
    axes.legend(loc="upper right")


def _times(axes: Axes, found: pd.DataFrame, closure: pd.DataFrame, single: pd.DataFrame, model: MeanField) -> None:
    """Time of the minimum over N for each M, of the mean curve and of single seeds, in units of the theory's time."""
    unit, aside = model.time_scale, _aside(found["M"])
    for M, colour in panels.shaded(found["M"]):
        own = single[(single["M"] == M) & single["inside"]]
        axes.plot(own["N"] * aside[M], own["t"] / unit, ".", ms=5.0, color=colour, alpha=0.6)
        for table, look in ((found, panels.ONSET), (closure, panels.PREDICTED)):
            own = table[(table["M"] == M) & table["inside"]]
            axes.plot(own["N"] * aside[M], own["t"] / unit, **look, color=colour)
    sizes = np.unique(found["N"])
    if FiniteSamples.refusal(model) is None:
        first = FiniteSamples(model, model.d).onset().t / unit
        axes.plot(
            sizes, np.full(len(sizes), first), ":", color=style.GUIDE, label=r"$M=\infty$, $N\to\infty$: first minimum"
        )
    axes.set(yscale="log", xlabel="$N$", ylabel="$t$ / unit of time")
    axes.set_title("time of the minimum; dots are single seeds", fontsize=13)
    _over_sizes(axes, found)
    axes.legend(loc="lower right")


def _over_sizes(axes: Axes, measured: pd.DataFrame) -> None:
    """A logarithmic axis of N, named where there are points."""
    sizes = np.unique(measured["N"])
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlim(0.8 * sizes[0], 1.25 * sizes[-1])
    style.plain_ticks(axes.yaxis)


def _aside(widths: pd.Series) -> dict[int, float]:
    """Factors on N by which points of different M stand beside one another."""
    distinct = sorted(widths.unique().tolist())
    return dict(zip(distinct, np.geomspace(0.96, 1.04, len(distinct)), strict=True))
