"""Errors and the unsatisfied fraction against time, with every theory that was laid over them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mfnet.figures import style
from mfnet.record.contents import Contents
from mfnet.record.series import TEST_ERROR, TRAIN_ERROR, UNSATISFIED


def draw(run: Contents) -> Figure:
    """Draws the saved history; zeros, which a logarithm cannot show, are left out."""
    history = run.history
    drawn = ((UNSATISFIED, style.NETWORK), (TRAIN_ERROR, style.SECOND), (TEST_ERROR, style.THEORY))
    named = [name for name in run.theories if any(f"{series.name}_{name}" in history for series, _ in drawn)]
    others = [name for name in named if name != "theory"]
    lines = {"theory": "-"} if "theory" in named else {}
    lines |= dict(zip(others, itertools.cycle(style.DASHES), strict=False))
    looks: dict[str, dict[str, Any]] = {"network": {"marker": "o", "linestyle": "none", "markerfacecolor": "none"}}
    looks |= {side: {"linestyle": line} for side, line in lines.items()}
    with style.drawing(7.0, 5.0) as figure:
        axes = figure.subplots()
        for series, colour in drawn:
            for side, look in looks.items():
                values = history.get(f"{series.name}_{side}")
                if values is not None:
                    shown = np.where(values > 0.0, values, np.nan)
                    if side == "network":
                        label = f"{series.label} {series.symbol}"
                        axes.plot(history["t"], shown, **look, color=colour, label=label)
                    else:
                        until = run.trusted_until(side, series.name)
                        style.predicted(axes, history["t"], shown, until, **look, color=colour)
            style.spread(axes, history, series.name, colour)
        for side, line in lines.items():
            axes.plot([], [], linestyle=line, color=style.GUIDE, label=style.named(run, side))
        ends = [run.trusted_until(side, series.name) for side in lines for series, _ in drawn]
        style.tell_of_fading(axes, history["t"][-1], ends)
        if f"{TEST_ERROR.name}_network_std" in history:
            axes.fill_between([], [], color=style.GUIDE, alpha=0.25, linewidth=0, label=r"network $\pm$ std (replicas)")
        axes.set_yscale("log")
        axes.set_ylim(top=1.3)
        axes.set_ylabel("fraction of examples")
        style.log_time(axes, history["t"][1], history["t"][-1])
        axes.legend(loc="lower left")
    return figure
