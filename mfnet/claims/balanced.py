"""Balanced initial values: how far a network of M nodes is from M = ∞, against independent ones."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from jaxtyping import Float

from mfnet.claims.claim import Evidence, Row, claim, near
from mfnet.claims.effort import Effort
from mfnet.claims.simulation import Record, draw_of, setup_of, stack, train
from mfnet.figures.claims import Line, Plot
from mfnet.flow import Rotation
from mfnet.setup.setup import Setup
from mfnet.theory import ActualKernel, LimitKernel, MeanField
from mfnet.theory.initial import INITS

#: Deviation of a fitted exponent that terms of higher order explain.
HIGHER_ORDER = 0.08


@claim(
    "balanced",
    statement="deviation of F from M = ∞: ∝ M^−½ with independent nodes; with balanced ones 0 on fresh data from "
    "M = 4d on, at all times, and ∝ (MN)^−½ on N examples at the start",
    regime="inputs of spherical symmetry; ReLU, M ≥ 4d; first order in 1/√M",
    source="mfnet.theory.initial",
)
def balanced(effort: Effort) -> Evidence:
    """Networks on fresh examples, whose number alone limits the balanced ones; and F of one step on a training set."""
    rows, lines = _on_fresh_examples(effort)
    more, more_lines = _on_a_training_set(effort)
    plot = Plot(
        "balanced",
        "Deviation of F from M = ∞, relative, root mean square over inputs and draws. Fresh data: over a run, from the "
        "mean field's F; what is left of balanced networks is the sampling of each step's examples. N examples: the "
        "first step, from F of the limit kernel on the same examples.",
        "$M$",
        "deviation of F / F",
        [*lines, *more_lines],
        "xy",
    )
    return Evidence(rows + more, [plot])


def _on_fresh_examples(effort: Effort) -> tuple[list[Row], list[Line]]:
    d, sizes, n_seeds = 10, effort.choose((40, 160, 640), (40, 160)), effort.choose(6, 3)
    batches = effort.choose((2000, 20_000), (500, 2000))
    model = MeanField(d=d)
    dt = model.time_scale / 30.0
    times = model.time_scale * np.array([0.3, 1.0, 3.0])
    mu = MeanField(d=d, dt=dt, scheme="rotation").solve(times).output(np.ones(1))[:, 0]  # at x∥ = 1
    x = np.random.default_rng(0).normal(size=(100, d))
    run = partial(train, times=times, method=partial(Rotation, dt=dt), probes=x)
    found: dict[tuple[str, int], Float[np.ndarray, "n S"]] = {}
    for init in INITS:
        for batch in batches:
            cases = [_setup(M, d, batch, init, seed, fresh=True) for M in sizes for seed in range(n_seeds)]
            runs: list[Record] = effort.map(run, cases)
            relative = stack(runs, "excess") / mu[:, None] - x[:, 0]
            found[init, batch] = _rms(relative, (1, 2)).reshape(len(sizes), n_seeds).T
    few, many = (f"d={d}, M={sizes[0]} … {sizes[-1]}, {n} fresh examples a step, {n_seeds} seeds" for n in batches)
    rows = [
        _exponent("fresh data, independent: exponent in M", many, -0.5, sizes, found["independent", batches[1]]),
        _exponent("fresh data, balanced: exponent in M", many, 0.0, sizes, found["balanced", batches[1]]),
        _exponent(
            "fresh data, balanced: exponent in the examples of a step",
            f"{few}, and {batches[1]}",
            -0.5,
            batches,
            np.column_stack([_rms(found["balanced", batch], (1,)) for batch in batches]),
        ),
    ]
    lines = [
        Line(f"{init}, {batch} fresh", sizes, _rms(found[init, batch], (0,)), None, "network", 2 * i + j)
        for i, init in enumerate(INITS)
        for j, batch in enumerate(batches)
    ]
    return rows, lines


def _on_a_training_set(effort: Effort) -> tuple[list[Row], list[Line]]:
    d, sizes = 20, effort.choose((80, 160, 320, 640, 1280), (80, 320))
    examples, n_seeds = effort.choose((500, 2000), (250, 1000)), effort.choose(24, 10)
    found: dict[tuple[str, int], Float[np.ndarray, "n S"]] = {}
    for init in INITS:
        for N in examples:
            steps = effort.map(_first_step, [_setup(M, d, N, init, seed) for M in sizes for seed in range(n_seeds)])
            found[init, N] = np.reshape(steps, (len(sizes), n_seeds)).T
    few, many = (f"d={d}, M={sizes[0]} … {sizes[-1]}, N={N}, {n_seeds} seeds" for N in examples)
    rows = [
        _exponent(f"N examples, {init}: exponent in M", many, -0.5, sizes, found[init, examples[1]]) for init in INITS
    ]
    rows.append(
        _exponent(
            "N examples, balanced: exponent in N",
            f"{few}, and {examples[1]}",
            -0.5,
            examples,
            np.column_stack([_rms(found["balanced", N], (1,)) for N in examples]),
        )
    )
    lines = [
        Line(f"{init}, N={N}", sizes, _rms(found[init, N], (0,)), None, "network", 4 + 2 * i + j)
        for i, init in enumerate(INITS)
        for j, N in enumerate(examples)
    ]
    return rows, lines


def _setup(M: int, d: int, N: int, init: str, seed: int, *, fresh: bool = False) -> Setup:
    return setup_of(M, d, N, fresh=fresh, seed=seed, network={"init": init})


def _first_step(setup: Setup) -> float:
    """Deviation, relative to F, of the first step's F from that of the limit kernel on the same examples."""
    draw = draw_of(setup)
    x, y = np.random.default_rng(1).normal(size=(200, setup.d)), draw.y[:, None]
    limit, actual = (
        kernel.product(x, draw.x, y) for kernel in (LimitKernel("relu"), ActualKernel("relu", draw.a0, draw.w0))
    )
    return float(np.linalg.norm(actual - limit) / np.linalg.norm(limit))


def _exponent(
    case: str, simulation: str, predicted: float, sizes: tuple[int, ...], deviations: Float[np.ndarray, "n S"]
) -> Row:
    """The slope of the logarithms over sizes, its mean over seeds; each seed has one row of ``deviations``."""
    slopes = np.polyfit(np.log(sizes), np.log(deviations).T, 1)[0]
    error = float(slopes.std(ddof=1)) / math.sqrt(len(slopes))
    return near(
        case, simulation, predicted, float(slopes.mean()), error, neglected=HIGHER_ORDER, because="higher orders"
    )


def _rms(values: np.ndarray, axis: tuple[int, ...]) -> np.ndarray:
    return np.sqrt(np.mean(values**2, axis=axis))
