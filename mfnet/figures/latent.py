"""F over the latent directions that labels depend on, of the network and of theories, with its decision line."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mfnet.figures import style
from mfnet.record.contents import Arrays, Contents

#: Cells in each direction in which the output of the network is averaged, and examples that one must have.
CELLS, LEAST = 24, 4

#: How far out the plane is shown.
REACH = 3.0


def draw(run: Contents) -> Figure:
    """αF at the last observation: along one latent direction, or in the plane of two."""
    latent, alpha = run.arrays["latent"], float(run.summary["config"]["alpha"])
    theory = next((name for name in run.theories if f"output_{name}" in latent), None)
    h, t = float(run.summary["config"]["h"]), latent["t"][-1]
    if latent["u"].shape[1] == 1:
        with style.drawing(7.0, 5.0) as figure:
            line(figure.subplots(), latent, alpha, h, theory)
    else:
        with style.drawing(5.5 * (1 if theory is None else 2), 5.0) as figure:
            panels = figure.subplots(1, 1 if theory is None else 2, squeeze=False).ravel()
            network_plane(panels[0], latent, alpha, h)
            if theory is not None:
                theory_plane(panels[1], latent[f"output_{theory}"], latent["u_grid"], alpha, h)
    figure.suptitle(f"$t$ = {style.number(t)}")
    return figure


def line(axes: Axes, latent: Arrays, alpha: float, h: float, theory: str | None) -> None:
    """αF against u; the margins ±h are dashed."""
    u = latent["u"][:, 0]
    shown = np.abs(u) < REACH
    axes.plot(
        u[shown], alpha * latent["output"][-1][shown], ".", color=style.NETWORK, ms=2.0, alpha=0.5, label="network"
    )
    if theory is not None:
        axes.plot(latent["u_grid"][:, 0], alpha * latent[f"output_{theory}"], color=style.THEORY, label="theory")
    for side in (-h, h):
        axes.axhline(side, color=style.GUIDE, linewidth=1.0, linestyle="--")
    axes.set_xlabel(r"$u$")
    axes.set_ylabel(r"$\alpha F$")
    axes.legend()


def network_plane(axes: Axes, latent: Arrays, alpha: float, h: float) -> None:
    """Mean αF of the test examples in each cell of the plane, and where it is 0."""
    edges = np.linspace(-REACH, REACH, CELLS + 1)
    u, output = latent["u"][:, :2], alpha * latent["output"][-1]
    count = np.histogram2d(u[:, 0], u[:, 1], bins=(edges, edges))[0]
    with np.errstate(invalid="ignore"):
        mean = np.histogram2d(u[:, 0], u[:, 1], bins=(edges, edges), weights=output)[0] / count
    _plane(axes, edges, np.ma.masked_invalid(np.where(count >= LEAST, mean, np.nan)), h)
    axes.set_title("network", fontsize=13)


def theory_plane(axes: Axes, output: np.ndarray, grid: np.ndarray, alpha: float, h: float) -> None:
    """αF of a theory, and where it is 0."""
    side = round(len(grid) ** 0.5)
    at = grid[:, 1].reshape(side, side)[0]
    step = at[1] - at[0]
    _plane(axes, np.append(at - step / 2.0, at[-1] + step / 2.0), alpha * output.reshape(side, side), h)
    axes.set_title("theory", fontsize=13)


def _plane(axes: Axes, edges: np.ndarray, values: np.ndarray, h: float) -> None:
    middle = (edges[1:] + edges[:-1]) / 2.0
    image = axes.pcolormesh(edges, edges, values.T, cmap="RdBu_r", vmin=-2.0 * h, vmax=2.0 * h, rasterized=True)
    axes.contour(middle, middle, values.T, levels=[0.0], colors="black", linewidths=1.6)
    axes.contour(middle, middle, values.T, levels=[-h, h], colors=style.GUIDE, linewidths=1.0, linestyles="--")
    axes.set_xlim(-REACH, REACH)
    axes.set_ylim(-REACH, REACH)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.set_xlabel("$u_1$")
    axes.set_ylabel("$u_2$")
    axes.figure.colorbar(image, ax=axes, label=r"$\alpha F$")
