"""The command ``mfnet collect``: tables, averages and figures of every run below a directory."""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mfnet.cli.system import written
from mfnet.collection import Collection, collect, curves, finals
from mfnet.collection.averages import grouping, numbers
from mfnet.collection.run import COMPLETE, FAILED, UNFINISHED
from mfnet.figures.sweeps import draw_against_setting, draw_against_time
from mfnet.record.series import GAMMA, TEST_ERROR, TRAIN_ERROR, UNSATISFIED

#: Series that are drawn against t where nothing else is asked for.
STANDARD = (TEST_ERROR.name, TRAIN_ERROR.name, UNSATISFIED.name, GAMMA.name)

#: Most groups, and most names of runs, that the terminal shows; the tables have all.
MOST_SHOWN = 40

#: Most of its runs that TensorBoard selects by itself: of each of ours, the network, every theory, and the end.
MOST_SELECTED = 500

#: What a run calls the last of these.
END = "final"


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit status: 0, 1 if a run is damaged, 2 for a mistake in the arguments."""
    parser = argparse.ArgumentParser(
        prog="mfnet collect",
        description="Reads every run below a directory into one table, averages over seeds, and draws the sweep.",
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="a sweep, a run, or anything above them")
    parser.add_argument("--by", nargs="+", metavar="KEY", help="settings that tell groups apart (all that varied)")
    parser.add_argument(
        "--plot",
        nargs="+",
        metavar="SERIES",
        help=f"what to draw, a series or a number of runs.csv ({', '.join(STANDARD)})",
    )
    parser.add_argument("--against", metavar="KEY", help="setting on the horizontal axis of final values, or t")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where tables and figures go (DIR/collected)")
    args = parser.parse_args(argv)
    out = args.out or args.directory / "collected"
    try:
        _check_replaceable(out)
        with written(args.directory):
            collection = collect(args.directory)
        if collection.runs.empty and not collection.damaged:
            raise ValueError(f"{args.directory} holds no runs")
        by = grouping(collection, args.by)
        against = args.against if args.against in (None, "t") else grouping(collection, [args.against])[0]
        series = [_known(collection, name, against) for name in args.plot or []]
    except (ValueError, OSError) as error:
        print(f"mfnet collect: error: {error}", file=sys.stderr)
        return 2
    for directory, reason in collection.damaged:
        print(f"mfnet collect: skipped {directory}: {reason}", file=sys.stderr)
    if not collection.runs.empty:
        by += [against] if against not in (None, "t", *by) else []
        averages = finals(collection, by)
        figures = _figures(collection, by, series, against)
        with written(out):
            _write(out, collection, averages, by, figures)
        print(f"{_summary(collection, averages, by)}\n\ntables   {out}")
        if figures:
            print(f"figures  {out / 'figures'}")
        for name, folder in (("runs", "tensorboard"), ("ends", "tensorboard-ends")):
            if (out / folder).exists():
                print(f"{name}     tensorboard --logdir {shlex.quote(str(out / folder))}")
    return 1 if collection.damaged else 0


def _check_replaceable(out: Path) -> None:
    """Checks that nothing but an earlier collection would be replaced."""
    if out.exists() and not (out.is_dir() and {"runs.csv", "runs.parquet"} <= set(os.listdir(out))):
        raise ValueError(f"--out {out}: exists, and is not what mfnet collect left; name another directory")


def _known(collection: Collection, name: str, against: str | None) -> str:
    """Checks that a series, or a number at the end of runs if that is enough, was seen."""
    known = list(collection.series)
    if against not in (None, "t"):
        known += [key for key in numbers(collection.runs) if key not in known]
    if name not in known:
        similar = difflib.get_close_matches(name, known, n=1) or collection.series
        raise ValueError(f"--plot {name}: was not observed; did you mean {' or '.join(similar)}?")
    return name


def _figures(
    collection: Collection, by: Sequence[str], series: Sequence[str], against: str | None
) -> list[tuple[str, str]]:
    """What is drawn, each series with ``t`` or the setting that it is drawn against."""
    standard = [name for name in STANDARD if name in collection.series]
    if series or against:
        asked = [(name, against or "t") for name in series or standard]
    else:
        numeric = [key for key in by if pd.api.types.is_numeric_dtype(collection.runs[key])]
        asked = [(name, "t") for name in standard] + [(TEST_ERROR.name, key) for key in numeric]
    lasted = collection.history["t"].nunique() > 2  # a line needs two times after t = 0
    ended = (collection.runs["state"] == COMPLETE).any()
    return [(name, key) for name, key in asked if (lasted if key == "t" else ended)]


def _write(
    out: Path, collection: Collection, averages: pd.DataFrame, by: Sequence[str], figures: Sequence[tuple[str, str]]
) -> None:
    """Writes every table as CSV and Parquet, and the figures, and puts them in the place of an earlier collection.

    Figures that were drawn earlier of the same runs stay; of others they would not go with the tables.
    """
    averaged = curves(collection, by)
    tables = {"runs": collection.runs, "history": collection.history, "groups": averages, "curves": averaged}
    new, old = (out.with_name(f".{out.name}.{os.getpid()}.{which}") for which in ("new", "old"))
    new.mkdir(parents=True)
    try:
        for name, table in tables.items():
            table.to_csv(new / f"{name}.csv", index=False, lineterminator="\n")
            table.to_parquet(new / f"{name}.parquet", index=False)
        runs, earlier = (folder / "runs.csv" for folder in (new, out))
        if (out / "figures").exists() and earlier.read_bytes() == runs.read_bytes():
            shutil.copytree(out / "figures", new / "figures")
        for series, against in figures:
            path = new / "figures" / f"{series}_against_{against}.png"
            if against == "t":
                draw_against_time(averaged, by, series, path)
            else:
                draw_against_setting(averages, by, series, against, path)
        _link(collection, new / "tensorboard", out / "tensorboard")
        if out.exists():
            out.rename(old)
        new.rename(out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _link(collection: Collection, folder: Path, later: Path) -> None:
    """Gives the TensorBoard files of every run a name that says what varied, as TensorBoard shows it.

    Where there are more than TensorBoard selects by itself, how runs ended (HParams) is kept apart from their curves.

    Args:
        collection: The runs.
        folder: Where the names are made.
        later: Where they will be, from which they lead to the runs.
    """
    found: dict[str, list[Path]] = {}
    for _, row in collection.runs.iterrows():
        events = collection.path / str(row["run"]).partition("#")[0] / "tensorboard"
        varied = [f"{key}={_cell(row[key])}" for key in collection.varied if not pd.isna(row[key])]
        name = (",".join(varied) or str(row["run"])).replace(os.sep, "_")
        if events.is_dir():
            found.setdefault(name, sorted(events.iterdir()))
    apart = sum(map(len, found.values())) > MOST_SELECTED
    for name, sides in found.items():
        for side in sides:
            place = Path(f"{folder.name}-ends" if apart and side.name == END else folder.name, name)
            link = folder.parent / place / side.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(side, later.parent / place), target_is_directory=side.is_dir())


def _summary(collection: Collection, averages: pd.DataFrame, by: Sequence[str]) -> str:
    """What is printed: a line a group, how many runs there are of each kind, and the names of those to look at."""
    table = averages[list(by)].map(_cell)
    table["n"] = averages["n"]
    if TEST_ERROR.name in collection.runs:  # of a run that failed before it was observed, there is none
        table[TEST_ERROR.name] = [
            _cell(mean) + ("" if pd.isna(error) else f" ± {error:.2g}")
            for mean, error in zip(averages["test_error_mean"], averages["test_error_se"], strict=True)
        ]
    table["t_end"] = averages["t_end_mean"].map(_cell)
    table["seconds"] = averages["wall_seconds_mean"].map(_cell)
    table["ended by"] = averages["stop_reasons"]
    lines = [table.head(MOST_SHOWN).to_string(index=False)]
    if len(table) > MOST_SHOWN:
        lines.append(f"… {len(table) - MOST_SHOWN} groups more")
    runs = collection.runs
    named = {state: list(runs["run"][runs["state"] == state]) for state in (UNFINISHED, FAILED)}
    named["left out"] = [f"{run} (the same as {other})" for run, other in collection.duplicates]
    complete = int((runs["state"] == COMPLETE).sum())
    counts = [f"{complete} complete", *(f"{len(names)} {state}" for state, names in named.items() if names)]
    counts += [f"{len(collection.damaged)} damaged"] if collection.damaged else []
    lines += ["", f"{_number(len(runs), 'run')} in {_number(len(averages), 'group')}: {', '.join(counts)}"]
    for state, names in named.items():
        lines += [f"{state}: {name}" for name in names[:MOST_SHOWN]]
        lines += [f"{state}: … {len(names) - MOST_SHOWN} more"] if len(names) > MOST_SHOWN else []
    return "\n".join(lines)


def _number(n: int, name: str) -> str:
    return f"{n} {name}{'' if n == 1 else 's'}"


def _cell(value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
