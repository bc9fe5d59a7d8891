"""Nodes in the (a, w∥) plane as they leave their initial values, and how closely they follow the theory (Sec. 4)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mfnet.figures import style
from mfnet.record.contents import Arrays, Contents

#: Measures of agreement: column, of what, colour.
MEASURES = (
    ("r2_a", "a", style.NETWORK),
    ("r2_w_par", r"w^\parallel", style.SECOND),
    ("r2_moved", r"\Delta(a, w^\parallel)", style.GUIDE),
)

#: Shares of the weights' motion: column, label, colour.
SHARES = (
    ("outside_network", r"not along $\hat w^*$", style.NETWORK),
    ("outside_principal_network", "nor along principal directions", style.SECOND),
)


def draw(run: Contents) -> Figure:
    """Nodes at four times, R²(t), and the shares of other motion."""
    history, nodes = run.history, run.arrays["nodes"]
    with style.drawing(15.0, 8.4) as figure:
        grid = figure.add_gridspec(2, 4)
        for column, k in enumerate(_moments(nodes)):
            axes = figure.add_subplot(grid[0, column])
            axes.set_ylabel(r"$w^\parallel_i$" if column == 0 else "")
            _plane(axes, nodes, k, run.trusted_until("theory", "nodes"))
            axes.set_title(f"$t$ = {nodes['t'][k]:.3g},  $n_u$ = {history['unsatisfied_network'][k]:.2f}", fontsize=13)
        _agreement(figure.add_subplot(grid[1, :2]), run)
        _shares(figure.add_subplot(grid[1, 2:]), run)
    return figure


def _moments(nodes: Arrays) -> list[int]:
    """Four observations, from where the fastest node has moved by a tenth to the last, even in log t."""
    t = nodes["t"]
    moved = np.hypot(nodes["a"] - nodes["a"][0], nodes["w_par"] - nodes["w_par"][0]).max(axis=1)
    first = max(1, int(np.argmax(moved > 0.1 * moved.max())))
    wanted = np.geomspace(t[first], t[-1], 4)
    return [int(np.argmin(np.abs(np.log(t[1:] / time)))) + 1 for time in wanted]


def _plane(axes: Axes, nodes: Arrays, k: int, until: float) -> None:
    """Where nodes are, with the hyperbolas on which the theory says that they came there."""
    if "a_theory" in nodes:
        predicted = nodes["a_theory"][: k + 1], nodes["w_par_theory"][: k + 1]
        faded = 1.0 if nodes["t"][k] <= until else style.FADED
        axes.plot(*predicted, color=style.THEORY, linewidth=0.6, alpha=0.5 * faded)
        look: dict[str, Any] = {"color": style.THEORY, "markersize": 3.0, "alpha": faded}
        axes.plot(predicted[0][-1], predicted[1][-1], ".", **look, label="theory")
    axes.plot(
        nodes["a"][k],
        nodes["w_par"][k],
        "o",
        color=style.NETWORK,
        markerfacecolor="none",
        markersize=4.0,
        label="network",
    )
    reach = 1.05 * max(np.abs(nodes["a"]).max(), np.abs(nodes["w_par"]).max())
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    axes.set_xlabel(r"$a_i$")
    axes.legend(loc="upper left")


def _agreement(axes: Axes, run: Contents) -> None:
    """R² of a, of w∥ and of their displacements, against every theory of nodes."""
    history = run.history
    theories = [name for name in run.theories if f"{MEASURES[0][0]}_{name}" in history]
    for theory, line in zip(theories, ("-", "--", ":", "-."), strict=False):
        for name, symbol, colour in MEASURES:
            label = f"$R^2$ of ${symbol}$, {theory.replace('_', ' ')}"
            t, values, until = history["t"][1:], history[f"{name}_{theory}"][1:], run.trusted_until(theory, "nodes")
            style.predicted(axes, t, values, until, ls=line, color=colour, label=label)
    axes.set_ylim(0.8, 1.005)
    axes.set_ylabel(r"$R^2$")
    style.log_time(axes, history["t"][1], history["t"][-1])
    axes.legend(loc="lower left")


def _shares(axes: Axes, run: Contents) -> None:
    history = run.history
    for column, label, colour in SHARES:
        axes.plot(history["t"][1:], history[column][1:], "o", color=colour, markerfacecolor="none", label=label)
    for theory in run.theories:
        if (values := history.get(f"outside_{theory}")) is not None:
            until, look = run.trusted_until(theory, "outside"), {"ls": "--", "color": style.NETWORK}
            style.predicted(axes, history["t"][1:], values[1:], until, **look, label=theory.replace("_", " "))
    axes.set_ylim(0.0, None)
    axes.set_ylabel("share of $\\Sigma|\\Delta w|^2$")
    style.log_time(axes, history["t"][1], history["t"][-1])
    axes.legend(loc="upper left")
