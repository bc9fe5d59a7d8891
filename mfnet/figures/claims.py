"""Figures of the validation page, drawn from plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from matplotlib import color_sequences

from mfnet.figures import style


@dataclass(frozen=True)
class Line:
    """Points with an optional standard error.

    Attributes:
        label: Its name in the legend; an empty one is left out.
        x: Abscissae.
        y: Ordinates.
        error: Standard errors of ``y``, or None.
        look: Measured points, a predicted line or a dotted guide.
        colour: Number of a colour, for lines that belong together; None takes that of the look.
    """

    label: str
    x: Sequence[float] | Any
    y: Sequence[float] | Any
    error: Sequence[float] | Any = None
    look: Literal["network", "theory", "guide"] = "network"
    colour: int | None = None


@dataclass(frozen=True)
class Plot:
    """A figure of one panel.

    Attributes:
        name: Name of its file.
        caption: What it shows.
        x_label: Label of the horizontal axis.
        y_label: Label of the vertical axis.
        lines: What is drawn.
        logarithmic: Axes with a logarithmic scale.
    """

    name: str
    caption: str
    x_label: str
    y_label: str
    lines: list[Line] = field(default_factory=list)
    logarithmic: str = ""


LOOKS: dict[str, tuple[str, str]] = {
    "network": ("o", style.NETWORK),
    "theory": ("-", style.THEORY),
    "guide": (":", style.GUIDE),
}

#: Colours of lines that belong together, by number.
COLOURS: Any = color_sequences["tab10"]


def draw(plot: Plot, directory: Path) -> Path:
    """Draws ``NAME.png`` in ``directory`` and returns its path."""
    path = directory / f"{plot.name}.png"
    with style.figure(path, 7.0, 5.0) as figure:
        axes = figure.subplots()
        for line in plot.lines:
            marker, colour = LOOKS[line.look]
            if line.colour is not None:
                colour = COLOURS[line.colour % len(COLOURS)]
            axes.errorbar(
                line.x,
                line.y,
                line.error,
                fmt=marker,
                color=colour,
                markerfacecolor="none",
                capsize=2.0,
                label=line.label or None,
            )
        if "x" in plot.logarithmic:
            axes.set_xscale("log")
            style.plain_ticks(axes.xaxis)
        if "y" in plot.logarithmic:
            axes.set_yscale("log")
            style.plain_ticks(axes.yaxis)
        axes.set_xlabel(plot.x_label)
        axes.set_ylabel(plot.y_label)
        if any(line.label for line in plot.lines):
            axes.legend()
    return path
