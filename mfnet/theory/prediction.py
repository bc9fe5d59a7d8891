"""A theory at the observations of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
from jaxtyping import Float

from mfnet.theory.overlay import (
    Array,
    Curve,
    Draw,
    Nodes,
    Theory,
    checked_nodes,
    checked_satisfaction,
    checked_series,
)


class Prediction:
    """What a theory says of a run up to each of its observations; it is solved once, at the scheduled times.

    One that is solved step by step is asked as the run goes, so that it need not wait for the whole.

    Args:
        name: Its name in the files, where columns end in ``_name``.
        theory: The theory.
        times: The scheduled times.
        draw: Gives what the run has drawn.
    """

    def __init__(self, name: str, theory: Theory, times: Float[Array, " K"], draw: Callable[[], Draw]):
        self.name, self.times = name, times
        self.theory = theory.of_draw(draw)
        self._nodes: dict[int, Nodes | None] = {}  # by the number of nodes
        self._early: tuple[float, Mapping[str, Curve]] | None = None

    def check(self) -> None:
        """Asks for everything once, of nodes with a few initial values.

        Raises:
            ValueError: If it is not what a theory may return; or whatever the theory raises.
        """
        _ = self._series, self._satisfaction
        checked_nodes(self.theory, self.times, np.array([-1.0, 0.5, 1.0]), np.array([0.5, -1.0, 1.0]), np.ones(3))

    @property
    def curves(self) -> Mapping[str, Curve]:
        """Predictions at the scheduled times."""
        return self._series

    @cached_property
    def _series(self) -> Mapping[str, Curve]:
        return checked_series(self.theory, self.times)

    @cached_property
    def _satisfaction(self) -> Curve | None:
        return checked_satisfaction(self.theory, self.times)

    def series(self, k: int, t: float) -> Mapping[str, Curve]:
        """Predictions at the observations up to the k-th, at ``t``: off the schedule where a run ends early."""
        if self.times[k] == t and not self.theory.stepwise:
            return {name: _head(curve, k + 1) for name, curve in self._series.items()}
        if self._early is None or self._early[0] != t:
            self._early = t, checked_series(self.theory, np.append(self.times[:k], t))
        return self._early[1]

    def nodes(self, k: int, t: float, start: Nodes) -> Nodes | None:
        """Trajectories up to the k-th observation of the first nodes; initial values are the first row of ``start``.

        The whole of them is predicted once for each number of nodes that is asked for.
        """
        first = [values[0] for values in start]
        if self.times[k] != t or self.theory.stepwise:
            return checked_nodes(self.theory, np.append(self.times[:k], t), *first)
        n = len(first[0])
        if n not in self._nodes:
            self._nodes[n] = checked_nodes(self.theory, self.times, *first)
        whole = self._nodes[n]
        return whole and Nodes(*(values[: k + 1] for values in whole))

    def satisfaction(self, k: int, t: float) -> Curve | None:
        """The projection satisfied at each observation up to the k-th."""
        if self.times[k] == t:
            return self._satisfaction and _head(self._satisfaction, k + 1)
        return checked_satisfaction(self.theory, np.append(self.times[:k], t))


def _head(curve: Curve, length: int) -> Curve:
    return Curve._make(None if values is None else values[:length] for values in curve)
