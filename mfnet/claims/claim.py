"""What a claim is: a formula, where it is said to hold, and the check that can refute it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from mfnet.claims.effort import Effort
from mfnet.figures.claims import Plot


class Verdict(StrEnum):
    """What a row of evidence says of its claim."""

    HOLDS = "holds"
    FAILS = "fails"
    NOT_CLAIMED = "not claimed"


@dataclass(frozen=True)
class Row:
    """One case of a claim: a prediction, a measurement, and where the measurement had to lie.

    Attributes:
        case: What was compared.
        simulation: What it was held against: sizes, seeds, steps.
        predicted: The claim's value.
        measured: The simulation's.
        fluctuation: One standard error that ``measured`` is expected to have; 0 where nothing is random.
        lower: Least value of ``measured`` at which the claim holds.
        upper: Largest.
        rule: How these two follow, in words.
        claimed: Whether the claim speaks of this case; if not, it is shown for comparison.
    """

    case: str
    simulation: str
    predicted: float
    measured: float
    fluctuation: float
    lower: float
    upper: float
    rule: str
    claimed: bool = True

    @property
    def deviation(self) -> float:
        """Measured − predicted."""
        return self.measured - self.predicted

    @property
    def verdict(self) -> Verdict:
        """By the row's rule; a measurement that is not a number fails."""
        if not self.claimed:
            return Verdict.NOT_CLAIMED
        return Verdict.HOLDS if self.lower <= self.measured <= self.upper else Verdict.FAILS


def near(
    case: str,
    simulation: str,
    predicted: float,
    measured: float,
    error: float = 0.0,
    *,
    neglected: float = 0.0,
    because: str = "",
    claimed: bool = True,
) -> Row:
    """A row that holds while |measured − predicted| ≤ 3 ``error`` + ``neglected``.

    Args:
        case: What was compared.
        simulation: What it was held against.
        predicted: The claim's value.
        measured: The simulation's.
        error: Standard error of the difference.
        neglected: Size of what the formula leaves out, absolute.
        because: What that is, in words.
        claimed: Whether the claim speaks of this case.
    """
    parts = ["3 standard errors"] if error > 0.0 else []
    parts += [f"{neglected:.2g} ({because})"] if neglected > 0.0 else []
    tolerance = 3.0 * error + neglected
    return Row(
        case,
        simulation,
        float(predicted),
        float(measured),
        float(error),
        float(predicted - tolerance),
        float(predicted + tolerance),
        "within " + " + ".join(parts or ["0"]),
        claimed,
    )


def inside(
    case: str,
    simulation: str,
    predicted: float,
    measured: float,
    bounds: tuple[float, float],
    error: float = 0.0,
    *,
    claimed: bool = True,
) -> Row:
    """A row that holds while ``measured`` lies between ``bounds``; the arguments are those of `near`."""
    lower, upper = map(float, bounds)
    limits = [f"at least {lower:.4g}"] * (lower > -math.inf) + [f"at most {upper:.4g}"] * (upper < math.inf)
    return Row(
        case,
        simulation,
        float(predicted),
        float(measured),
        float(error),
        lower,
        upper,
        " and ".join(limits),
        claimed,
    )


@dataclass(frozen=True)
class Evidence:
    """What a check has found."""

    rows: list[Row]
    plots: list[Plot] = field(default_factory=list)


@dataclass(frozen=True)
class Claim:
    """A statement of the theory that can be checked.

    Attributes:
        name: Its name on the command line.
        statement: The formula.
        regime: Where it is said to hold, and to which order.
        source: Section of theory.md, equation of the paper.
        check: Makes the evidence.
    """

    name: str
    statement: str
    regime: str
    source: str
    check: Callable[[Effort], Evidence]


def claim(name: str, *, statement: str, regime: str, source: str) -> Callable[[Callable[[Effort], Evidence]], Claim]:
    """Makes a `Claim` of the function that checks it; the arguments are the attributes of `Claim`."""
    return lambda check: Claim(name, statement, regime, source, check)
