"""What a theory costs, said before it starts."""

from __future__ import annotations

import sys

#: From how many seconds on a cost is said.
TOLD = 5.0


def tell(what: str, seconds: float, more: str = "") -> None:
    """Says on the standard error what something costs, if that is more than seconds.

    Args:
        what: A sentence about it, without its end.
        seconds: About how long it takes.
        more: What else is to be said.
    """
    if seconds > TOLD:
        print(f"mfnet: {what}: about {seconds:.2g} s{more}", file=sys.stderr, flush=True)
