"""The command: which tables are made, printed, and written to the page."""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

import benchmark
from benchmark import ensemble, gradient, machine, memory, precision, settings, small, ways
from benchmark.page import Table, write_section
from benchmark.settings import Settings
from mfnet.compute.threads import one_thread

TABLES: dict[str, Table] = {
    "gradient": gradient.TABLE,
    "way": ways.TABLE,
    "small": small.TABLE,
    "precision": precision.TABLE,
    "memory": memory.TABLE,
    "ensemble": ensemble.TABLE,
}


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    raw = argparse.RawDescriptionHelpFormatter
    found = argparse.ArgumentParser("benchmark", description=benchmark.__doc__, formatter_class=raw, allow_abbrev=False)
    found.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    found.add_argument("--only", choices=tuple(TABLES), help="one table instead of all")
    found.add_argument("--quick", action="store_true", help="one small case a table, on one thread")
    found.add_argument("--threads", type=int, help="of the CPU; torch's default, which is slow beside other work")
    found.add_argument("--N", type=int, nargs="+", help="examples of the gradients; only the ways with so many")
    found.add_argument("--M", type=int, nargs="+", help="nodes of the gradients")
    found.add_argument("--full", action="store_true", help="run (a), (b) and (d) all the way (hours)")
    found.add_argument("--reference", action="store_true", help="compare errors with a flow ten times finer (minutes)")
    found.add_argument("--output", type=Path, help="page to write; .github/benchmarks.md, and none with --quick")
    return found


def settings_of(args: argparse.Namespace) -> Settings:
    """What follows from the arguments."""
    base = settings.QUICK if args.quick else settings.CUDA if args.device == "cuda" else settings.FULL
    sizes = itertools.product(
        args.N or sorted({N for N, _ in base.sizes}), args.M or sorted({M for _, M in base.sizes})
    )
    return replace(
        base,
        sizes=tuple(sizes) if args.N or args.M else base.sizes,
        ways=tuple(way for way in base.ways if args.N is None or way.N in args.N),
        threads=args.threads or base.threads or torch.get_num_threads(),
        device=torch.device(args.device),
        full=args.full,
        reference=args.reference,
    )


def written(argv: Sequence[str]) -> str:
    """The command as one would write it, but for the place of the page."""
    words, skip = ["python scripts/benchmark"], False
    for word in argv:
        if not skip and not word.startswith("--output"):
            words.append(word)
        skip = word == "--output"
    return " ".join(words)


def heading(table: Table, device: torch.device) -> str:
    """Of a table's section."""
    return table.title if device.type == "cpu" else f"{table.title}, on a GPU"


def made(table: Table, own: Settings, first_line: str) -> str:
    """Prints a table as it comes; all of it."""
    lines = [first_line, ""]
    print(f"## {heading(table, own.device)}\n\n{first_line}\n", flush=True)
    for line in table.lines(own):
        print(line, flush=True)
        lines.append(line)
    print()
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the tables."""
    argv = sys.argv[1:] if argv is None else argv
    args = parser().parse_args(argv)
    own, commit = settings_of(args), machine.commit()
    page = args.output or (None if args.quick else machine.PAGE)
    torch.set_num_threads(own.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    title, _, contestants = (benchmark.__doc__ or "").partition("\n")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        header = (
            f"# Benchmarks\n\n{title.replace('``', '`')}\n{contestants}\n"
            f"Last run: {machine.provenance(own.device, commit)}. Each table says what made it.\n"
        )
        for name, table in TABLES.items():
            if args.only not in (None, name) or name not in own.tables:
                continue
            with one_thread() if table.one_thread else nullcontext():
                first_line = f"`{written(argv)}`: {machine.provenance(own.device, commit)}."
                text = made(table, own, first_line)
            if page is not None:
                titles = [heading(each, where) for where in (settings.CPU, own.device) for each in TABLES.values()]
                write_section(page, header, titles, heading(table, own.device), text)
