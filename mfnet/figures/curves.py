"""Every series that no other figure shows, such as an observable of one's own, against time."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from mfnet.figures import style
from mfnet.record.contents import Contents
from mfnet.record.series import MEAN_FORCE, SERIES, SLIDING

#: What other figures show, or nobody looks at.
_SHOWN = (*SERIES, MEAN_FORCE, SLIDING, "outside", "outside_principal")


def others(run: Contents) -> list[str]:
    """Names of the series that are drawn here."""
    return [name for name in run.series if name not in _SHOWN]


def draw(run: Contents) -> Figure:
    """A panel a series: the network's values, and every theory that knows it."""
    names, history = others(run), run.history
    columns = min(2, len(names))
    rows = math.ceil(len(names) / columns)
    with style.drawing(5.5 * columns, 4.0 * rows) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            axes.plot(
                history["t"],
                history[f"{name}_network"],
                "o",
                color=style.NETWORK,
                markerfacecolor="none",
                label="network",
            )
            style.spread(axes, history, name, style.NETWORK, r"network $\pm$ std (replicas)")
            for i, theory in enumerate(run.theories):
                if (values := history.get(f"{name}_{theory}")) is not None:
                    line = "-" if i == 0 else style.DASHES[(i - 1) % len(style.DASHES)]
                    until = run.trusted_until(theory, name)
                    label = theory.replace("_", " ")
                    style.predicted(axes, history["t"], values, until, ls=line, color=style.THEORY, label=label)
                    style.band(axes, history, f"{name}_{theory}", until, style.THEORY)
            axes.set_ylabel(name.replace("_", " "))
            style.log_time(axes, history["t"][1], history["t"][-1])
            axes.legend()
        for axes in panels[len(names) :]:
            axes.set_axis_off()
    return figure
