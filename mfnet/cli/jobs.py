"""The runs that are asked for: each is composed and checked before any work starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
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
from mfnet.theory import Draw


def draw_of(setup: Setup) -> Draw:
    """What a run would draw, for a theory that speaks of it."""
    from mfnet.training.build import Pieces

    return Pieces(setup).draw()


#: What Hydra says after each message.
_FURTHER = " See https://hydra.cc/docs/1.2/advanced/override_grammar/basic for details"


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
            message = " ".join(str(error).split()).removesuffix(_FURTHER)
            raise SettingError(f"{override}: cannot be read: {message}") from None
    return read


@dataclass(frozen=True)
class Sweep:
    """What a sweep is asked for with.

    Attributes:
        overrides: What its sweeper is given; shuffled values stand in the order that was drawn for them.
        own: Settings of Hydra's.
        prepared: Values that the config itself sweeps over (``hydra.sweeper.params``).
        composed: The config of one run in the midst of it, with Hydra's own part.
        config_name: Name of the main config.
    """

    overrides: list[str]
    own: list[str]
    prepared: list[str]
    composed: DictConfig
    config_name: str

    @staticmethod
    def read(arguments: Arguments) -> Sweep:
        """What is asked for, inside the source of the arguments.

        Raises:
            SettingError: If it cannot be read, or its settings do not go together.
        """
        typed = parsed(arguments.overrides)
        name = arguments.source.config_name
        composed = compose([*(_one_of(override) for override in typed), "hydra.mode=MULTIRUN"], name)
        own = [str(override.input_line) for override in typed if override.is_hydra_override()]
        composed.hydra.overrides.task = [line for line in arguments.overrides if line not in own]
        params = composed.hydra.sweeper.get("params") or {}
        given = {override.get_key_element() for override in typed}
        prepared = {key: f"{key}={value}" for key, value in params.items()}
        shuffled = [o for o in parsed(list(prepared.values())) if o.get_key_element() not in given and _is_shuffled(o)]
        prepared |= {override.get_key_element(): _drawn(override) for override in shuffled}
        lines = [prepared[override.get_key_element()] for override in shuffled]
        settings = [override for override in typed if not override.is_hydra_override()]
        lines += [_drawn(override) if _is_shuffled(override) else str(override.input_line) for override in settings]
        return Sweep(lines, own, list(prepared.values()), composed, name)

    @property
    def is_grid(self) -> bool:
        """Whether its runs are known beforehand; other sweepers, such as Optuna's, choose them as they go."""
        return str(self.composed.hydra.sweeper.get("_target_")).endswith(BasicSweeper.__name__)

    def expanded(self) -> Iterator[list[str]]:
        """The overrides of each run; those typed take the place of those that the config itself sweeps over.

        Raises:
            SettingError: If a setting has values that are not taken one by one.
        """
        every = parsed([*self.prepared, *self.overrides])
        for override in every:
            if override.is_sweep_override() and not override.is_discrete_sweep():
                kinds = "choice, range, glob, or hydra/sweeper=optuna"
                raise SettingError(f"{override.input_line}: the sweeper of a grid takes values one by one; use {kinds}")
        for batch in BasicSweeper.split_arguments(every, None):
            yield from ([*job, *self.own] for job in batch)


def _one_of(override: Override) -> str:
    """An override with one value of those that it sweeps over.

    Raises:
        SettingError: If it has none, or is Hydra's own.
    """
    line = str(override.input_line)
    if not override.is_sweep_override():
        return line
    if override.is_hydra_override():
        raise SettingError(f"{line}: has one value for all runs; put one with commas in quotes")
    value = override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        middle = (value.start + value.end) / 2
        return f"{override.get_key_element()}={int(middle) if isinstance(value.start, int) else middle}"
    try:
        values = list(override.sweep_string_iterator())
    except (ValueError, HydraException) as error:
        raise SettingError(f"{line}: {' '.join(str(error).split())}") from None
    if not values and isinstance(value, Glob):
        raise SettingError(
            f"{line}: glob takes choices of a group, such as flow=glob(*rotation), and none is like this"
        )
    if not values:
        raise SettingError(f"{line}: the sweep is empty: there are no values")
    return f"{override.get_key_element()}={values[0]}"


def _is_shuffled(override: Override) -> bool:
    return override.is_discrete_sweep() and bool(getattr(override.value(), "shuffle", False))


def _drawn(override: Override) -> str:
    """The values of a shuffled sweep in an order that is drawn here, for they are expanded more than once."""
    return f"{override.get_key_element()}=choice({','.join(override.sweep_string_iterator())})"


def single(arguments: Arguments) -> Job:
    """The run that is asked for, inside the source of its arguments.

    Raises:
        SettingError: If a setting is wrong.
    """
    composed = compose(arguments.overrides, arguments.source.config_name)
    return job_of(composed, arguments.overrides)


def job_of(composed: DictConfig, overrides: list[str]) -> Job:
    """The run of a composed config; real data say N and d in it."""
    setup = _resolved(composed)
    directory = Path(composed.hydra.run.dir)
    return Job(overrides, composed, setup, directory, directory)


def _resolved(composed: DictConfig) -> Setup:
    """The setup of a composed config, which then has the N and d of real data, and the name of its directory."""
    setup = Setup.resolved(task(composed))
    with open_dict(composed):
        composed.N, composed.d = setup.N, setup.d
        for part, key in ((composed.hydra.run, "dir"), (composed.hydra.sweep, "subdir")):
            written = OmegaConf.to_container(part, resolve=False)
            assert isinstance(written, dict)
            part[key] = str(written[key]).replace("${run_name:}", setup.name)
    return setup


def of_sweep(swept: Sweep) -> list[Job]:
    """The runs of a sweep, inside the source of its arguments.

    Raises:
        SettingError: If a setting is wrong, or two runs are the same, or there are none.
    """
    jobs: dict[Path, Job] = {}
    root = Path(swept.composed.hydra.sweep.dir)
    for number, overrides in enumerate(swept.expanded()):
        numbered = [f"hydra.job.num={number}", f"hydra.job.id={number}"]
        composed = compose([*overrides, *numbered], swept.config_name)
        OmegaConf.copy_cache(from_config=swept.composed, to_config=composed)  # one ${now:} for all runs
        setup = _resolved(composed)
        if setup.trainer["devices"] * setup.trainer["nodes"] > 1:
            raise InvalidSettingError(
                "trainer.devices", setup.trainer["devices"], "the runs of a sweep have one process each; leave out -m"
            )
        job = Job(overrides, composed, setup, root / composed.hydra.sweep.subdir, root)
        if (twin := jobs.get(job.directory)) is not None:
            asked = f"{' '.join(twin.overrides)} and {' '.join(job.overrides)}"
            raise SettingError(f"{asked} are one run, {job.directory}; ask for it once")
        jobs[job.directory] = job
    if not jobs:
        raise SettingError("the sweep is empty: a setting has no values")
    return list(jobs.values())


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
