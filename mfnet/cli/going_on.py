"""``ckpt=PATH``: a run that was cut off goes on with the settings that it has kept, and with those given now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf, open_dict

from mfnet.cli import jobs
from mfnet.cli.arguments import Arguments
from mfnet.setup.compose import compose
from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.settings import SYMBOLS_AND_GROUPS

if TYPE_CHECKING:
    from mfnet.training.checkpoint import Checkpoint


def checkpoint_of(arguments: Arguments) -> Checkpoint | None:
    """The checkpoint that is given, if one is.

    Raises:
        SettingError: If it is missing or is not one of mfnet's, or a sweep is asked for.
    """
    given = {override.split("=", 1)[0]: override for override in arguments.overrides}
    path = given.get("ckpt", "ckpt=null").split("=", 1)[1]
    if path == "null":
        return None
    if arguments.multirun:
        raise InvalidSettingError("ckpt", path, "a sweep goes on by itself where it was left; leave out ckpt")
    from mfnet.training.checkpoint import read_checkpoint

    return read_checkpoint(Path(path.strip("'\"")))


def job_of(arguments: Arguments, checkpoint: Checkpoint) -> jobs.Job:
    """The rest of the run of a checkpoint: what it was, but for the settings that are given now, in its directory.

    Raises:
        SettingError: If a setting that is given is wrong.
    """
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    leaves: list[str] = []
    groups: set[str] = set()
    anywhere: list[str] = []
    for override in jobs.parsed(arguments.overrides):
        key, line = override.get_key_element().lstrip("+~"), str(override.input_line)
        top = key.partition(".")[0].partition("@")[0]
        if override.is_sweep_override():
            raise SettingError(f"{line}: a run that goes on has one value a setting")
        if top == "experiment":
            raise SettingError(f"{line}: this run keeps its own settings; give those that are to change one by one")
        if "." in key or not hydra.config_loader.get_group_options(top):
            is_setting = top in SYMBOLS_AND_GROUPS
            leaves += [key] if is_setting else []
            anywhere.append(f"++{key}={line.split('=', 1)[1]}" if is_setting and "=" in line else line)
        else:
            groups.add(top)
            anywhere.append(line)
    if not any(line.startswith("hydra.run.dir=") for line in anywhere):
        anywhere.append(f"hydra.run.dir={_quoted(checkpoint.run_directory)}")
    composed = compose([*anywhere, *arguments.source.overrides], arguments.source.config_name)
    given = {key: OmegaConf.select(composed, key) for key in leaves}
    with open_dict(composed):
        for name, value in checkpoint.config.items():
            if name not in groups:
                OmegaConf.update(composed, name, value, merge=False)
        for key, value in given.items():
            OmegaConf.update(composed, key, value, merge=False, force_add=True)
    return jobs.job_of(composed, arguments.overrides)


def _quoted(path: Path) -> str:
    """A path as Hydra reads it whole."""
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
