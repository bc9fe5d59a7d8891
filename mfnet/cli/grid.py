"""A sweep: which runs it asks for, each composed and checked before it starts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from mfnet.cli.arguments import Arguments
from mfnet.cli.jobs import NAMED, Job, complete, parsed
from mfnet.cli.workers import meanwhile
from mfnet.setup.compose import compose, task
from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.names import options
from mfnet.setup.setup import Setup


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

    @property
    def root(self) -> Path:
        """Its directory."""
        return Path(self.composed.hydra.sweep.dir)

    @cached_property
    def axes(self) -> dict[str, Sequence[str]]:
        """Overrides of each setting, one a value; those typed take the place of those that the config sweeps over.

        Raises:
            SettingError: If a setting has values that are not taken one by one.
        """
        axes: dict[str, Sequence[str]] = {}
        for override in parsed([*self.prepared, *self.overrides]):
            key = override.get_key_element()
            if not override.is_sweep_override():
                axes[key] = [f"{key}={override.get_value_element_as_str()}"]
            elif override.is_discrete_sweep():
                axes[key] = _values(override)
            else:
                kinds = "choice, range, glob, or hydra/sweeper=optuna"
                raise SettingError(f"{override.input_line}: the sweeper of a grid takes values one by one; use {kinds}")
        return axes

    def __len__(self) -> int:
        return math.prod(map(len, self.axes.values()))

    def expanded(self, number: int) -> list[str]:
        """The overrides of a run; the last setting varies fastest."""
        chosen = []
        for axis in reversed(self.axes.values()):
            number, i = divmod(number, len(axis))
            chosen.append(axis[i])
        return chosen[::-1]

    def jobs(self, numbers: Iterable[int] | None = None) -> Iterator[Job]:
        """The runs, one after the other, inside the source of the arguments.

        Args:
            numbers: Those of some of them.

        Raises:
            SettingError: If a setting is wrong, or two runs are the same.
        """
        jobs: dict[Path, list[str]] = {}
        for number in range(len(self)) if numbers is None else numbers:
            job = self.job(number)
            if (twin := jobs.get(job.directory)) is not None:
                asked = f"{' '.join(twin)} and {' '.join(job.overrides)}"
                raise SettingError(f"{asked} are one run, {job.directory}; ask for it once")
            jobs[job.directory] = job.overrides
            yield job

    def jobs_meanwhile(self, action: Callable[[], Any], numbers: Sequence[int] | None = None) -> list[Job]:
        """The runs, composed in a copy of this process while it does something else.

        Args:
            action: Done here; it is not begun if a setting of the first run is wrong.
            numbers: Those of some of them.

        Raises:
            SettingError: If a setting is wrong, or two runs are the same.
        """
        numbers = range(len(self)) if numbers is None else numbers
        for first in self.jobs(numbers[:1]):
            if len(numbers) == 1:
                action()
                return [first]
        found = meanwhile(lambda: [replace(job, compose=_elsewhere) for job in self.jobs(numbers)], action)
        return [self._with_config(job, number) for job, number in zip(found, numbers, strict=True)]

    def job(self, number: int) -> Job:
        """A run, inside the source of the arguments.

        Raises:
            SettingError: If a setting is wrong.
        """
        overrides = self.expanded(number)
        composed = self._numbered(self._composer(overrides), number)
        setup = Setup.resolved(task(composed))
        if setup.trainer["devices"] * setup.trainer["nodes"] > 1:
            raise InvalidSettingError(
                "trainer.devices", setup.trainer["devices"], "the runs of a sweep have one process each; leave out -m"
            )
        complete(composed, setup)
        directory = self.root / composed.hydra.sweep.subdir
        return self._with_config(Job([*overrides, *self.own], _elsewhere, setup, directory, self.root), number)

    def _with_config(self, job: Job, number: int) -> Job:
        return replace(job, compose=partial(self._composed, number, job.setup))

    def _composed(self, number: int, setup: Setup) -> DictConfig:
        """The config of a run, once more."""
        composed = self._numbered(self._composer(self.expanded(number), copied=True), number)
        complete(composed, setup)
        return composed

    def _numbered(self, composed: DictConfig, number: int) -> DictConfig:
        """What a launcher would add to the config of a run."""
        with open_dict(composed):
            composed.hydra.job.id, composed.hydra.job.num = str(number), number
        OmegaConf.copy_cache(from_config=self.composed, to_config=composed)  # one ${now:} for all runs
        return composed

    @cached_property
    def _composer(self) -> Composer:
        return Composer(self)


def _elsewhere() -> DictConfig:
    """In place of what composes a run, which is not sent between processes."""
    raise AssertionError("the sweep that a run is of composes it")


class Composer:
    """Composes the runs of a sweep: those that differ in plain values alone from what Hydra has composed once.

    Args:
        sweep: The sweep.
    """

    def __init__(self, sweep: Sweep):
        self.sweep = sweep
        self._composed: dict[tuple[str, ...], tuple[DictConfig, dict[str, Any]]] = {}
        self._read: dict[str, Override] = {}
        keys = [key.lstrip("+~") for key in sweep.axes]
        self._plain = {
            key
            for key, lines in sweep.axes.items()
            if len(lines) > 1
            and key[0] not in "+~"
            and "@" not in key
            and not options(key)
            and not any(other != key and (other + ".").startswith(f"{key}.") for other in keys)
            and not any(other != key and (key + ".").startswith(f"{other}.") for other in keys)
        }

    def __call__(self, overrides: Sequence[str], *, copied: bool = False) -> DictConfig:
        """The config for these overrides, one a setting of the sweep, and those of Hydra's own.

        Args:
            overrides: The overrides.
            copied: Whether it is to be kept: the next call changes it otherwise.

        Raises:
            SettingError: If a name or a value in them is wrong.
        """
        lines = [*self.sweep.own, "hydra.mode=MULTIRUN", *overrides]
        plain = {key: line for key, line in zip(self.sweep.axes, overrides, strict=True) if key in self._plain}
        kept = tuple(line for line in lines if line not in plain.values())
        if kept not in self._composed:
            composed = compose(lines, self.sweep.config_name)
            self._composed[kept] = composed, _changed(composed)
        template, before = self._composed[kept]
        values = {key: self._override(line).value() for key, line in plain.items()}
        if not all(_takes(template, key, value) for key, value in values.items()):
            return compose(lines, self.sweep.config_name)
        composed = copy.deepcopy(template) if copied else template
        with open_dict(composed):
            for key, value in {**before, **values}.items():
                OmegaConf.update(composed, key, value)
        composed.hydra.overrides.task = list(overrides)
        named = composed.hydra.job.config.override_dirname
        composed.hydra.job.override_dirname = get_overrides_dirname(
            [self._override(line) for line in overrides],
            exclude_keys=named.exclude_keys,
            item_sep=named.item_sep,
            kv_sep=named.kv_sep,
        )
        return composed

    def _override(self, line: str) -> Override:
        if line not in self._read:
            if len(self._read) > 10_000:
                self._read.clear()
            (self._read[line],) = parsed([line])
        return self._read[line]


def _changed(composed: DictConfig) -> dict[str, Any]:
    """What `complete` writes into a config, as it was before."""
    parts = [(composed, "N", "N"), (composed, "d", "d")]
    parts += [(OmegaConf.select(composed, part), key, f"{part}.{key}") for part, key in NAMED]
    return {name: _written(part)[key] for part, key, name in parts}


def _written(part: DictConfig) -> dict[str, Any]:
    """A part as it is written, with its interpolations."""
    written = OmegaConf.to_container(part, resolve=False)
    assert isinstance(written, dict)
    return {str(key): value for key, value in written.items()}


def _takes(config: DictConfig, key: str, value: Any) -> bool:
    """Whether a value stands where one stood: neither is a part with settings of its own."""
    missing = object()
    there = OmegaConf.select(config, key, default=missing)
    return there is not missing and not isinstance(there, DictConfig) and not isinstance(value, dict)


class _Range(Sequence[str]):
    """Overrides by the whole numbers of a range, made when they are asked for."""

    def __init__(self, key: str, numbers: range):
        self.key, self.numbers = key, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> Any:
        return f"{self.key}={self.numbers[index]}"


def _values(override: Override) -> Sequence[str]:
    """An override by each value of a sweep over discrete ones."""
    value, key = override.value(), override.get_key_element()
    if isinstance(value, RangeSweep) and not value.shuffle:
        ends = value.start, value.stop, value.step
        if all(isinstance(end, int) for end in ends):
            return _Range(key, range(*ends))  # type: ignore[arg-type]  # whole numbers
    return [f"{key}={each}" for each in override.sweep_string_iterator()]


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
        values = list(islice(override.sweep_string_iterator(), 1))
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
