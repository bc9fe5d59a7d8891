"""The command ``mfnet validate``: checks claims and writes their page."""

from __future__ import annotations

import argparse
import difflib
import os
import platform
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import torch

import mfnet
from mfnet.claims import CLAIMS
from mfnet.claims.effort import Effort
from mfnet.claims.page import Outcome, check, write_page
from mfnet.training.summary import git_commit


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit status: 0, 1 if a claim fails, 2 for a mistake in the arguments."""
    parser = argparse.ArgumentParser(
        prog="mfnet validate",
        description="Holds the theory's claims against simulations and writes validation.md, claims.json and figures.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="claims to check; by default all of them")
    parser.add_argument("--list", action="store_true", help="name the claims and leave")
    parser.add_argument("--quick", action="store_true", help="small sizes and few seeds, in a minute; less is claimed")
    parser.add_argument("--out", type=Path, metavar="DIR", help="new directory of the page (outputs/validation-DATE)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="simulations at a time (all cores)")
    args = parser.parse_args(argv)
    if args.list:
        for claim in CLAIMS.values():
            print(f"{claim.name:14} {claim.statement}")
        return 0
    for name in args.names:
        if name not in CLAIMS:
            similar = difflib.get_close_matches(name, CLAIMS, n=1) or CLAIMS
            return _fail(f"{name!r} is not a claim; did you mean {' or '.join(similar)}? (mfnet validate --list)")
    if args.processes < 1:
        return _fail(f"--processes {args.processes}: must be at least 1")
    directory = args.out or Path("outputs") / f"validation-{datetime.now():%Y-%m-%d_%H-%M-%S}"
    if directory.exists():
        return _fail(f"{directory} exists already; name another directory with --out")
    return _validate(args.names or list(CLAIMS), directory, quick=args.quick, processes=args.processes)


def _fail(message: str) -> int:
    print(f"mfnet validate: error: {message}", file=sys.stderr)
    return 2


def _validate(names: Sequence[str], directory: Path, *, quick: bool, processes: int) -> int:
    """Checks the claims one after another; the page is complete after each."""
    commit = git_commit()
    heading = (
        f"`mfnet validate`, {'quick' if quick else 'full'}, {datetime.now():%Y-%m-%d %H:%M}; "
        f"mfnet {mfnet.__version__}{f', commit {commit}' if commit else ''}, torch {torch.__version__}, "
        f"{platform.machine()}, {processes} at a time."
    )
    outcomes: list[Outcome] = []
    claims = [CLAIMS[name] for name in dict.fromkeys(names)]
    write_page(directory, outcomes, claims, heading)
    with Effort(quick=quick, processes=processes) as effort:
        for claim in claims:
            print(f"{claim.name:14} ", end="", flush=True)
            outcomes.append(check(claim, effort))
            print(f"{outcomes[-1].seconds:6.1f} s   {outcomes[-1].summary}", flush=True)
            write_page(directory, outcomes, claims[len(outcomes) :], heading)
    print(directory / "validation.md")
    return 0 if all(outcome.good for outcome in outcomes) else 1
