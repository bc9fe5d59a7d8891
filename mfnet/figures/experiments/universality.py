"""Activations and losses on one clock: ``experiment=universality``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.special import erf

from mfnet.collection import Collection
from mfnet.figures import style
from mfnet.figures.experiments import saved
from mfnet.record.series import GAMMA, UNSATISFIED
from mfnet.theory import MeanField
from mfnet.theory.activations import WITH_LINEAR_ODD_PART
from mfnet.theory.losses import LOSSES

#: Nodes in the plane of (a, w∥), and how far out they are shown, in initial standard deviations.
NODES, REACH = 10, 6.0

COLOURS = dict(zip(WITH_LINEAR_ODD_PART, color_sequences["tab20"][::2] + color_sequences["tab20"][1::2], strict=False))
SIZES = {
    name: max(11.0 - 1.5 * number, 3.0) for number, name in enumerate(WITH_LINEAR_ODD_PART)
}  # what coincides stays visible
MARKERS = dict(zip(LOSSES, "osD^vPX*<>", strict=False))


class Clocked(NamedTuple):
    """A run: its mean-field solution, and what was observed at t > 0.

    Attributes:
        model: The solution.
        t: Times.
        gamma: The measured clock.
        predicted: The predicted one.
        unsatisfied: The measured n_u.
        a, w_par: Followed nodes.
        a0, w_par0: Their initial values.
    """

    model: MeanField
    t: Float[np.ndarray, " K"]
    gamma: Float[np.ndarray, " K"]
    predicted: Float[np.ndarray, " K"]
    unsatisfied: Float[np.ndarray, " K"]
    a: Float[np.ndarray, "K n"]
    w_par: Float[np.ndarray, "K n"]
    a0: Float[np.ndarray, " n"]
    w_par0: Float[np.ndarray, " n"]

    @property
    def reach(self) -> Float[np.ndarray, " K"]:
        """1/z_c at the measured clock, all that n_u depends on: c α sinh(2γ)/(h√d) for unit variances (eq. 12)."""
        return 1.0 / self.model.threshold(self.model.slope(np.cosh(self.gamma), np.sinh(self.gamma)))

    @property
    def look(self) -> dict[str, Any]:
        """Marks of this activation and loss."""
        name, loss = self.model.nonlinearity.name, self.model.margin_loss.name
        return {"color": COLOURS[name], "ms": SIZES[name], "marker": MARKERS[loss], "ls": "none", "mfc": "none"}


def clocked(collection: Collection) -> list[Clocked]:
    """Every run of a sweep over activations and losses."""
    found = []
    for directory in saved.directories(collection):
        history, nodes = directory.read_history(), directory.read_arrays(directory.nodes)
        a, w_par = nodes["a"], nodes["w_par"]
        found.append(
            Clocked(
                model=saved.model(directory.read_summary()["config"]),
                t=history["t"][1:],
                gamma=history[f"{GAMMA.name}_network"][1:],
                predicted=history[f"{GAMMA.name}_theory"][1:],
                unsatisfied=history[f"{UNSATISFIED.name}_network"][1:],
                a=a[1:],
                w_par=w_par[1:],
                a0=a[0],
                w_par0=w_par[0],
            )
        )
    return found


def deviations(runs: list[Clocked]) -> dict[str, float]:
    """Root mean square deviations from theory over all runs and observations.

    ``gamma``: of the clock from its prediction, relative; ``unsatisfied``: of n_u from erf(z_c/√2) at the measured
    clock (normal inputs).
    """
    gamma = np.concatenate([run.gamma / run.predicted - 1.0 for run in runs])
    n_u = np.concatenate([run.unsatisfied - unsatisfied(run.reach) for run in runs])
    return {GAMMA.name: math.sqrt(np.mean(gamma**2)), UNSATISFIED.name: math.sqrt(np.mean(n_u**2))}


def unsatisfied(reach: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """n_u of normal inputs as a function of 1/z_c."""
    return erf(1.0 / (math.sqrt(2.0) * reach))


def draw(collection: Collection, path: Path) -> Path:
    """Nodes on their hyperbolas, n_u against 1/z_c, and γ against t and against its prediction."""
    runs = clocked(collection)
    off = deviations(runs)
    with style.figure(path, 13.5, 11.5) as figure:
        grid = figure.subplots(2, 2).ravel()
        style.letter(grid)
        _plane(grid[0], runs)
        _fraction(grid[1], runs)
        grid[1].set_title(f"one curve, r.m.s. deviation {off[UNSATISFIED.name]:.3f}", fontsize=13)
        _clock(grid[2], runs)
        _comparison(grid[3], runs)
        grid[3].set_title(f"r.m.s. deviation {100.0 * off[GAMMA.name]:.1f} %", fontsize=13)
        _legend(figure, runs)
    return path


def _plane(axes: Axes, runs: list[Clocked]) -> None:
    first = runs[0]
    clock = np.linspace(0.0, 5.0, 200)[:, None]
    a = np.cosh(clock) * first.a0[:NODES] + np.sinh(clock) * first.w_par0[:NODES]
    w_par = np.cosh(clock) * first.w_par0[:NODES] + np.sinh(clock) * first.a0[:NODES]
    axes.plot(a, w_par, color=style.THEORY, lw=1.2, zorder=1)
    axes.plot(first.a0[:NODES], first.w_par0[:NODES], "o", color="black", ms=6.0, zorder=3)
    for run in runs:
        axes.plot(
            run.a[:, :NODES].ravel(),
            run.w_par[:, :NODES].ravel(),
            **(run.look | {"ms": 0.4 * SIZES[run.model.nonlinearity.name], "mew": 0.6}),
        )
    axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", xlabel="$a$", ylabel=r"$w^\parallel$")
    axes.set_title("nodes from their start (black), hyperbolas", fontsize=13)


def _fraction(axes: Axes, runs: list[Clocked]) -> None:
    for run in runs:
        axes.plot(run.reach, run.unsatisfied, **run.look)
    last = max(run.reach.max() for run in runs)
    reach = np.geomspace(0.1, last, 200)
    axes.plot(reach, unsatisfied(reach), color=style.THEORY, label=r"$\mathrm{erf}(z_c/\sqrt{2})$", zorder=1)
    axes.set(xscale="log", xlim=(0.1, 1.1 * last), ylim=(0.0, 1.03), ylabel=f"{UNSATISFIED.label} {UNSATISFIED.symbol}")
    axes.set_xlabel(r"$c\,\alpha\,\sinh 2\gamma\,/\,(h\sqrt{d}) = 1/z_c$")
    axes.legend(loc="upper right")


def _clock(axes: Axes, runs: list[Clocked]) -> None:
    for run in runs:
        axes.plot(run.t, run.predicted, color=style.THEORY, lw=0.8, zorder=1)
        axes.plot(run.t, run.gamma, **run.look)
    style.log_time(axes, 0.02 * max(run.t[-1] for run in runs), max(run.t[-1] for run in runs))
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel(r"$\gamma$")
    axes.set_title("the clock, each with its prediction (lines)", fontsize=13)


def _comparison(axes: Axes, runs: list[Clocked]) -> None:
    last = 1.05 * max(run.predicted.max() for run in runs)
    axes.plot([0.0, last], [0.0, last], color=style.THEORY, zorder=1)
    for run in runs:
        axes.plot(run.predicted, run.gamma, **run.look)
    axes.set(xlim=(0.0, last), ylim=(0.0, last), xlabel=r"predicted $\gamma$", ylabel=r"measured $\gamma$")


def _legend(figure: Figure, runs: list[Clocked]) -> None:
    grey: dict[str, Any] = {"color": style.GUIDE, "ls": "none", "mfc": "none"}
    names = (
        dict.fromkeys(run.model.nonlinearity.name for run in runs),
        dict.fromkeys(run.model.margin_loss.name for run in runs),
    )
    handles = [Line2D([], [], color=COLOURS[name], lw=4.0, label=name) for name in names[0]]
    handles += [Line2D([], [], marker=MARKERS[name], **grey, label=name) for name in names[1]]
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
