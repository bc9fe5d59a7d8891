"""The experiments of ``conf/experiment`` that end in a figure, drawn from the saved runs of their sweeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mfnet.collection import Collection
from mfnet.figures.experiments import crossover, fig1, fig2, hydrodynamics, mislabeled, overfitting, universality


class Experiment(NamedTuple):
    """What an experiment shows.

    Attributes:
        caption: Its figure in a line.
        draw: Draws it from the runs of the sweep, at a path, which it returns.
    """

    caption: str
    draw: Callable[[Collection, Path], Path]


#: By name; the small variant of an experiment has the same figure.
EXPERIMENTS: dict[str, Experiment] = {
    "fig1": Experiment("the paper's Fig. 1: nodes, clock, and who is satisfied when", fig1.draw),
    "fig2": Experiment("the paper's Fig. 2: all nodes in the plane of a and w∥, lazy and rich", fig2.draw),
    "overfitting": Experiment("training and test error over N and M, and the onset of overfitting", overfitting.draw),
    "mislabeled": Experiment("the same over label noise, with the fixed points of the flow", mislabeled.draw),
    "crossover": Experiment("from rich to lazy over α and M, in 1/M and in 1/√M scaling", crossover.draw),
    "hydrodynamics": Experiment(
        "what has no closed form: tanh beside ReLU, a slab, and XOR in its latent plane", hydrodynamics.draw
    ),
    "universality": Experiment("six activations and four losses on one clock", universality.draw),
}

__all__ = ["EXPERIMENTS", "Experiment"]
