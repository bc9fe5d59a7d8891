"""The runs that are asked for: each is composed and checked before any work starts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from mfnet.cli.arguments import Arguments
from mfnet.record.directory import RunDirectory
from mfnet.record.identity import identity
from mfnet.setup.checks import check_directory, check_targets
from mfnet.setup.compose import compose, task
from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.pieces import Builder, name_of
from mfnet.setup.settings import Effect, kept
from mfnet.setup.setup import Setup
from mfnet.setup.theories import NOTHING_DRAWN, Theories
from mfnet.setup.typed import unread
from mfnet.theory import Draw


def draw_of(setup: Setup) -> Draw:
    """What a run would draw, for a theory that speaks of it."""
    from mfnet.training.build import Pieces

    return Pieces(setup).draw()


#: Settings of Hydra's that may have the name of the run in them.
NAMED = (("hydra.run", "dir"), ("hydra.sweep", "subdir"))


@dataclass(frozen=True)
class Job:
    """One run that is asked for.

    Attributes:
        overrides: How it is asked for.
        compose: Gives its config, with Hydra's own part; it is not kept, as it is ten times as large as the setup.
        setup: What it is.
        directory: Where its files will be.
        root: The directory of its sweep, or its own.
    """

    overrides: list[str]
    compose: Callable[[], DictConfig]
    setup: Setup
    directory: Path
    root: Path


def parsed(overrides: Sequence[str]) -> list[Override]:
    """Overrides as Hydra reads them, inside `Source.opened`.

    Raises:
        SettingError: If one cannot be read.
    """
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    read = []
    for override in overrides:  # one by one, so that a message says which
        try:
            read += parser.parse_overrides([override])
        except HydraException as error:
            raise SettingError(unread(override, error)) from None
    return read


def quoted(text: str) -> str:
    """A text as Hydra reads it whole: backslashes count before a quote and at the end, and ``${`` is no reference.

    >>> print(quoted("it's"), quoted("a\\\\b"))
    'it\\'s' 'a\\b'
    """
    text = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", text)
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), text)
    return f"'{escaped}'"


def single(arguments: Arguments) -> Job:
    """The run that is asked for, inside the source of its arguments.

    Raises:
        SettingError: If a setting is wrong.
    """
    composed = compose(arguments.overrides, arguments.source.config_name)
    return job_of(composed, arguments.overrides)


def job_of(composed: DictConfig, overrides: list[str]) -> Job:
    """The run of a composed config; real data say N and d in it."""
    setup = Setup.resolved(task(composed))
    complete(composed, setup)
    directory = Path(composed.hydra.run.dir)
    return Job(overrides, lambda: composed, setup, directory, directory)


def complete(composed: DictConfig, setup: Setup) -> None:
    """Gives a composed config the N and d of real data, and the name of its directory."""
    with open_dict(composed):
        composed.N, composed.d = setup.N, setup.d
        for part, key in NAMED:
            part = OmegaConf.select(composed, part)
            written = OmegaConf.to_container(part, resolve=False)
            assert isinstance(written, dict)
            part[key] = str(written[key]).replace("${run_name:}", setup.name)


def check_directories(jobs: Sequence[Job], *, in_sweep: bool = False, goes_on: bool = False) -> None:
    """Checks that runs can write where they are to, and that it is new unless a sweep goes on there.

    Raises:
        InvalidSettingError: If there is something else.
    """
    for job in jobs:
        if in_sweep and goes_on:
            _check_same_run(job)
        check_directory("hydra.sweep.dir" if in_sweep else "hydra.run.dir", job.root, new=not goes_on)


def _check_same_run(job: Job) -> None:
    """Checks that what is in the directory of a run is that run: it need not be named by its settings.

    A run that was extended, or looked at otherwise, is the same.
    """
    try:
        stored = RunDirectory(job.directory).read_summary()["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if identity(kept(stored, Effect.RESULT)) != identity(kept(job.setup.config, Effect.RESULT)):
        raise InvalidSettingError("hydra.sweep.subdir", job.directory, "has another run; name another hydra.sweep.dir")


def check_predictions(jobs: Sequence[Job]) -> None:
    """Checks the theories of runs that are not trained.

    Raises:
        SettingError: For the first that is wrong.
    """
    for job in jobs:
        builder = Builder(job.setup.config, {})
        check_targets(builder, ("mean_field", "schedule", "theory"))
        theories = Theories(job.setup, partial(draw_of, job.setup), NOTHING_DRAWN)
        if name_of(theories.named("theory")).partition(".")[0] != "mfnet":
            theories.prediction("theory", theories.times)
