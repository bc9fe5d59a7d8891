"""How a run ends, and the rules that end it early."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum

from mfnet.processes import Processes


class StopReason(StrEnum):
    """How a run ended; the value of ``stop_reason`` in ``summary.json``."""

    T_MAX = "t_max"
    ALL_SATISFIED = "all_satisfied"
    ENOUGH_SATISFIED = "enough_satisfied"
    WALL_TIME = "wall_time"
    TEST_ERROR_ROSE = "test_error_rose"
    STATIONARY = "stationary"
    STEP_TOO_SMALL = "step_too_small"
    DIVERGED = "diverged"
    REPLICAS_ENDED = "replicas_ended"
    INTERRUPTED = "interrupted"


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
