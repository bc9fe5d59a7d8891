"""The runs that are asked for: each is composed and checked before any work starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from mfnet.cli.arguments import Arguments
from mfnet.setup.checks import check_directory, check_targets
from mfnet.setup.compose import compose, task
from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.pieces import Builder, name_of
from mfnet.setup.resolution import resolved
from mfnet.setup.setup import Setup
from mfnet.setup.theories import Theories
from mfnet.theory import Draw, Theory


def draw_of(setup: Setup) -> Draw:
    """What a run would draw, for a theory that speaks of it."""
    from mfnet.training.build import Pieces

    return Pieces(setup).draw()


@dataclass(frozen=True)
class Job:
    """One run that is asked for.

    Attributes:
        overrides: How it is asked for.
        composed: Its config, with Hydra's own part.
        setup: What it is.
        directory: Where its files will be.
        root: The directory of its sweep, or its own.
    """

    overrides: list[str]
    composed: DictConfig
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
            raise SettingError(f"{override}: {' '.join(str(error).split())}") from None
    return read


def single(arguments: Arguments) -> Job:
    """The run that is asked for, inside the source of its arguments.

    Raises:
        SettingError: If a setting is wrong.
    """
    composed = compose([*arguments.overrides, *arguments.source.overrides], arguments.source.config_name)
    return job_of(composed, arguments.overrides)


def job_of(composed: DictConfig, overrides: list[str]) -> Job:
    """The run of a composed config; real data say N and d in it."""
    setup = _resolved(composed)
    directory = Path(composed.hydra.run.dir)
    return Job(overrides, composed, setup, directory, directory)


def _resolved(composed: DictConfig) -> Setup:
    """The setup of a composed config, which then has the N and d of real data, and the name of its directory."""
    setup = resolved(task(composed), {}, {})
    with open_dict(composed):
        composed.N, composed.d = setup.N, setup.d
        for part, key in ((composed.hydra.run, "dir"), (composed.hydra.sweep, "subdir")):
            written = OmegaConf.to_container(part, resolve=False)
            part[key] = str(written[key]).replace("${run_name:}", setup.name)  # type: ignore[index, call-overload]
    return setup


def of_sweep(arguments: Arguments) -> list[Job]:
    """The runs of a sweep, inside the source of its arguments.

    Raises:
        SettingError: If a setting is wrong, or two runs are the same, or there are none.
    """
    jobs: dict[Path, Job] = {}
    for number, overrides in enumerate(_expanded(arguments)):
        numbered = [f"hydra.job.num={number}", f"hydra.job.id={number}"]
        composed = compose([*overrides, *arguments.source.overrides, *numbered], arguments.source.config_name)
        setup = _resolved(composed)
        if setup.trainer["devices"] * setup.trainer["nodes"] > 1:
            raise InvalidSettingError(
                "trainer.devices", setup.trainer["devices"], "the runs of a sweep have one process each; leave out -m"
            )
        root = Path(composed.hydra.sweep.dir)
        job = Job(overrides, composed, setup, root / composed.hydra.sweep.subdir, root)
        if (twin := jobs.get(job.directory)) is not None:
            asked = f"{' '.join(twin.overrides)} and {' '.join(job.overrides)}"
            raise SettingError(f"{asked} are one run, {job.directory}; ask for it once")
        jobs[job.directory] = job
    if not jobs:
        raise SettingError("the sweep is empty: a setting has no values")
    return list(jobs.values())


def _expanded(arguments: Arguments) -> Iterator[list[str]]:
    """The overrides of each job of a sweep; those typed take the place of a prepared sweep's (hydra.sweeper.params)."""
    typed = parsed(arguments.overrides)
    fixed = [str(override.input_line) for override in typed if not override.is_sweep_override()]
    for override in typed:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            kinds = "choice, range, glob, or hydra/sweeper=optuna"
            raise SettingError(f"{override.input_line}: the sweeper of a grid takes values one by one; use {kinds}")
    sweeper = compose([*fixed, *arguments.source.overrides], arguments.source.config_name).hydra.sweeper
    prepared = sweeper.get("params") or {}
    lines = [f"{key}={value}" for key, value in prepared.items()]
    try:
        for batch in BasicSweeper.split_arguments([*parsed(lines), *typed], None):
            yield from (list(job) for job in batch)
    except HydraException as error:
        raise SettingError(" ".join(str(error).split())) from None


def chooses_its_own(arguments: Arguments) -> DictConfig | None:
    """The config of a sweep whose sweeper chooses runs as it goes, such as Optuna's; None for Hydra's grid."""
    fixed = [str(o.input_line) for o in parsed(arguments.overrides) if not o.is_sweep_override()]
    if not any(line.startswith("hydra/sweeper=") for line in fixed):
        return None
    composed = compose([*fixed, *arguments.source.overrides], arguments.source.config_name)
    grid = str(composed.hydra.sweeper.get("_target_")).endswith(BasicSweeper.__name__)
    return None if grid else composed


def check_pieces(jobs: Sequence[Job]) -> None:
    """Checks the classes that runs name, and their theories.

    Raises:
        SettingError: For the first that is wrong.
    """
    from mfnet.training import Training

    for job in jobs:
        Training(job.setup)


def check_directories(jobs: Sequence[Job], *, in_sweep: bool = False, goes_on: bool = False) -> None:
    """Checks that runs can write where they are to, and that it is new unless a sweep goes on there.

    Raises:
        InvalidSettingError: If there is something else.
    """
    for job in jobs:
        check_directory("hydra.sweep.dir" if in_sweep else "hydra.run.dir", job.root, new=not goes_on)


def check_predictions(jobs: Sequence[Job]) -> None:
    """Checks the theories of runs that are not trained.

    Raises:
        SettingError: For the first that is wrong.
    """
    for job in jobs:
        builder = Builder(job.setup.config, {})
        check_targets(builder, ("mean_field", "schedule", "theory"))
        if not isinstance(theory := builder("theory"), Theory):
            raise InvalidSettingError("theory._target_", name_of(theory), "must be a class derived from mfnet's Theory")
        if name_of(theory).partition(".")[0] != "mfnet":
            theories = Theories(job.setup, partial(draw_of, job.setup))
            theories.prediction("theory", theories.times)
