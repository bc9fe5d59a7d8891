"""The command ``mfnet figures``: the figures of runs that did not draw them, from the files that they left."""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from mfnet.cli.run import shown
from mfnet.cli.system import written
from mfnet.figures import save_figures
from mfnet.record.directory import RunDirectory


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit status: 0, 1 if a run has no figures, 2 for a mistake in the arguments."""
    parser = argparse.ArgumentParser(
        prog="mfnet figures", description="Draws the figures of runs, from the files that they left."
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="RUN", help="a run, or a directory with runs below it")
    args = parser.parse_args(argv)
    runs = [(path, list(_below(path))) for path in args.paths]
    for path, found in runs:
        if not found:
            print(f"mfnet figures: error: {path}: holds no run that has ended", file=sys.stderr)
            return 2
    status = 0
    for directory in dict.fromkeys(directory for _, found in runs for directory in found):
        run = RunDirectory(directory)
        try:
            with written(run.figures):
                drawn = save_figures(run.read(), run.figures)
        except (ValueError, KeyError, IndexError, OSError, zipfile.BadZipFile) as error:
            print(f"mfnet figures: {shown(directory)}: is damaged: {error}", file=sys.stderr)
            status = 1
            continue
        names = ", ".join(path.name for path in drawn) or "nothing to draw: it has one observation"
        print(f"{shown(run.figures)}  {names}", flush=True)
    return status


def _below(path: Path) -> Iterator[Path]:
    """The runs at and below a path, in the order of their names."""
    for summary in sorted(path.rglob(RunDirectory(path).summary.name)):
        if RunDirectory(summary.parent).history.exists():
            yield summary.parent
