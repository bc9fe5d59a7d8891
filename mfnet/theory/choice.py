"""Which theory is laid over a run that asks for none: the best that is cheap, to the end of the run.

All that is decided stands in `Auto.choose`. On a training set that does not change the kernel closure with the run's
own examples and nodes is the best in every regime: over α = 10⁻³ … 10³, N/d = 5, 25, 100 and M/d = 1, 4, 32 (d = 40)
the whole curve of the test error lies within 15 % of the network's in 33 of 45 runs, against 2 for the average over
draws (`mfnet validate overlay`); those where it does not are rich, late. Where there is no such set, or it costs too
much, the analytic solution with its corrections for finite M takes its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float

from mfnet.theory.arrays import Array, Numbers
from mfnet.theory.closures import KernelClosure
from mfnet.theory.finite_width import FiniteWidth
from mfnet.theory.mean_field import MeanField
from mfnet.theory.overlay import Curve, Draw, Nodes, Theory

#: Largest (N + test examples) d² at which a closure is cheap: about five seconds on one slow core, 3 to 4 at N = 10⁴,
#: d = 100.
CHEAP = 2.5e8


class Choice(NamedTuple):
    """What was chosen, and why, in one line."""

    theory: Theory
    because: str


@dataclass(frozen=True)
class Combined(Theory):
    """The series of a theory of one run, and where that has none the nodes and the satisfied projections of another.

    Args:
        series_of: Predicts the series, and nodes that it knows.
        beside: Predicts the rest.
    """

    series_of: Theory
    beside: Theory

    @property
    def stepwise(self) -> bool:
        return self.series_of.stepwise

    @property
    def trusted_as(self) -> str | None:
        return self.series_of.trusted_as

    @property
    def needs_draw(self) -> bool:
        return self.series_of.needs_draw or self.beside.needs_draw

    def of_draw(self, draw: Callable[[], Draw]) -> Combined:
        drawn = draw()
        return Combined(self.series_of.of_draw(lambda: drawn), self.beside.of_draw(lambda: drawn))

    def series(self, t: Numbers) -> dict[str, Curve]:
        return dict(self.series_of.series(t))

    def nodes(
        self, t: Float[Array, " T"], a0: Float[Array, " n"], w_par0: Float[Array, " n"], w_perp0: Float[Array, " n"]
    ) -> Nodes | None:
        known = self.series_of.nodes(t, a0, w_par0, w_perp0)
        return self.beside.nodes(t, a0, w_par0, w_perp0) if known is None else known

    def satisfaction(self, t: Float[Array, " T"]) -> Curve | None:
        known = self.series_of.satisfaction(t)
        return self.beside.satisfaction(t) if known is None else known


@dataclass(frozen=True)
class Auto(Theory):
    """Asks for the best theory that is cheap; `choose` gives it, and until then there is nothing to predict.

    Args:
        mean_field: The mean-field solution.
        M: Nodes.
        init: How they are drawn.
    """

    mean_field: MeanField
    M: int
    init: str = "independent"

    def choose(self, N: int, n_test: int, refused: str | None) -> Choice:
        """The theory for a run.

        Args:
            N: Training examples.
            n_test: Test examples.
            refused: Why no theory can speak of the run's own draw, if none can.
        """
        reason = refused or self._too_expensive(N, n_test)
        if reason is None:
            try:
                closure = KernelClosure(self.mean_field, start="actual")
            except ValueError as error:  # of a loss or an activation that it cannot follow
                reason = str(error)
            else:
                because = f"it follows the actual {N} examples and {self.M} nodes, and is cheap for their number"
                return Choice(Combined(closure, self._average), because)
        return Choice(self._average, f"an average over draws, since {reason}")

    @property
    def _average(self) -> Theory:
        if self.mean_field.nonlinearity.even is None:
            return self.mean_field
        return FiniteWidth(self.mean_field, self.M, self.init)

    def _too_expensive(self, N: int, n_test: int) -> str | None:
        cost = float(N + n_test) * self.mean_field.d**2
        if cost <= CHEAP:
            return None
        return f"the kernel closure costs (N + test examples) d² = {cost:.2g}, above {CHEAP:.2g}"
