"""The population's dynamics: networks that see fresh examples at each step (N = ∞)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy import special

from mfnet.claims.claim import Evidence, Row, claim, near
from mfnet.claims.effort import Effort
from mfnet.claims.simulation import Record, seeds, setup_of, stack, train
from mfnet.figures.claims import Line, Plot
from mfnet.flow import Euler
from mfnet.setup.setup import Setup
from mfnet.theory import MeanField

#: Activation, loss and ε of the networks of theory.md 2.
CASES = (
    *((activation, "hinge", 0.0) for activation in ("relu", "gelu", "silu", "softplus", "leaky_relu", "linear")),
    *(("relu", loss, 0.0) for loss in ("logistic", "squared_hinge", "square")),
    *(("relu", "hinge", flip) for flip in (0.1, 0.3)),
)

#: Unsatisfied fractions of the hinge, without label noise, at whose times networks are looked at.
UNSATISFIED = (0.99, 0.8, 0.6, 0.4, 0.25)


def times_of(model: MeanField, unsatisfied: Sequence[float]) -> np.ndarray:
    """The times at which the separable problem would have these unsatisfied fractions."""
    return replace(model, loss="hinge", flip=0.0, dt=None).t_sat(math.sqrt(2.0) * special.erfinv(np.array(unsatisfied)))


@claim(
    "population",
    statement="⟨a w∥⟩ = sinh 2γ(t) = (P² − Q²)/2, for every activation whose odd part is linear, any margin loss, "
    "label noise ε",
    regime="exact for N, M → ∞; networks of M nodes differ by O(1/M) in the mean",
    source="theory.md 2, eq. 9, 10; Sec. 3.4",
)
def population_dynamics(effort: Effort) -> Evidence:
    """Euler steps of the network against the same steps of the theory, so that Δt explains nothing."""
    M, batch, n_seeds = effort.choose((2000, 4000, 8), (400, 500, 3))
    rows: list[Row] = []
    plots: list[Plot] = []
    for number, (activation, loss, flip) in enumerate(effort.choose(CASES, CASES[:2])):
        model = MeanField(d=20, activation=activation, loss=loss, flip=flip)
        differs: dict[str, Any] = {"network.activation": activation, "loss": loss, "data.flip": flip}
        setup = setup_of(M, 20, batch, fresh=True, **differs)
        name = f"{activation}, {loss}" + f", ε={flip:g}" * (flip > 0.0)
        found, drawn = overlaps_of(effort, name, model, seeds(setup, n_seeds), effort.choose(80, 30), number)
        rows += found
        if not plots:
            plots.append(
                Plot(
                    "population",
                    "⟨a w∥⟩ of networks (points) and of the theory (lines).",
                    "$t$",
                    r"$\langle a\,w^\parallel\rangle$",
                    [],
                    "xy",
                )
            )
        plots[0].lines.extend(drawn)
    return Evidence(rows, plots)


def overlaps_of(
    effort: Effort, name: str, model: MeanField, setups: Sequence[Setup], n_steps: int, number: int
) -> tuple[list[Row], list[Line]]:
    """⟨a w∥⟩ of networks on fresh examples against the same Euler steps of the theory, at `UNSATISFIED`.

    Args:
        effort: Runs them.
        name: Of the case, in the rows and the legend.
        model: The theory.
        setups: The networks, which differ in their seeds.
        n_steps: Steps to the last time.
        number: Of the colour.
    """
    times = times_of(model, UNSATISFIED)
    dt = float(times[-1]) / n_steps
    solution = replace(model, dt=dt).solve(times)
    predicted = 2.0 * model.mean_variance * solution.sinh * solution.cosh
    runs: list[Record] = effort.map(partial(train, times=times, method=partial(Euler, dt=dt)), setups)
    overlaps = stack(runs, "overlap")
    mean, error = overlaps.mean(axis=0), overlaps.std(axis=0, ddof=1) / math.sqrt(len(setups))
    M, d, batch = setups[0].M, setups[0].d, setups[0].N
    simulation = f"M={M}, d={d}, {batch} fresh examples a step, Δt={dt:.2g}, {len(setups)} seeds"
    rows = [
        near(
            f"{name}, t={t:.3g}: ⟨a w∥⟩",
            simulation,
            predicted[k],
            mean[k],
            error[k],
            neglected=float(predicted[k]) * 10.0 / M,
            because="10/M, relative",
        )
        for k, t in enumerate(times)
    ]
    return rows, [Line(name, times, mean, error, "network", number), Line("", times, predicted, None, "theory", number)]
