"""Panels that several experiments have: errors of networks and of the theory of finite samples, one colour a group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mfnet.collection import onsets
from mfnet.figures import style
from mfnet.record.series import TEST_ERROR, Series

#: The theory of finite samples that is laid over each run.
CLOSURE = "kernel_closure"

#: How measured points and minima are drawn.
POINTS: dict[str, Any] = {"marker": "o", "ls": "none", "ms": 4.0, "mfc": "none", "mew": 1.0}
ONSET: dict[str, Any] = {"marker": "*", "ms": 14.0, "mec": "black", "mew": 0.7, "ls": "none", "zorder": 5}
PREDICTED: dict[str, Any] = {"marker": "D", "ms": 6.0, "mec": "black", "mew": 0.7, "ls": "none", "zorder": 4}


def shaded(values: pd.Series) -> list[tuple[Any, Any]]:
    """Each distinct value of a setting with a colour, from small to large."""
    distinct = sorted(values.unique().tolist())
    return list(zip(distinct, style.SHADES(np.linspace(0.0, 1.0, len(distinct))), strict=True))


def network(axes: Axes, curves: pd.DataFrame, series: Series, colour: Any, label: str | None = None) -> None:
    """Means over seeds as points, with standard errors; zeros, which a logarithm cannot show, are left out."""
    shown = curves[(curves["t"] > 0.0) & (curves[f"{series.name}_network_mean"] > 0.0)]
    mean, error = shown[f"{series.name}_network_mean"], shown[f"{series.name}_network_se"].fillna(0.0)
    below = np.minimum(error, 0.9 * mean)  # stays above 0
    axes.errorbar(shown["t"], mean, [below, error], **POINTS, color=colour, elinewidth=1.0, label=label)


def theory(axes: Axes, curves: pd.DataFrame, series: Series, side: str, colour: Any, ls: str = "-") -> None:
    """The mean of a prediction as a line."""
    shown = curves[(curves["t"] > 0.0) & (curves[f"{series.name}_{side}_mean"] > 0.0)]
    axes.plot(shown["t"], shown[f"{series.name}_{side}_mean"], ls, color=colour, lw=1.5)


def errors(axes: Axes, measured: pd.DataFrame, predicted: pd.DataFrame, series: Series, over: str, symbol: str) -> None:
    """An error against t for each value of the setting ``over``, with the closure; a test error has its minimum."""
    for value, colour in shaded(measured[over]):
        own, closure = (table[table[over] == value] for table in (measured, predicted))
        network(axes, own, series, colour, f"{symbol} = {value:g}")
        theory(axes, closure, series, CLOSURE, colour)
        if series is TEST_ERROR:
            for table, side, look in ((own, "network", ONSET), (closure, CLOSURE, PREDICTED)):
                found = onsets(table, [over], side)
                found = found[found["inside"]]
                axes.plot(found["t"], found["test_error"], **look, color=colour)
    axes.set_yscale("log")
    shown = measured[f"{series.name}_network_mean"]
    axes.set_ylim(0.6 * shown[shown > 0.0].min(), 1.5 * shown[measured["t"] > 0.0].max())
    style.plain_ticks(axes.yaxis)
    style.log_time(axes, measured.loc[measured["t"] > 0.0, "t"].min(), 1.2 * measured["t"].max())
    axes.set_ylabel(f"{series.label} {series.symbol}")
    axes.legend(loc="lower left")


def legend(figure: Figure, *further: tuple[str, dict[str, Any]], ncols: int = 4) -> None:
    """What marks and lines mean, whatever their colour, below all panels."""
    entries = [
        (r"network, mean $\pm$ s.e. over seeds", POINTS),
        ("theory of finite samples", {"ls": "-"}),
        ("minimum of the test error (onset of overfitting)", ONSET),
        ("its prediction", PREDICTED),
        *further,
    ]
    handles = [Line2D([], [], **{"color": style.GUIDE, **look}, label=text) for text, look in entries]
    figure.legend(handles=handles, loc="outside lower center", ncols=ncols)
