"""What a run has left, in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mfnet.record.series import TEST_ERROR, TRAIN_ERROR

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Contents:
    """The record of a run.

    Attributes:
        history: Columns of ``history.csv``: ``k``, ``t``, and ``NAME_network``, ``NAME_theory``, ….
        arrays: Arrays by the name of their file: ``nodes``, ``examples``, and ``replicas`` of an ensemble.
        summary: What ``summary.json`` says.
    """

    history: Mapping[str, Float[np.ndarray, " K"]]
    arrays: Mapping[str, Arrays]
    summary: Mapping[str, Any]

    @property
    def rows(self) -> list[dict[str, float]]:
        """The observations, one by one."""
        columns = [(values.astype(int) if name == "k" else values).tolist() for name, values in self.history.items()]
        return [dict(zip(self.history, row, strict=True)) for row in zip(*columns, strict=True)]

    @property
    def theories(self) -> list[str]:
        """Names of the theories that were laid over the run; the column of a series ends in one of them."""
        return list(self.summary["theories"])

    def trusted_until(self, theory: str, what: str) -> float:
        """Until when a prediction is trustworthy: a series, or single nodes and examples; inf if nothing is known.

        Args:
            theory: Name of the theory.
            what: Name of the series, or ``nodes``.
        """
        kind = "errors" if what in (TRAIN_ERROR.name, TEST_ERROR.name) else what
        ends = self.summary.get("overlaid", {}).get(theory, {}).get("trusted_until", {})
        until = ends.get(kind if kind in ends else "others")
        return math.inf if until is None else float(until)

    @property
    def series(self) -> list[str]:
        """Names of the series that were observed of the network."""
        return list(self.summary["series"])

    @property
    def final(self) -> dict[str, float]:
        """The last value of each series of the network that has a finite one; of replicas, their mean."""
        last = {name: float(self.history[f"{name}_network"][-1]) for name in self.series}
        return {name: value for name, value in last.items() if np.isfinite(value)}
