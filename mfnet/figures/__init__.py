"""Figures, drawn with matplotlib from what a run has left and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from mfnet.figures import curves, errors, figure1, latent, nodes
from mfnet.record.contents import Contents

#: Every figure of a run, by name.
FIGURES: dict[str, Callable[[Contents], Figure]] = {
    "fig1": figure1.draw,
    "errors": errors.draw,
    "nodes": nodes.draw,
    "latent": latent.draw,
    "curves": curves.draw,
}


def figures_of(run: Contents) -> list[str]:
    """Names of the figures that can be drawn of a run; none if only the initial network was observed."""
    if len(run.history["t"]) < 2:
        return []
    there = ["fig1"] if {"nodes", "examples"} <= set(run.arrays) else []
    there += ["errors"]
    there += ["nodes"] if nodes.SHARES[0][0] in run.history and "nodes" in run.arrays else []
    there += ["latent"] if "latent" in run.arrays and run.arrays["latent"]["u"].shape[1] < 3 else []
    return [*there, "curves"] if curves.others(run) else there


def save_figures(run: Contents, folder: Path) -> list[Path]:
    """Draws every figure of a run into a folder and returns their paths."""
    paths = []
    for name in figures_of(run):
        folder.mkdir(parents=True, exist_ok=True)
        paths.append(folder / f"{name}.png")
        FIGURES[name](run).savefig(paths[-1])
    return paths
