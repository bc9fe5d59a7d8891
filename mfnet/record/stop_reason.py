"""How a run ends, and what follows from it."""

from __future__ import annotations

from enum import StrEnum


class StopReason(StrEnum):
    """How a run, or a replica of it, ended; the value of ``stop_reason`` in ``summary.json``."""

    T_MAX = "t_max"
    ALL_SATISFIED = "all_satisfied"
    WALL_TIME = "wall_time"
    ENOUGH_SATISFIED = "enough_satisfied"
    TEST_ERROR_ROSE = "test_error_rose"
    STATIONARY = "stationary"
    STEP_TOO_SMALL = "step_too_small"
    DIVERGED = "diverged"
    REPLICAS_ENDED = "replicas_ended"
    INTERRUPTED = "interrupted"
    #: A callback, or an option of Lightning's trainer, has stopped it.
    CALLBACK = "callback"
    #: An exception, which ``stop_reason`` then quotes: ``error: …``.
    ERROR = "error"

    @classmethod
    def read(cls, text: str) -> StopReason:
        """The reason that ``summary.json`` gives.

        Raises:
            ValueError: If it is none.

        >>> StopReason.read("error: out of memory") is StopReason.ERROR
        True
        """
        return cls.ERROR if text.startswith(cls.ERROR) else cls(text)

    @property
    def final(self) -> bool:
        """Whether the run cannot go on: nothing would move, or something went wrong."""
        return self in (
            StopReason.ALL_SATISFIED,
            StopReason.DIVERGED,
            StopReason.STEP_TOO_SMALL,
            StopReason.REPLICAS_ENDED,
            StopReason.ERROR,
        )

    @property
    def resumable(self) -> bool:
        """Whether the run was cut off: a sweep that is typed again goes on with it."""
        return self in (StopReason.INTERRUPTED, StopReason.WALL_TIME)

    @property
    def by_rule(self) -> bool:
        """Whether a rule of ``stop`` ended it: with more time, or under other rules, it goes on."""
        return self in (
            StopReason.WALL_TIME,
            StopReason.ENOUGH_SATISFIED,
            StopReason.TEST_ERROR_ROSE,
            StopReason.STATIONARY,
        )

    @property
    def at_observation(self) -> bool:
        """Whether such an end comes at a scheduled time; others come between two."""
        return self in (
            StopReason.T_MAX,
            StopReason.TEST_ERROR_ROSE,
            StopReason.STATIONARY,
            StopReason.INTERRUPTED,
            StopReason.CALLBACK,
        )
