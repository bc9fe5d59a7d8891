"""Other initial variances and other symmetric inputs."""

from __future__ import annotations

from typing import Any

from mfnet.claims.claim import Evidence, Row, claim
from mfnet.claims.effort import Effort
from mfnet.claims.infinite_data import overlaps_of
from mfnet.claims.simulation import seeds, setup_of
from mfnet.figures.claims import Line, Plot
from mfnet.theory import MeanField

#: What differs from unit variances and normal inputs, as `MeanField` names it.
CASES: dict[str, dict[str, Any]] = {
    "A=2, B=1": {"a_std": 2.0},
    "A=0.5, B=1.5": {"a_std": 0.5, "w_std": 1.5},
    "stretch 0.5": {"inputs": "elongated", "stretch": 0.5},
    "stretch 2": {"inputs": "elongated", "stretch": 2.0},
    "|x| of a gamma law": {"inputs": "radial", "radius": {"name": "gamma", "a": 4.0, "scale": 1.2}},
}

#: The group of settings that each of these is in.
GROUPS = {"a_std": "network", "w_std": "network", "inputs": "data", "stretch": "data", "radius": "data"}


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
        setup = setup_of(M, 20, batch, fresh=True, **{f"{GROUPS[key]}.{key}": value for key, value in settings.items()})
        found, drawn = overlaps_of(effort, name, model, seeds(setup, n_seeds), n_steps, number)
        rows += found
        lines += drawn
    caption = "⟨a w∥⟩ of networks (points) and of the theory (lines)."
    return Evidence(rows, [Plot("other-data", caption, "$t$", r"$\langle a\,w^\parallel\rangle$", lines, "xy")])
