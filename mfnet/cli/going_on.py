"""``ckpt=PATH``: a run that was cut off goes on with the settings that it has kept, and with those given now."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict

from mfnet.cli import jobs
from mfnet.cli.arguments import Arguments
from mfnet.compute.launch import launch
from mfnet.setup.compose import compose, task
from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.names import options
from mfnet.setup.pieces import own_pieces, trusting
from mfnet.setup.python import MANY
from mfnet.setup.settings import PREPARED, SYMBOLS_AND_GROUPS, Effect, effect

if TYPE_CHECKING:
    from mfnet.training.checkpoint import Checkpoint


def checkpoint_of(arguments: Arguments) -> Checkpoint | None:
    """The checkpoint that is given, if one is.

    Raises:
        SettingError: If it is missing or is not one of mfnet's, or a sweep is asked for.
    """
    given = [override.partition("=")[2] for override in arguments.overrides if override.startswith("ckpt=")]
    path = _path(given[-1]) if given else None
    if path is None:
        return None
    if arguments.multirun:
        raise InvalidSettingError("ckpt", path, "a sweep goes on by itself where it was left; leave out ckpt")
    from mfnet.training.checkpoint import read_checkpoint

    return read_checkpoint(Path(path))


def _path(typed: str) -> str | None:
    """The path that was typed: that of a file as it is, any other as Hydra reads it."""
    if Path(typed).is_file():
        return typed
    value = jobs.parsed([f"ckpt={typed}"])[0].value()
    return value if value is None or isinstance(value, str) else typed


def job_of(arguments: Arguments, checkpoint: Checkpoint) -> tuple[jobs.Job, set[str]]:
    """The rest of the run of a checkpoint: what it was, but for the settings that are given now, in its directory.

    A checkpoint may be somebody else's: nothing is made of it but pieces of mfnet's. Of the user's own there are those
    that are named now; their names are returned too.

    Raises:
        SettingError: If a setting that is given is wrong.
    """
    chosen: list[str] = []
    choices: list[str] = []
    leaves: list[str] = []
    deleted: list[str] = []
    lines: list[str] = [f"ckpt={jobs.quoted(str(checkpoint.path))}"]
    typed = [line for line in arguments.overrides if not line.startswith("ckpt=")]
    for line, override in zip(typed, jobs.parsed(typed), strict=True):
        key = override.package or override.key_or_group  # of theory@overlay.mine=…, where it goes
        top = key.partition(".")[0]
        if override.is_sweep_override():
            raise SettingError(f"{line}: a run that goes on has one value a setting")
        if top in PREPARED:
            raise SettingError(f"{line}: this run keeps its own settings; give those that are to change one by one")
        is_group, is_setting = bool(options(override.key_or_group)), top in SYMBOLS_AND_GROUPS
        if is_setting and override.is_delete():
            deleted.append(key)
        elif is_setting and not is_group:
            leaves.append(key)
            lines.append(f"++{key}={line.partition('=')[2]}")
        else:
            chosen += [key] if is_setting else []
            choices += [line] if is_setting else []
            lines.append(line)
    if not any(line.startswith("hydra.run.dir=") for line in lines):
        lines.append(f"hydra.run.dir={jobs.quoted(str(checkpoint.run_directory))}")
    composed = compose(lines, arguments.source.config_name)
    without = compose([line for line in lines if line not in choices], arguments.source.config_name)
    given = _given(task(composed), task(without), [*chosen, *leaves])
    _check_same(checkpoint, given)
    named = set(_words(given))
    stored = _without_own(checkpoint.config, named)
    with open_dict(composed):
        for name, value in stored.items():
            OmegaConf.update(composed, name, value, merge=False)
        for key in checkpoint.follows:
            OmegaConf.update(composed, key, "${seed}")
        for key, value in given.items():
            OmegaConf.update(composed, key, value, merge=False, force_add=True)
        for key in deleted:
            _delete(composed, key)
    with as_stored(named):
        return jobs.job_of(composed, arguments.overrides), named


def as_stored(named: Collection[str]) -> AbstractContextManager[None]:
    """Inside, pieces are made of what a checkpoint says: mfnet's, and those that are named on the command line."""
    return trusting(named, "name it on the command line too, as KEY=NAME")


def _check_same(checkpoint: Checkpoint, given: Mapping[str, Any]) -> None:
    """Checks that plain values which are given now are those of the run, where they would change what it computes.

    Raises:
        InvalidSettingError: For the first that is another.
    """
    for key, value in given.items():
        stored: Any = checkpoint.config
        for name in key.split("."):
            stored = stored.get(name) if isinstance(stored, Mapping) else None
        plain = isinstance(value, bool | int | float | str) and "${" not in str(value)
        if plain and stored not in (None, value) and effect(key) is Effect.RESULT:
            raise InvalidSettingError(key, value, f"the run of this checkpoint has {stored}")


def _words(value: Any) -> Iterator[str]:
    """Every text inside a value."""
    if isinstance(value, str):
        yield str(value)
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _words(inner)


def _without_own(config: Mapping[str, Any], named: Collection[str]) -> dict[str, Any]:
    """A stored config without what only looks at a run and is the user's own, unless it is named; says what that is."""
    kept = dict(config)
    for group in MANY:
        own = {key: name for key, name in own_pieces(config[group], group).items() if name not in named}
        gone = {key.split(".")[1] for key in own}
        kept[group] = {name: piece for name, piece in config[group].items() if name not in gone}
        for key, name in own.items() if launch().rank == 0 else ():
            left_out = f"{key}={name} is left out, for a checkpoint may be anybody's"
            print(f"mfnet: {left_out}; if you trust it: {shlex.quote(f'++{key}={name}')}", file=sys.stderr, flush=True)
    return kept


def _given(config: DictConfig, without: DictConfig, keys: Sequence[str]) -> dict[str, Any]:
    """The parts of a config under these keys, and what choices have added to other groups; not interpolated."""
    parts, before = (OmegaConf.to_container(each, resolve=False) for each in (config, without))
    assert isinstance(parts, dict)
    assert isinstance(before, dict)
    given: dict[str, Any] = {}
    for group, part in parts.items():
        if isinstance(part, dict) and isinstance(before.get(group), dict):
            given |= {f"{group!s}.{name!s}": part[name] for name in part if name not in before[group]}
    for key in keys:
        part = parts
        for name in key.split("."):
            part = part[name]
        given[key] = part
    return given


def _delete(composed: DictConfig, key: str) -> None:
    """Takes a setting away.

    Raises:
        SettingError: If there is none.
    """
    group, _, leaf = key.rpartition(".")
    entry = OmegaConf.select(composed, group) if group else composed
    if not isinstance(entry, DictConfig) or leaf not in entry:
        raise SettingError(f"~{key}: this run has no such setting")
    del entry[leaf]
