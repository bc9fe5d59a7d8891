"""The population's dynamics: networks that see fresh examples at each step (N = ∞)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from scipy import special

from mfnet.claims.claim import Evidence, Row, claim, near
from mfnet.claims.effort import Effort
from mfnet.claims.simulation import Record, Setup, population, stack
from mfnet.figures.claims import Line, Plot
from mfnet.flow import Euler
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
        times = times_of(model, UNSATISFIED)
        dt = float(times[-1]) / effort.choose(80, 30)
        predicted = 2.0 * (solution := replace(model, dt=dt).solve(times)).sinh * solution.cosh
        setup = Setup(M, 20, batch, activation=activation, loss=loss, flip=flip)
        runs: list[Record] = effort.map(
            partial(population, times=times, method=partial(Euler, dt=dt)), setup.seeds(n_seeds)
        )
        overlaps = stack(runs, "overlap")
        mean, error = overlaps.mean(axis=0), overlaps.std(axis=0, ddof=1) / math.sqrt(n_seeds)
        name = f"{activation}, {loss}" + f", ε={flip:g}" * (flip > 0.0)
        simulation = f"M={M}, d=20, {batch} fresh examples a step, Δt={dt:.2g}, {n_seeds} seeds"
        rows += [
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
        plots[0].lines.append(Line(name, times, mean, error, "network", number))
        plots[0].lines.append(Line("", times, predicted, None, "theory", number))
    return Evidence(rows, plots)
