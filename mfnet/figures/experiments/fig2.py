"""Fig. 2 of the paper: all nodes in the plane of (a, w∥), lazy and rich: ``experiment=fig2``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse

from mfnet.collection import Collection
from mfnet.figures import style
from mfnet.figures.experiments import caption, saved
from mfnet.theory import MeanField

#: γ up to which initial steps are shown: nodes then are a few times as far out as at the start.
INITIAL = 1.2

#: Points of a hyperbola.
_POINTS = 40


class Motion(NamedTuple):
    """The nodes of a run.

    Attributes:
        model: Its mean-field solution.
        nodes: Its ``nodes.npz``: ``t`` (K,), ``a`` and ``w_par`` (K, M).
        summary: Its ``summary.json``.
    """

    model: MeanField
    nodes: Mapping[str, np.ndarray]
    summary: Mapping[str, Any]

    @property
    def gamma(self) -> np.ndarray:
        """The theory's clock at each observation."""
        return self.model.solve(self.nodes["t"]).gamma


def motions(collection: Collection) -> list[Motion]:
    """The runs, from the laziest to the richest."""
    found = []
    for directory in saved.directories(collection):
        summary = directory.read_summary()
        nodes = directory.read_arrays(directory.nodes)
        found.append(Motion(saved.model(summary["config"]), nodes, summary))
    return sorted(found, key=lambda motion: -motion.model.alpha)


def ellipse(gamma: float, n_std: float) -> tuple[float, float]:
    """Full axes along a = w∥ and across it of the density's ellipse of ``n_std`` standard deviations (eq. 5, 10).

    Of unit initial variances: those along and across are e^{2γ} and e^{−2γ}, so that Var a = Var w∥ = cosh 2γ and the
    covariance is sinh 2γ.
    """
    return 2.0 * n_std * math.exp(gamma), 2.0 * n_std * math.exp(-gamma)


def draw(collection: Collection, path: Path) -> Path:
    """The laziest run from its start to its end, and the richest in its initial steps and at its end."""
    found = motions(collection)
    lazy, rich = found[0], found[-1]
    early = int(np.searchsorted(rich.gamma, INITIAL)) if rich.gamma[-1] > INITIAL else len(rich.gamma) - 1
    with style.figure(path, 15.0, 6.1) as figure:
        first, second, third = figure.subplots(1, 3)
        _plane(first, lazy, -1, zoom=1.0)
        _plane(second, rich, early, zoom=1.0)
        _plane(third, rich, -1, zoom=0.0)
        for axes, motion, when in (
            (first, lazy, "at its end"),
            (second, rich, "initial steps"),
            (third, rich, "at its end"),
        ):
            lines = [f"$\\alpha$ = {style.number(motion.model.alpha)}, {when}"]
            if axes is not second:
                lines += caption.lines(motion.summary)
            axes.set_title("\n".join(lines), fontsize=11)
        style.letter((first, second, third))
        handles, labels = first.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return path


def _plane(axes: Axes, motion: Motion, k: int, zoom: float) -> None:
    """Nodes at the start and at the k-th observation, with arrows, hyperbolas and ellipses.

    ``zoom`` is the length of the arrows, in units of (w∥, a) of the start; 0 leaves the start out.
    """
    a, w_par, t = motion.nodes["a"], motion.nodes["w_par"], motion.nodes["t"][k]
    gamma = float(motion.gamma[k])
    path = np.linspace(0.0, gamma, _POINTS)[:, None]
    axes.plot(
        np.cosh(path) * a[0] + np.sinh(path) * w_par[0],
        np.cosh(path) * w_par[0] + np.sinh(path) * a[0],
        color=style.GUIDE,
        lw=0.6,
        alpha=0.5,
        zorder=1,
    )
    axes.plot([], [], color=style.GUIDE, lw=1.0, label="hyperbolas (theory)")
    if zoom:
        axes.plot(a[0], w_par[0], "o", ms=2.5, color=style.SECOND, mfc="none", mew=0.7, label="start", zorder=2)
        arrows = axes.quiver(
            a[0], w_par[0], w_par[0], a[0], angles="xy", scale_units="xy", scale=4.0, width=0.0018, color=style.SECOND
        )
        arrows.set(alpha=0.7, zorder=2)
        axes.plot(
            [], [], color=style.SECOND, marker=r"$\rightarrow$", ms=14.0, ls="", label="direction at the start (theory)"
        )
    axes.plot(a[k], w_par[k], ".", ms=4.0, color=style.NETWORK, label="network at $t$", zorder=3)
    for n_std in (1.0, 2.0):
        for clock, colour, line in ((0.0, style.GUIDE, "--"), (gamma, style.THEORY, "-")):
            along, across = ellipse(clock, n_std)
            label = {0.0: r"density at $t=0$, 1$\sigma$ and 2$\sigma$", gamma: "and at $t$ (theory)"}[clock]
            patch = Ellipse((0.0, 0.0), along, across, angle=45.0, fill=False, color=colour, ls=line, lw=1.6, zorder=4)
            axes.add_patch(patch).set_label(label if n_std == 1.0 else "")
    reach = 1.08 * max(np.abs(a[[0, k]]).max(), np.abs(w_par[[0, k]]).max())
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="$a$", ylabel=r"$w^\parallel$")
    axes.annotate(
        f"$t$ = {style.number(t)}, $\\gamma$ = {gamma:.2g}", (0.03, 0.95), xycoords="axes fraction", fontsize=12
    )
