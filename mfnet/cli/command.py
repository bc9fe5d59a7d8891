"""The command ``mfnet``: the only place that knows Hydra.

Everything is composed and checked before Hydra starts a job, so that a mistake costs one line and
no directory. What is slow to import (torch, Lightning) is imported inside the functions that need it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import mfnet
from mfnet.cli.arguments import Arguments, show
from mfnet.cli.prediction import predict
from mfnet.cli.run import INTERRUPTED
from mfnet.cli.streams import lasting
from mfnet.cli.system import refusal
from mfnet.cli.train import train
from mfnet.compute.launch import launch
from mfnet.setup.errors import SettingError

HELP = f"""\
mfnet {mfnet.__version__}: wide single-hidden-layer networks, trained beside their mean-field theory

usage: mfnet COMMAND [SETTING=VALUE ...]

commands:
  train      train a network, lay the theory over it, leave figures, tables and TensorBoard files
  predict    the theory alone, without training (under two seconds)
  reproduce  the paper's figures and more: the runs that a figure needs, and the figure (--list)
  collect    every run below a directory in one table, averaged over seeds, with figures
  figures    the figures of runs of a sweep, which draw none by themselves
  validate   hold the theory's claims against simulations and write their page (--quick: a minute)

examples:
  mfnet train                                        M=400 nodes, N=10000 examples, d=100, alpha=1
  mfnet train alpha=1e-3 N=4000 seed=1               the rich regime
  mfnet train data=sphere loss=logistic flow=euler   other choices of a group
  mfnet train -m alpha=1e-3,1,1e3 M=100,400          a sweep: six runs; typed again, it goes on where it was left
  mfnet train experiment=lazy                        a prepared experiment
  mfnet train ckpt=RUN/checkpoints/last.ckpt         go on with a run that was cut off
  mfnet train overlay=[kernel_closure,laziness]      more theories over the same run
  mfnet train logger=[tensorboard,csv]               more loggers: csv, wandb, mlflow
  mfnet predict schedule=listed 'schedule.times=[1,10,100]'
  mfnet collect multirun                             all sweeps in one table
  mfnet validate --list; mfnet validate clock noise  the claims; two of them

mfnet COMMAND --help lists all settings, mfnet train SETTING=VALUE --cfg job those of a run.
From Python: run = mfnet.train(alpha=1.0, M=400); run.history, run.network, run.figure("fig1")."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0, 1 if a run failed, 2 for a mistake in the settings."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    with lasting():
        try:
            return _run(arguments)
        except Exception as error:
            if (why := refusal(error)) is None:
                raise
            print(f"mfnet: error: {why}", file=sys.stderr)
            return 1


def _run(arguments: Sequence[str]) -> int:
    """The command that is asked for."""
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if command == "--version":
        print(mfnet.__version__)
        return 0
    if command in OTHER_COMMANDS:
        return OTHER_COMMANDS[command](arguments[1:])
    if command not in COMMANDS:
        known = ", ".join([*COMMANDS, *OTHER_COMMANDS])
        return _fail(f"{command!r} is not a command; there are {known} (mfnet --help)")
    try:
        _check_environment()
        asked = Arguments.read(arguments[1:])
        with asked.source.opened():
            if asked.shown is not None:
                show(asked)
                return 0
            return COMMANDS[command](asked, ["mfnet", *arguments])
    except SettingError as error:
        return _fail(str(error))
    except KeyboardInterrupt:  # before a run has begun, which says itself how to go on
        print("mfnet: interrupted", file=sys.stderr)
        return INTERRUPTED


def _check_environment() -> None:
    """Checks where this process is, and the variables by which it may know that it is one of several.

    Raises:
        SettingError: If Hydra cannot work in its directory, or a variable, which Lightning reads too, is no number.
    """
    try:
        here = os.getcwd()
    except FileNotFoundError:
        raise SettingError("the current directory is gone; change to another one") from None
    if "${" in here:
        raise SettingError(f"{here}: Hydra takes ${{ for a setting; work in a directory without it in its path")
    try:
        launch()
    except ValueError as error:
        raise SettingError(str(error)) from None
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        if not (value := os.environ.get(name, "0")).isdecimal():
            raise SettingError(f"{name}={value!r} in the environment must be a whole number; unset it")


def _fail(message: str) -> int:
    if _speaks():
        print(f"mfnet: error: {message}", file=sys.stderr)
    return 2


def _speaks() -> bool:
    """Whether this is the process, of several, that says what is wrong."""
    try:
        return launch().rank == 0
    except ValueError:  # which is what is wrong
        return True


def _reproduce(arguments: Sequence[str]) -> int:
    """The runs that a figure needs, and the figure."""
    from mfnet.cli.reproduce import reproduce

    return reproduce(arguments)


def _validate(arguments: Sequence[str]) -> int:
    """The page of claims; it has arguments of its own, and no config."""
    from mfnet.cli.validate import main as validate_claims

    return validate_claims(arguments)


def _figures(arguments: Sequence[str]) -> int:
    """The figures of single runs, from their files."""
    from mfnet.cli.figures import main as figures

    return figures(arguments)


def _collect(arguments: Sequence[str]) -> int:
    """Tables and figures of many runs."""
    from mfnet.cli.collect import main as collect

    return collect(arguments)


#: Commands whose arguments are settings.
COMMANDS: dict[str, Callable[[Arguments, Sequence[str]], int]] = {"train": train, "predict": predict}

#: Commands with arguments of their own.
OTHER_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "reproduce": _reproduce,
    "collect": _collect,
    "figures": _figures,
    "validate": _validate,
}
