"""The hydrodynamic equation itself against networks: activations and label rules that have no closed form."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from mfnet.claims.claim import Evidence, Row, claim, near
from mfnet.claims.effort import Effort
from mfnet.claims.simulation import nodes_and_series, seeds, setup_of
from mfnet.figures.claims import Line, Plot
from mfnet.flow import Euler
from mfnet.record.series import LOSS, UNSATISFIED
from mfnet.setup.setup import Setup
from mfnet.theory import Hydrodynamic
from mfnet.theory.hydrodynamic import LARGEST_TAIL

Array = np.ndarray

#: The moment ⟨a g(v)⟩ of the latent components v that a rule makes grow.
MOMENTS: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "sign": ("⟨a v⟩", lambda v: v[..., 0]),
    "threshold": ("⟨a v⟩", lambda v: v[..., 0]),
    "shell": ("⟨a v²⟩", lambda v: v[..., 0] ** 2),
    "xor": ("⟨a v₁v₂⟩", lambda v: v[..., 0] * v[..., 1]),
    "clusters": ("⟨a (v₁² − v₂²)⟩", lambda v: v[..., 0] ** 2 - v[..., 1] ** 2),
}

#: Times at which networks are looked at. Of ReLU² those are left out at which its largest nodes have run away.
TIMES: dict[tuple[str, str], tuple[float, ...]] = {
    **{(name, rule): (5.0, 10.0, 20.0, 40.0, 60.0) for name in ("tanh", "erf") for rule in ("sign", "threshold")},
    **{("sigmoid", rule): (10.0, 20.0, 40.0, 60.0, 80.0) for rule in ("sign", "threshold")},
    **{("relu_squared", rule): (1.0, 2.0, 3.0, 4.0, 5.0) for rule in ("sign", "threshold", "shell", "xor")},
    ("relu_squared", "clusters"): (0.5, 1.0, 1.5, 2.0, 3.0),
    **{("relu", rule): (20.0, 40.0, 60.0, 80.0, 100.0) for rule in ("shell", "xor")},
    ("relu", "threshold"): (5.0, 10.0, 20.0, 40.0, 60.0),
    ("relu", "clusters"): (5.0, 10.0, 20.0, 30.0, 60.0),
}

#: Odd activations and even rules: nothing moves.
STILL = [(name, rule) for name in ("tanh", "erf", "sigmoid") for rule in ("shell", "xor", "clusters")]

#: Nodes and seeds for ReLU², whose few largest nodes count most: of 2000 nodes L is 0.008 too large, of
#: 16000 within 0.001.
LARGE = (8000, 4)

#: What Euler steps and finite M leave out: of a moment relative to it, and absolute of n_u, L, and a moment that is 0.
RELATIVE, ABSOLUTE = 0.015, 0.005


@claim(
    "hydrodynamics",
    statement="eq. 5 on its characteristics (a, v, r) gives ⟨a g(v)⟩, ⟨r²⟩, n_u and L for any activation and any rule "
    "of a few latent directions",
    regime="N, M → ∞, up to terms of order 1/d^{3/2}; a row is the time out of five at which the deviation is largest",
    source="Sec. 2, eq. 5",
)
def hydrodynamics(effort: Effort) -> Evidence:
    """Networks of balanced nodes that see fresh examples at each step."""
    cases = effort.choose([*TIMES, *STILL], [("erf", "sign"), ("erf", "xor")])
    rows: list[Row] = []
    plots: list[Plot] = []
    for activation, rule in cases:
        found, drawn = _compared(effort, activation, rule)
        rows += found
        plots += drawn
    return Evidence(rows, plots)


def _compared(effort: Effort, activation: str, rule: str) -> tuple[list[Row], list[Plot]]:
    M, d, batch, n_steps, n_seeds = effort.choose((2000, 20, 200, 1000, 6), (400, 20, 50, 200, 3))
    if activation == "relu_squared":
        M, n_seeds = LARGE
    still = (activation, rule) in STILL
    times = (60.0,) if still else TIMES[activation, rule]
    settings: dict[str, Any] = {
        "data": "online_latent",
        "data.rule": rule,
        "network.activation": activation,
        "network.init": "balanced",
    }
    setup = setup_of(M, d, batch, n_test=effort.choose(20000, 2000), fresh=True).but(**settings)
    run = partial(observed, times=times, dt=times[-1] / n_steps, rule=rule)
    records = effort.map(run, seeds(setup, n_seeds))
    measured = {name: np.array([record[name] for record in records]) for name in records[0]}
    solution = Hydrodynamic(d=d, activation=activation, inputs="latent", rule=rule).solve(times)
    label, g = MOMENTS[rule]
    predicted = {
        label: solution.mean(lambda a, v, r: a * g(v)),
        "⟨r²⟩^½": np.sqrt(solution.mean(lambda a, v, r: r**2)),
        "n_u": solution.unsatisfied,
        "L": solution.loss,
    }
    simulation = f"M={M} balanced, d={d}, {batch} fresh examples a step, {n_steps} Euler steps, {n_seeds} seeds"
    rows = []
    for name in [label] if still else predicted:
        values = measured[name]
        error = values.std(axis=0, ddof=1) / math.sqrt(n_seeds)
        relative = name in (label, "⟨r²⟩^½") and not still
        neglected = RELATIVE * np.abs(predicted[name]) if relative else np.full(len(times), ABSOLUTE)
        off = np.abs(values.mean(axis=0) - predicted[name]) / (3.0 * error + neglected)
        k = int(np.argmax(np.where(solution.tail <= LARGEST_TAIL, off, -1.0)))
        rows.append(
            near(
                f"{activation}, {rule}: {name} at t={times[k]:g}",
                simulation,
                predicted[name][k],
                float(values.mean(axis=0)[k]),
                float(error[k]),
                neglected=float(neglected[k]),
                because="steps of Euler, finite M",
            )
        )
    if still:
        return rows, []
    return rows, [_plot(activation, rule, label, times, predicted[label], measured[label])]


def observed(setup: Setup, times: Sequence[float], dt: float, rule: str) -> dict[str, Float[Array, " K"]]:
    """The quantities of a row at each time, of one network."""
    nodes, series = nodes_and_series(setup, times, partial(Euler, dt=dt))
    a, w = nodes[..., 0], nodes[..., 1:]
    label, g = MOMENTS[rule]
    k = 2 if rule in ("xor", "clusters") else 1
    return {
        label: (a * g(w[..., :k])).mean(axis=1),
        "⟨r²⟩^½": np.sqrt((w[..., k:] ** 2).sum(axis=2).mean(axis=1)),
        "n_u": series[UNSATISFIED.name],
        "L": series[LOSS.name],
    }


def _plot(
    activation: str, rule: str, label: str, times: Sequence[float], predicted: Array, measured: Float[Array, "s K"]
) -> Plot:
    error = measured.std(axis=0, ddof=1) / math.sqrt(len(measured))
    return Plot(
        f"hydrodynamics_{activation}_{rule}",
        f"{activation}, {rule}: {label}",
        "t",
        label,
        [
            Line("networks", times, measured.mean(axis=0), error, "network"),
            Line("eq. 5", times, predicted, None, "theory"),
        ],
        "y",
    )
