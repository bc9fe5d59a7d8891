"""The look of every figure: made to be read at half the width of a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

NETWORK = "#1f5fa8"
THEORY = "#c8102e"
SECOND = "#e08a00"
GUIDE = "#666666"

RC: Any = {
    "font.size": 13.0,
    "axes.labelsize": 15.0,
    "legend.fontsize": 11.0,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "mathtext.fontset": "cm",
}


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of this size in inches, written to ``path`` when the block ends."""
    with matplotlib.rc_context(RC):
        drawn = Figure(figsize=(width, height), layout="constrained")
        yield drawn
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(path, dpi=150)


def spread(axes: Axes, history: Mapping[str, np.ndarray], series: str, colour: str, label: str | None = None) -> None:
    """The measured band, a standard deviation to both sides of the mean over replicas, if the run had several."""
    std = history.get(f"{series}_network_std")
    if std is not None:
        mean = history[f"{series}_network"]
        axes.fill_between(history["t"], mean - std, mean + std, color=colour, alpha=0.25, linewidth=0, label=label)


def log_time(axes: Axes, t_first: float, t_last: float) -> None:
    """A logarithmic axis of mean-field time from the first observation after 0."""
    axes.set_xscale("log")
    axes.set_xlim(t_first, t_last)
    axes.set_xlabel(r"$t$")
