"""The small interface that lets any prediction be laid over a run.

To overlay a theory of your own, subclass `Theory`, write `series` (and `nodes` or `satisfaction` if it
has something to say about them) and name the class in the config; see the README.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Array = np.ndarray


class Curve(NamedTuple):
    """A predicted value, with the band of one standard deviation where the theory has one."""

    value: Float[Array, " T"]
    lower: Float[Array, " T"] | None = None
    upper: Float[Array, " T"] | None = None


class Nodes(NamedTuple):
    """Parameters of n nodes: a, w∥ = ŵ*·w and |w⊥|."""

    a: Float[Array, "T n"]
    w_par: Float[Array, "T n"]
    w_perp: Float[Array, "T n"]


class Draw(NamedTuple):
    """What one run has drawn: initial nodes, training and test examples, and the reference direction ŵ*."""

    a0: Float[Array, " M"]
    w0: Float[Array, "M d"]
    x: Float[Array, "N d"]
    y: Float[Array, " N"]
    x_test: Float[Array, "K d"]
    y_test: Float[Array, " K"]
    direction: Float[Array, " d"]


class Theory:
    """What can be overlaid on a run. This one predicts nothing; `t` is mean-field time, increasing from 0."""

    @property
    def needs_draw(self) -> bool:
        """Whether this theory speaks of one actual run, and predicts nothing before it has the draw."""
        return type(self).of_draw is not Theory.of_draw

    def of_draw(self, draw: Callable[[], Draw]) -> Theory:
        """The same theory of one actual run; itself, if it speaks of the average over all draws.

        Args:
            draw: Gives the run's draw, in float64; a theory that needs none does not call it.
        """
        return self

    def series(self, t: Float[Array, " T"]) -> Mapping[str, Curve]:
        """Predictions by series name: those of `mfnet.record.series.SERIES` that it knows, and others of its own."""
        return {}

    def nodes(
        self, t: Float[Array, " T"], a0: Float[Array, " n"], w_par0: Float[Array, " n"], w_perp0: Float[Array, " n"]
    ) -> Nodes | None:
        """Trajectories of the nodes that start at (a0, w_par0, w_perp0), or None."""
        return None

    def satisfaction(self, t: Float[Array, " T"]) -> Curve | None:
        """The projection |ŵ*·x| that becomes satisfied at t (Fig. 1d), or None; inf where none is yet."""
        return None
