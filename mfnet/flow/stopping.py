"""The rules that end a run early."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from mfnet.compute.processes import Processes
from mfnet.record.stop_reason import StopReason


@dataclass(frozen=True)
class StoppingRules:
    """When a run ends before the last observation time; a rule that is None does not apply.

    Attributes:
        satisfied: Fraction of the training examples that are satisfied; seen after each step of the flow.
        wall_seconds: Seconds since these rules were made; likewise.
        test_error_rise: Factor by which the test error exceeds its minimum so far; seen at observations.
        stationary: Bound on d ln|θ − θ₀| / d ln t between two observations: by how much the displacement would still
            grow, relative to itself, while t grows e-fold. With label noise the flow converges; without it γ
            goes on as ln t until all are satisfied.
    """

    satisfied: float = 1.0
    wall_seconds: float | None = None
    test_error_rise: float | None = None
    stationary: float | None = None
    started: float = field(default_factory=time.monotonic, init=False)

    def out_of_time(self, processes: Processes) -> bool:
        """Whether the wall time is over, for all processes alike."""
        if self.wall_seconds is None:
            return False
        return processes.agree(time.monotonic() - self.started > self.wall_seconds)

    def of_margins(self, lost: float, satisfied: float) -> StopReason | None:
        """What ends a replica after a step: margins that are not finite, or that enough examples are satisfied.

        Args:
            lost: Number of margins that are not finite.
            satisfied: Fraction of the margins that are at least h.
        """
        if lost:
            return StopReason.DIVERGED
        if satisfied >= self.satisfied:
            return StopReason.ALL_SATISFIED if satisfied == 1.0 else StopReason.ENOUGH_SATISFIED
        return None


@dataclass(frozen=True)
class ObservedSoFar:
    """What the rules that are seen at observations remember of one replica.

    Attributes:
        lowest_test_error: Lowest test error.
        t, displacement: Of the last observation.
    """

    lowest_test_error: float = math.inf
    t: float = 0.0
    displacement: float = 0.0

    def and_now(
        self, rules: StoppingRules, t: float, unsatisfied: float, test_error: float, displacement: float
    ) -> tuple[ObservedSoFar, StopReason | None]:
        """This with a new observation, and what ends the replica there, if anything does."""
        new = ObservedSoFar(min(self.lowest_test_error, test_error), t, displacement)
        reason = rules.of_margins(0.0, 1.0 - unsatisfied)
        if reason is None and rules.test_error_rise and test_error > rules.test_error_rise * new.lowest_test_error:
            reason = StopReason.TEST_ERROR_ROSE
        if reason is None and rules.stationary is not None and self.displacement > 0.0:
            still = math.log(displacement / self.displacement) < rules.stationary * math.log(t / self.t)
            reason = StopReason.STATIONARY if still else None
        return new, reason


def joint_reason(reasons: Sequence[StopReason | None]) -> StopReason | None:
    """Why no replica goes on: a reason that a longer run could lift, or the one that they share, if they do."""
    ended = [reason for reason in reasons if reason is not None]
    if len(ended) < len(reasons):
        return None
    lifted = next((reason for reason in StopReason if reason.by_rule and reason in ended), None)
    return lifted or (ended[0] if len(set(ended)) == 1 else StopReason.REPLICAS_ENDED)
