"""Errors and the unsatisfied fraction against time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mfnet.figures import style
from mfnet.run_directory import RunDirectory
from mfnet.series import TEST_ERROR, TRAIN_ERROR, UNSATISFIED


def draw(directory: RunDirectory) -> Path:
    """Draws ``figures/errors.png`` from the saved history; zeros, which a logarithm cannot show, are left out."""
    history = directory.read_history()
    path = directory.figures / "errors.png"
    drawn = ((UNSATISFIED, style.NETWORK), (TRAIN_ERROR, style.SECOND), (TEST_ERROR, style.THEORY))
    with style.figure(path, 7.0, 5.0) as figure:
        axes = figure.subplots()
        for series, colour in drawn:
            for side, look in (("network", "o"), ("theory", "-")):
                values = history.get(f"{series.name}_{side}")
                if values is not None:
                    shown = np.where(values > 0.0, values, np.nan)
                    label = f"{series.label} {series.symbol}" if side == "network" else None
                    axes.plot(history["t"], shown, look, color=colour, markerfacecolor="none", label=label)
        axes.plot([], [], "-", color=style.GUIDE, label="theory")
        axes.set_yscale("log")
        axes.set_ylim(top=1.3)
        axes.set_ylabel("fraction of examples")
        style.log_time(axes, history["t"][1], history["t"][-1])
        axes.legend(loc="lower left")
    return path
