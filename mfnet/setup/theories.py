"""The theories of a run, and the times at which it is observed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from jaxtyping import Float

from mfnet.record.schedule import round_to_digit
from mfnet.setup.pieces import Builder
from mfnet.setup.setup import Setup
from mfnet.theory import Draw, MeanField, Theory, Trust, trust


class Theories:
    """What theory says of a run, built on one mean-field solution.

    Args:
        setup: The run.
        draw: Gives what it draws, for theories that speak of it.
    """

    def __init__(self, setup: Setup, draw: Callable[[], Draw]):
        self.setup, self.draw = setup, draw
        self._build = Builder(setup.config, setup.objects, (setup.mean_field, lambda: self.mean_field))

    @cached_property
    def mean_field(self) -> MeanField:
        """The mean-field solution, before it is given a draw."""
        return Builder(self.setup.config, self.setup.objects)("mean_field")

    @cached_property
    def solution(self) -> MeanField:
        """The same, of the actual training set where the data have no law."""
        return self.mean_field.of_draw(self.draw)

    @cached_property
    def unit(self) -> float:
        """The theory's unit of time, to one digit."""
        return round_to_digit(self.solution.time_scale)

    @cached_property
    def times(self) -> Float[np.ndarray, " K"]:
        """The observation times."""
        return self._build("schedule", time_scale=self.unit)

    @property
    def names(self) -> list[str]:
        """Names of the theories that are laid over the run, the first of which is ``theory``."""
        return ["theory", *self.setup.overlay]

    def named(self, name: str) -> Theory:
        """The theory of that name, before it is given a draw."""
        theory: Theory = self._build(name if name == "theory" else f"overlay.{name}")
        return theory

    def trusted(self, times: Float[np.ndarray, " K"]) -> list[Trust]:
        """Until when each prediction is trustworthy, between the first and last of the times; unknown for real data."""
        if self.mean_field.needs_draw:
            return []
        looked = np.union1d(times, np.geomspace(times[1], times[-1], 100)[1:-1]) if len(times) > 2 else times
        return trust(self.mean_field, self.setup.M, self.setup.N, looked)
