"""The validation page: ``validation.md``, ``claims.json`` and figures, written anew after each claim."""

from __future__ import annotations

import json
import math
import os
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from mfnet.claims.claim import Claim, Evidence, Verdict
from mfnet.claims.effort import Effort
from mfnet.figures.claims import draw

COLUMNS = ("case", "simulation", "predicted", "measured", "deviation", "expected fluctuation", "holds if", "verdict")


@dataclass(frozen=True)
class Outcome:
    """A claim that was checked.

    Attributes:
        claim: The claim.
        evidence: What the check found; nothing if it raised.
        seconds: How long it took.
        error: Traceback of a check that raised, else empty.
    """

    claim: Claim
    evidence: Evidence
    seconds: float
    error: str = ""

    def count(self, verdict: Verdict) -> int:
        """Number of rows with this verdict."""
        return sum(row.verdict is verdict for row in self.evidence.rows)

    @property
    def good(self) -> bool:
        """Whether the check ran and no row fails."""
        return not self.error and self.count(Verdict.FAILS) == 0

    @property
    def summary(self) -> str:
        """How many rows hold and how many fail, in words."""
        if self.error:
            return f"raised {self.error.strip().splitlines()[-1]}"
        counts = ((verdict, self.count(verdict)) for verdict in Verdict)
        return ", ".join(f"{n} {verdict}" for verdict, n in counts if n > 0 or verdict is Verdict.HOLDS)


def check(claim: Claim, effort: Effort) -> Outcome:
    """Checks a claim; what it raises becomes part of the outcome, so that the others are not lost."""
    start = perf_counter()
    try:
        evidence, error = claim.check(effort), ""
    except Exception:
        evidence, error = Evidence([]), traceback.format_exc()
    return Outcome(claim, evidence, perf_counter() - start, error)


def write_page(directory: Path, outcomes: Sequence[Outcome], waiting: Sequence[Claim], heading: str) -> None:
    """Writes the page of the claims that are checked so far, and the figures of the last of them.

    Args:
        directory: Where; made if it is missing.
        outcomes: The claims that were checked.
        waiting: Those that were not yet.
        heading: A paragraph that says what was run where.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for plot in outcomes[-1].evidence.plots if outcomes else []:
        draw(plot, directory / "figures")
    _replace(directory / "claims.json", json.dumps([_plain(outcome) for outcome in outcomes], indent=1) + "\n")
    _replace(directory / "validation.md", "\n".join(_markdown(outcomes, waiting, heading)))


def _replace(path: Path, text: str) -> None:
    """A reader never sees half of a file."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text)
    os.replace(temporary, path)


def _plain(outcome: Outcome) -> dict[str, Any]:
    """An outcome in JSON's types; numbers that are not finite become null."""
    claim = outcome.claim
    return {
        "name": claim.name,
        "statement": claim.statement,
        "regime": claim.regime,
        "source": claim.source,
        "seconds": round(outcome.seconds, 1),
        "error": outcome.error,
        "figures": [f"figures/{plot.name}.png" for plot in outcome.evidence.plots],
        "rows": [
            {
                **{key: _finite(value) for key, value in asdict(row).items()},
                "deviation": _finite(row.deviation),
                "verdict": row.verdict,
            }
            for row in outcome.evidence.rows
        ],
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _markdown(outcomes: Sequence[Outcome], waiting: Sequence[Claim], heading: str) -> Iterable[str]:
    yield "# Validation\n"
    yield heading + "\n"
    yield (
        "A row is a case of a claim. It holds if the measured value lies where the rule says; *not claimed* rows are "
        "shown for comparison, outside the regime of the claim. The expected fluctuation is one standard error.\n"
    )
    yield from _table(
        ("claim", "formula", "rows", "seconds"),
        (
            (f"[{o.claim.name}](#{o.claim.name})", o.claim.statement, _bold(o.summary, not o.good), f"{o.seconds:.0f}")
            for o in outcomes
        ),
    )
    if waiting:
        yield "Not checked yet: " + ", ".join(claim.name for claim in waiting) + ".\n"
    for outcome in outcomes:
        claim = outcome.claim
        yield f"## {claim.name}\n"
        yield f"{claim.statement}\n"
        yield f"Regime: {claim.regime}. Source: {claim.source}. Took {outcome.seconds:.0f} s.\n"
        if outcome.error:
            yield f"**The check raised**\n\n```\n{outcome.error}```\n"
        yield from _table(
            COLUMNS,
            (
                (
                    row.case,
                    row.simulation,
                    f"{row.predicted:.5g}",
                    f"{row.measured:.5g}",
                    f"{row.deviation:+.2g}",
                    f"{row.fluctuation:.2g}",
                    row.rule,
                    _bold(str(row.verdict), row.verdict is Verdict.FAILS),
                )
                for row in outcome.evidence.rows
            ),
        )
        for plot in outcome.evidence.plots:
            yield f"![{plot.caption}](figures/{plot.name}.png)\n\n*{plot.caption}*\n"


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold else text


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "| " + " | ".join("---" for _ in columns) + " |"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    yield ""
