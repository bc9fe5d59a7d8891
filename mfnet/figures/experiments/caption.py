"""What the paper says of the runs of its figures, beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mfnet.figures import style


class _Run(NamedTuple):
    """A run of the paper's, M = 400, d = 100, h = 1, normal inputs: its size, its end, and how its caption tells it."""

    N: int
    alpha: float
    t: float
    words: str


_RUNS = (
    _Run(100_000, 1.0, 5000.0, "all examples classified, test error 0.01"),
    _Run(10_000, 1e3, 75_000.0, "fitted, test error 0.04"),
    _Run(10_000, 1e-3, 0.75, "fitted, test error 0.02"),
)


def lines(summary: Mapping[str, Any]) -> list[str]:
    """Errors and n_u at the end of a run, from its ``summary.json``; then the caption's words, if it is the paper's."""
    config, n_u = summary["config"], summary["n_unsatisfied"] / summary["config"]["N"]
    errors = f"training error {style.number(summary['train_error'])}, test error {style.number(summary['test_error'])}"
    found = [f"{errors}, $n_\\mathrm{{u}}$ = {style.number(n_u)}"]
    if (config["M"], config["d"], config["h"]) == (400, 100, 1.0):
        said = (run for run in _RUNS if (config["N"], config["alpha"]) == (run.N, run.alpha))
        found += [f"paper, $t$ = {style.number(run.t)}: {run.words}" for run in said]
    return found
