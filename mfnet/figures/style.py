"""The look of every figure: made to be read at half the width of a page."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from mfnet.record.contents import Contents

NETWORK = "#1f5fa8"
THEORY = "#c8102e"
SECOND = "#e08a00"
GUIDE = "#666666"

#: Colours of a number, from small to large; all are seen on white.
SHADES = LinearSegmentedColormap.from_list("shades", colormaps["viridis"](np.linspace(0.0, 0.9, 256)))

#: Opacity of a theory's curve beyond the end of its trust.
FADED = 0.3

#: Lines of theories beside the first.
DASHES: tuple[Any, ...] = ("--", ":", "-.", (0, (8, 2, 1, 2, 1, 2)))

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


class Drawn(Figure):
    """A figure in this style, also where it is saved later; a notebook shows it."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """Writes the figure to a file."""
        with matplotlib.rc_context(RC):
            super().savefig(fname, **{"dpi": 150, **options})

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        image = io.BytesIO()
        self.savefig(image, dpi=75, format="png")
        return image.getvalue()


@contextmanager
def drawing(width: float, height: float) -> Iterator[Drawn]:
    """A figure of this size in inches, drawn in the block."""
    with matplotlib.rc_context(RC):
        yield Drawn(figsize=(width, height), layout="constrained")


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """The same, written to ``path`` when the block ends."""
    with drawing(width, height) as drawn:
        yield drawn
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(path)


def named(run: Contents, theory: str) -> str:
    """What a legend calls a theory: its name, after it the one that was chosen where the choice was free."""
    entry = run.summary.get("overlaid", {}).get(theory, {})
    chosen = f" ({entry['theory'].replace('_', ' ')})" if "because" in entry else ""
    return theory.replace("_", " ") + chosen


def spread(axes: Axes, history: Mapping[str, np.ndarray], series: str, colour: str, label: str | None = None) -> None:
    """The measured band, a standard deviation to both sides of the mean over replicas, if the run had several."""
    std = history.get(f"{series}_network_std")
    if std is not None:
        mean = history[f"{series}_network"]
        axes.fill_between(history["t"], mean - std, mean + std, color=colour, alpha=0.25, linewidth=0, label=label)


def predicted(axes: Axes, t: np.ndarray, values: np.ndarray, until: float, **look: Any) -> None:
    """A theory's curve: full while it is trustworthy, at t ≤ ``until``, and faded from then on."""
    axes.plot(*_head(t, until, t, values), **look)
    if until < t[-1]:
        faded = {**look, "alpha": FADED * look.get("alpha", 1.0), "label": None}
        axes.plot(*_tail(t, until, t, values), **faded)


def band(
    axes: Axes, history: Mapping[str, np.ndarray], curve: str, until: float, colour: str, label: str | None = None
) -> None:
    """The band of a theory's curve, if it has one, faded as the curve is."""
    lower, upper, t = history.get(f"{curve}_lo"), history.get(f"{curve}_hi"), history["t"]
    if lower is not None and upper is not None:
        times, low, high = _head(t, until, t, lower, upper)
        axes.fill_between(times, low, high, color=colour, alpha=0.2, linewidth=0, label=label)
        if until < t[-1]:
            times, low, high = _tail(t, until, t, lower, upper)
            axes.fill_between(times, low, high, color=colour, alpha=0.2 * FADED, linewidth=0)


def tell_of_fading(axes: Axes, t_last: float, ends: Iterable[float]) -> None:
    """Says in the legend what a faded curve is, if one ends before the last observation."""
    if any(until < t_last for until in ends):
        axes.plot([], [], color=GUIDE, alpha=FADED, label="beyond its trust")


def _head(t: np.ndarray, until: float, *columns: np.ndarray) -> list[np.ndarray]:
    return [values[t <= until] for values in columns]


def _tail(t: np.ndarray, until: float, *columns: np.ndarray) -> list[np.ndarray]:
    """From the last point that is trusted on, so that both pieces meet."""
    first = max(int(np.count_nonzero(t <= until)) - 1, 0)
    return [values[first:] for values in columns]


def log_time(axes: Axes, t_first: float, t_last: float) -> None:
    """A logarithmic axis of mean-field time from the first observation after 0."""
    axes.set_xscale("log")
    axes.set_xlim(t_first, t_last)
    axes.set_xlabel(r"$t$")


def plain_ticks(axis: Axis) -> None:
    """On a logarithmic axis, numbers at 1, 2 and 5 where there are too few decades to label those alone."""
    first, last = axis.get_view_interval()
    if last < 100.0 * first:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def letter(panels: Iterable[Axes]) -> None:
    """Names panels a, b, c, … at their upper left."""
    for axes, name in zip(panels, "abcdefghijkl", strict=False):
        axes.set_title(name, loc="left", fontweight="bold", fontsize=15)


def number(value: float) -> str:
    """A number in TeX, with three digits; a power of ten from 10⁴ on and below 10⁻².

    >>> number(0.0333), number(90100.0), number(1e-3)
    ('$0.0333$', '$9.01\\\\times 10^{4}$', '$10^{-3}$')
    """
    if value == 0.0 or 1e-2 <= abs(value) < 1e4:
        return f"${float(f'{value:.3g}'):g}$"
    mantissa, exponent = f"{value:.2e}".split("e")
    factor = f"{float(mantissa):g}\\times " if float(mantissa) != 1.0 else ""
    return f"${factor}10^{{{int(exponent)}}}$"
