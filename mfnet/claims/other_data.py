"""Other initial variances and other symmetric inputs."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

from mfnet.claims.claim import Evidence, Row, claim, near
from mfnet.claims.effort import Effort
from mfnet.claims.infinite_data import UNSATISFIED, times_of
from mfnet.claims.simulation import Record, Setup, population, stack
from mfnet.figures.claims import Line, Plot
from mfnet.flow import Euler
from mfnet.theory import MeanField

#: What differs from unit variances and normal inputs; the fields that `MeanField` and `Setup` share.
CASES: dict[str, dict[str, Any]] = {
    "A=2, B=1": {"a_std": 2.0},
    "A=0.5, B=1.5": {"a_std": 0.5, "w_std": 1.5},
    "stretch 0.5": {"inputs": "elongated", "stretch": 0.5},
    "stretch 2": {"inputs": "elongated", "stretch": 2.0},
    "|x| of a gamma law": {"inputs": "radial", "radius": {"name": "gamma", "a": 4.0, "scale": 1.2}},
}


@claim(
    "other-data",
    statement="⟨a w∥⟩ = (A² + B²)/2 · sinh 2γ(t), with J = ⟨φ y x∥⟩ of the law of x∥: initial variances A², B², inputs "
    "stretched along ŵ*, any law of |x|",
    regime="exact for N, M → ∞ where x → −x and x⊥ → −x⊥ are symmetries; networks of M nodes differ by O(1/M) "
    "in the mean",
    source="theory.md 2, eq. 9-11",
)
def other_data(effort: Effort) -> Evidence:
    """Euler steps of networks on fresh examples against the same steps of the theory."""
    rows: list[Row] = []
    lines: list[Line] = []
    M, batch, n_seeds, n_steps = effort.choose((2000, 3000, 4, 40), (400, 500, 3, 30))
    for number, (name, settings) in enumerate(CASES.items()):
        model = MeanField(d=20, **settings)
        times = times_of(model, UNSATISFIED)
        dt = float(times[-1]) / n_steps
        solution = replace(model, dt=dt).solve(times)
        predicted = 2.0 * model.mean_variance * solution.sinh * solution.cosh
        setup = Setup(M, 20, batch, **settings)
        runs: list[Record] = effort.map(
            partial(population, times=times, method=partial(Euler, dt=dt)), setup.seeds(n_seeds)
        )
        overlaps = stack(runs, "overlap")
        mean, error = overlaps.mean(axis=0), overlaps.std(axis=0, ddof=1) / math.sqrt(n_seeds)
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
        lines.append(Line(name, times, mean, error, "network", number))
        lines.append(Line("", times, predicted, None, "theory", number))
    caption = "⟨a w∥⟩ of networks (points) and of the theory (lines)."
    return Evidence(rows, [Plot("other-data", caption, "$t$", r"$\langle a\,w^\parallel\rangle$", lines, "xy")])
