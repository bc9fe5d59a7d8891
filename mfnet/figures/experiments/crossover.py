r"""From rich to lazy over α and M, in 1/M and in 1/√M scaling: ``experiment=crossover``.

A network with f' = M^{-1/2} Σ a_i σ(z_i) = √M f has the loss L' = ⟨ℓ(α y F')⟩/α² = ⟨ℓ(α√M y F)⟩/α²: M times
the loss of the 1/M network (eq. 8) at α_mf = α√M. Its plain gradient flow θ̇ = −∂L'/∂θ is therefore the mean-field flow
θ̇ = −M ∂L/∂θ (eq. 4) at α_mf, at the same t: the runs at (α_mf, M) are those of the other scaling at α = α_mf/√M.

So curves for different M collapse against α in one scaling and against α√M in the other, where M is large. What is left
is of finite M: the kernel of lazy networks, which changes by O(γ²) at M = ∞ and by O(γ/√M) besides, and their test
error, which needs M ≫ d²/2 features.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mfnet.collection import Collection, Points, finals, spread
from mfnet.figures import style
from mfnet.figures.experiments import panels
from mfnet.record.series import DISPLACEMENT, TEST_ERROR


class Observable(NamedTuple):
    """What is read off at the end of a run.

    Attributes:
        name: Its column.
        label: What it is called.
        logarithmic: Whether it is a power of α at both ends, and drawn and compared by its logarithm.
        theory: The column of its prediction, if it has one.
    """

    name: str
    label: str
    logarithmic: bool
    theory: str | None


class View(NamedTuple):
    """A scaling of the output and an abscissa: alpha of the runs times M to the ``power``."""

    scaling: str
    abscissa: str
    power: float

    @property
    def name(self) -> str:
        """What is drawn against what."""
        return f"{self.scaling} {self.abscissa}"


OBSERVABLES = (
    Observable(DISPLACEMENT.name, f"{DISPLACEMENT.label} {DISPLACEMENT.symbol}", True, "displacement_theory"),
    Observable(
        "kernel_change", r"kernel change $\Vert\Delta K\Vert/\Vert K_0\Vert$", True, "kernel_change_moving_kernel"
    ),
    Observable(TEST_ERROR.name, f"{TEST_ERROR.label} {TEST_ERROR.symbol}", False, None),
)

VIEWS = (
    View("$1/M$", r"$\alpha$", 0.0),
    View("$1/M$", r"$\alpha\sqrt{M}$", 0.5),
    View(r"$1/\sqrt{M}$", r"$\alpha$", -0.5),
    View(r"$1/\sqrt{M}$", r"$\alpha\sqrt{M}$", 0.0),
)


def by_width(ends: pd.DataFrame, observable: Observable, view: View) -> dict[int, Points]:
    """The observable over the abscissa of the view, for each M; a logarithmic one as its decimal logarithm.

    Args:
        ends: A row an α and M (`mfnet.collection.finals`).
        observable: What is read off.
        view: Against what.
    """
    found = {}
    for M in sorted(ends["M"].unique().tolist()):
        own = ends[ends["M"] == M].sort_values("alpha")
        x, values = (own[name].to_numpy(np.float64) for name in ("alpha", f"{observable.name}_mean"))
        found[M] = Points(x * M**view.power, np.log10(values) if observable.logarithmic else values)
    return found


def spreads(ends: pd.DataFrame) -> dict[str, dict[str, float]]:
    """How far the curves of different M are apart (`mfnet.collection.spread`), for each observable and view."""
    return {
        observable.name: {view.name: spread(list(by_width(ends, observable, view).values())) for view in VIEWS}
        for observable in OBSERVABLES
    }


def draw(collection: Collection, path: Path) -> Path:
    """A row an observable at full fit and a column a view, each with the spread of its curves."""
    ends = finals(collection, ["alpha", "M"])
    apart = spreads(ends)
    with style.figure(path, 17.0, 11.5) as figure:
        grid = figure.subplots(len(OBSERVABLES), len(VIEWS), sharex="col", sharey="row")
        for row, observable in zip(grid, OBSERVABLES, strict=True):
            row[0].set_ylabel(observable.label)
            for axes, view in zip(row, VIEWS, strict=True):
                _panel(axes, ends, observable, view)
                axes.set_title(f"spread {100.0 * apart[observable.name][view.name]:.1f} %", fontsize=13)
        for axes, view in zip(grid[0], VIEWS, strict=True):
            axes.set_title(f"{view.scaling} scaling\n{axes.get_title()}", fontsize=13)
        for axes, view in zip(grid[-1], VIEWS, strict=True):
            axes.set_xlabel(view.abscissa)
        style.letter(grid.ravel())
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return path


def _panel(axes: Axes, ends: pd.DataFrame, observable: Observable, view: View) -> None:
    """A curve for each M with standard errors, and the prediction for infinitely many nodes and examples."""
    curves = by_width(ends, observable, view)
    for M, colour in panels.shaded(ends["M"]):
        own = ends[ends["M"] == M].sort_values("alpha")
        mean, error = own[f"{observable.name}_mean"], own[f"{observable.name}_se"]
        look = panels.POINTS | {"ls": "-", "lw": 1.0}
        axes.errorbar(curves[M].x, mean, error, **look, color=colour, label=f"$M={M}$")
    if observable.theory and view.power == 0.0:  # the same for all M but for when they end: of the last one
        label = r"theory at the same times, $N, M\to\infty$"
        axes.plot(own["alpha"], own[f"{observable.theory}_mean"], "--", color=style.THEORY, label=label)
    axes.set_xscale("log")
    if observable.logarithmic:
        axes.set_yscale("log")
