"""``mfnet reproduce``: the runs that a figure needs, and the figure."""

from __future__ import annotations

import difflib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mfnet.cli import sweep
from mfnet.cli.arguments import Arguments
from mfnet.cli.grid import Sweep
from mfnet.cli.jobs import Job, parsed
from mfnet.cli.run import shown
from mfnet.collection import collect
from mfnet.figures.experiments import EXPERIMENTS
from mfnet.setup.compose import Source, compose
from mfnet.setup.errors import SettingError

USAGE = """\
usage: mfnet reproduce NAME [NAME ...] [small=true] [SETTING=VALUE ...]
       mfnet reproduce all [small=true]

Starts the runs of each experiment that are not complete, and draws its figure from them, in outputs/reproduced.
small=true: less than a minute each. Settings change every run; hydra/launcher=joblib starts several at a time.

"""


def reproduce(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit status: 0, 1 if a run failed, 2 for a mistake in the arguments."""
    names = [word for word in arguments if "=" not in word]
    given = dict.fromkeys(word for word in arguments if "=" in word)
    small = "small=true" in given
    overrides = [word for word in given if not word.startswith("small=")]
    if not names or not {"-h", "--help", "--list"}.isdisjoint(names):
        print(USAGE + "\n".join(f"{name:14} {experiment.caption}" for name, experiment in EXPERIMENTS.items()))
        return 0
    names = list(EXPERIMENTS) if names == ["all"] else names
    try:
        for name in names:
            if name not in EXPERIMENTS:
                similar = difflib.get_close_matches(name, EXPERIMENTS, n=1) or EXPERIMENTS
                raise SettingError(f"{name!r} is not an experiment; did you mean {' or '.join(similar)}? (--list)")
        for word in given:
            if word.startswith("small=") and word not in ("small=true", "small=false"):
                raise SettingError(f"{word}: must be true or false")
        with Source().opened():
            return _reproduce(names, overrides, small=small, typed=["mfnet", "reproduce", *arguments])
    except SettingError as error:
        print(f"mfnet reproduce: error: {error}", file=sys.stderr)
        return 2


def _reproduce(names: Sequence[str], overrides: Sequence[str], *, small: bool, typed: Sequence[str]) -> int:
    """Checks every run of every experiment, then starts those that are not complete, and draws the figures."""
    settings = {name: _settings(name, overrides, small=small) for name in names}
    for name in names:
        _check_that_several_are_compared(name, settings[name][0], overrides)
    asked = {name: Sweep.read(Arguments(settings[name], multirun=True, source=Source())) for name in names}
    planned = {name: sweep.planned(asked[name]) for name in names}
    statuses = []
    for name in names:
        print(f"\n{name}: {EXPERIMENTS[name].caption}", flush=True)
        started = time.monotonic()
        status = sweep.start(planned[name], asked[name], typed)
        if status == 0:
            print(
                f"{shown(_draw(name, [plan.job for plan in planned[name]]))}   {time.monotonic() - started:.0f} s",
                flush=True,
            )
        statuses.append(status)
    return max(statuses)


def _settings(name: str, overrides: Sequence[str], *, small: bool) -> list[str]:
    """The overrides of the sweep of an experiment."""
    directory = Path("outputs", "reproduced", "small" if small else "", name)
    return [f"experiment={'small/' if small else ''}{name}", f"hydra.sweep.dir={directory}", *overrides]


def _check_that_several_are_compared(name: str, experiment: str, overrides: Sequence[str]) -> None:
    """Checks that what a figure compares is not fixed to one value.

    Raises:
        SettingError: For the first override that does that, or that cannot be read.
    """
    compared = compose([experiment]).hydra.sweeper.get("params") or {}
    for word, override in zip(overrides, parsed(overrides), strict=True):
        key = override.get_key_element()
        if key in compared and not override.is_sweep_override():
            raise SettingError(f"{word}: the figure of {name} compares several, such as {key}={compared[key]}")


def _draw(name: str, jobs: Sequence[Job]) -> Path:
    """The figure of an experiment, from these of its runs."""
    directory = jobs[0].root
    runs = collect(directory, [job.directory.name for job in jobs])
    return EXPERIMENTS[name].draw(runs, directory / f"{name}.png")
