"""The figure of each experiment of ``conf/experiment``, drawn from the saved runs of its sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mfnet.collection import Collection
from mfnet.figures.experiments import crossover, fig1, fig2, mislabeled, overfitting, universality

#: What draws the figure of an experiment at a path, by the experiment's name; its small variant has the same figure.
EXPERIMENTS: dict[str, Callable[[Collection, Path], Path]] = {
    "fig1": fig1.draw,
    "fig2": fig2.draw,
    "overfitting": overfitting.draw,
    "mislabeled": mislabeled.draw,
    "crossover": crossover.draw,
    "universality": universality.draw,
}

__all__ = ["EXPERIMENTS"]
