"""What is asked for, checked before any work starts (no torch)."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

from mfnet.setup.arguments import fits, hints_of, wanted
from mfnet.setup.compose import Source
from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.names import REFUSED, suggestion
from mfnet.setup.pieces import Builder, resolve
from mfnet.setup.settings import BY_KEY, CLOSED, LIGHTNINGS, OF_THE_COMMAND, PREPARED, SETTINGS, SYMBOLS_AND_GROUPS
from mfnet.theory import latent_law
from mfnet.theory.initial import check_init
from mfnet.theory.projections import radius_law

#: What a run may lack.
_OPTIONAL = {*OF_THE_COMMAND, *PREPARED}

#: What a process that has nothing to do yet, or was refused, leaves in a directory.
_LOCK = ".lock"

#: Groups that need a class.
_NEED_A_TARGET = ("mean_field", "hydrodynamic", "data", "flow", "theory", "schedule", "stop")

#: Groups that hold any number of pieces, and the longest name of one, of which names of files are made.
_MANY, _LONGEST_NAME = ("overlay", "callbacks", "logger"), 100

#: All groups that hold settings.
_GROUPS = (*_NEED_A_TARGET, *_MANY, *CLOSED, "trainer")

#: Arguments of theories that restate settings of the run, which they follow by themselves.
_OF_THE_RUN = {
    "M": "M",
    "N": "N",
    "d": "d",
    "alpha": "alpha",
    "h": "h",
    "activation": "network.activation",
    "init": "network.init",
    "a_std": "network.a_std",
    "w_std": "network.w_std",
    "loss": "loss.name",
    "inputs": "data.inputs",
    "radius": "data.radius",
    "stretch": "data.stretch",
    "separation": "data.separation",
    "flip": "data.flip",
    "rule": "data.rule",
    "k": "data.k",
    "at": "data.at",
}

#: The same, of data; they may have a seed of their own.
_OF_THE_DATA = {"N": "N", "n_train": "N", "d": "d"}

#: Where settings of the run are restated; theories of another problem may be laid over it as overlays, by their names.
_RESTATING = {
    "data": _OF_THE_DATA,
    "mean_field": _OF_THE_RUN,
    "hydrodynamic": _OF_THE_RUN,
    "theory": _OF_THE_RUN,
    "theory.mean_field": _OF_THE_RUN,
}


def check(config: Mapping[str, Any]) -> None:
    """Checks every setting of a resolved config, in plain containers; `check_targets` asks the classes that it names.

    Raises:
        SettingError: For the first one that is unknown or not allowed.
    """
    _check_names(config)
    _check_values(config)
    _check_named(config)
    _check_together(config)


def _check_names(config: Mapping[str, Any]) -> None:
    """Whether there are settings of these names."""
    for name in PREPARED:
        if config.get(name) is not None:
            raise SettingError(f"{name}: its settings would be lost; begin its file with the line # @package _global_")
    for name in config:
        if name not in SYMBOLS_AND_GROUPS:
            raise unknown(name, config[name])
    for group in _GROUPS:
        if not isinstance(config[group], Mapping):
            raise InvalidSettingError(group, config[group], "must be a choice of this group, or a mapping of settings")
    for group, known in CLOSED.items():
        for name in config[group]:
            if name not in known:
                raise unknown(f"{group}.{name}", config[group][name])
    for name, value in config["trainer"].items():
        if name in REFUSED:
            raise InvalidSettingError(f"trainer.{name}", value, REFUSED[name])


def unknown(key: str, value: object) -> SettingError:
    """That there is no such setting, and which may be meant."""
    with Source().opened():
        return SettingError(f"{key}={value}: there is no setting of this name{suggestion(key)}")


def check_complete(config: Mapping[str, Any]) -> None:
    """Checks that no setting was taken away that a run has to have; interpolations are not resolved yet.

    Raises:
        SettingError: For the first that was.
    """
    for name in sorted(SYMBOLS_AND_GROUPS - _OPTIONAL):
        if name not in config:
            raise SettingError(f"{name}: every run has it; leave out ~{name} or {name}=null")
        if name in (*CLOSED, "trainer"):
            for key in set(BY_KEY) - set(LIGHTNINGS):
                group, _, leaf = key.partition(".")
                if group == name and leaf and leaf not in config[name]:
                    raise SettingError(f"{key}: every run has it; leave out ~{key}")


def _check_values(config: Mapping[str, Any]) -> None:
    """Whether values are allowed; arguments of classes that are not mfnet's are theirs to check."""
    for setting in SETTINGS:
        found, value, ours = _lookup(config, setting.key)
        if found and ours and not setting.allows(value):
            raise InvalidSettingError(setting.key, value, setting.allowed)


def _check_named(config: Mapping[str, Any]) -> None:
    """Whether the pieces of groups that hold any number of them name their class."""
    for group in _MANY:
        for name, entry in config[group].items():
            if len(str(name)) > _LONGEST_NAME:
                raise SettingError(f"{group}.{name[:20]}…: the name must have at most {_LONGEST_NAME} characters")
            if not isinstance(entry, Mapping) or "_target_" not in entry:
                raise InvalidSettingError(f"{group}.{name}", entry, "must name a class, or a function, by its _target_")


def _lookup(config: Mapping[str, Any], key: str) -> tuple[bool, Any, bool]:
    """Whether a setting is there, its value, and whether it is an argument of a class of mfnet's or torch's."""
    value: Any = config
    ours = True
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False, None, ours
        ours = str(value.get("_target_", "mfnet.")).partition(".")[0] in ("mfnet", "torch")
        value = value[part]
    return True, value, ours


def _check_together(config: Mapping[str, Any]) -> None:
    """Settings that are right only with one another."""
    data, schedule = config["data"], config["schedule"]
    _check_restated(config)
    for key, value in (("N", config["N"]), ("d", config["d"]), ("data.n_train", _n_train(config))):
        if value is None and "d" in data:
            raise InvalidSettingError(key, "null", "these data are drawn, and need a number")
    for key, plain, inputs in (("radius", None, "radial"), ("stretch", 1.0, "elongated")):
        if ("inputs" in data and data["inputs"] != inputs) and data.get(key, plain) != plain:
            raise InvalidSettingError(f"data.{key}", data[key], f"goes with data.inputs={inputs} alone; leave it out")
    if data.get("inputs") == "radial":
        try:
            radius_law(data.get("radius") or {})
        except ValueError as error:
            raise InvalidSettingError("data.radius", data.get("radius"), str(error)) from None
    try:
        check_init(config["network"]["init"], config["M"])
    except ValueError:
        raise InvalidSettingError("M", config["M"], "must be a multiple of 4 with network.init=balanced") from None
    if data.get("inputs") == "latent":
        _check_rule(config)
    t_min, t_max = schedule.get("t_min"), schedule.get("t_max")
    if t_min is not None and t_max is not None and not t_min < t_max:
        raise InvalidSettingError("schedule.t_min", t_min, f"must be below schedule.t_max={t_max}")
    trainer = config["trainer"]
    n_processes = trainer["devices"] * trainer["nodes"]
    shared, n = ("N", _n_train(config)) if trainer["divide"] == "rows" else ("M", config["M"])
    if n is not None and n_processes > 1 and n < n_processes:
        needed = f"trainer.divide={trainer['divide']} needs at least as many {trainer['divide']}, and {shared}={n}"
        raise InvalidSettingError("trainer.devices", trainer["devices"], needed)


def _check_restated(config: Mapping[str, Any]) -> None:
    """Whether settings that restate one of the run's agree with it, in pieces of mfnet's."""
    for where, restated in _RESTATING.items():
        found, entry, _ = _lookup(config, where)
        if not found or not isinstance(entry, Mapping) or not _is_ours(entry):
            continue
        for name, key in restated.items():
            there, value, ours = _lookup(config, key)
            of_the_draw = name == "inputs" and entry.get(name) == "empirical"
            if there and ours and name in entry and entry[name] != value and not of_the_draw:
                wanted_ = f"must be that of the run, {key}={value}; leave it out, and set {key}"
                raise InvalidSettingError(f"{where}.{name}", entry[name], wanted_)


def _is_ours(entry: Mapping[str, Any]) -> bool:
    """Whether a piece is made by a class of mfnet's."""
    return str(entry.get("_target_")).partition(".")[0] == "mfnet"


def _check_rule(config: Mapping[str, Any]) -> None:
    """Whether there is such a rule of latent directions, and room for them."""
    data, d = config["data"], config["d"]
    rule = str(data.get("rule"))
    if "#" in rule:  # an object that no config can make again
        return
    try:
        law = latent_law(
            resolve("data.rule", rule) if "." in rule else rule, data.get("k"), data.get("at"), data.get("separation")
        )
    except ValueError as error:
        raise InvalidSettingError("data.rule", rule, str(error)) from None
    if d <= law.k:
        raise InvalidSettingError("d", d, f"must be above the number of latent directions of data.rule={rule}, {law.k}")


def check_targets(builder: Builder, parts: Iterable[str], prefix: str = "") -> None:
    """Checks that what is named by ``_target_`` in these parts exists, and takes the settings that are given to it.

    Raises:
        InvalidSettingError: For the first piece that does not.
    """
    for part in parts:
        key = f"{prefix}{part}"
        try:
            entry = builder.at(key)
        except KeyError:
            continue
        if isinstance(entry, list):
            check_targets(builder, (str(i) for i in range(len(entry))), f"{key}.")
        if not isinstance(entry, Mapping):
            continue
        if key in _NEED_A_TARGET and "_target_" not in entry:
            raise InvalidSettingError(key, dict(entry), "needs a _target_, the class that it configures")
        if not isinstance(entry.get("_partial_", False), bool):
            raise InvalidSettingError(f"{key}._partial_", entry["_partial_"], "must be true or false")
        if "_target_" in entry:
            _check_arguments(builder, key, entry)
        check_targets(builder, entry, f"{key}.")


def _check_arguments(builder: Builder, key: str, entry: Mapping[str, Any]) -> None:
    """Whether a class takes the settings that stand beside its name, and those of mfnet's their values."""
    target = builder.target(key)
    if not callable(target):
        return
    for name, hint in hints_of(target).items():
        inner = f"{key}.{name}"
        if name not in entry or _automatic(inner, entry[name]) or _follows(builder.config, inner, entry[name]):
            continue
        made_by = builder.target(inner) if isinstance(entry[name], Mapping) and "_target_" in entry[name] else None
        if made_by is None and inner in builder.objects:
            continue
        if not fits(entry[name], hint, made_by):
            raise InvalidSettingError(inner, entry[name], wanted(hint))
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError) as error:
        raise InvalidSettingError(f"{key}._target_", entry["_target_"], str(error)) from None
    passed_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    keywords = getattr(target, "KEYWORDS", None)  # those that are passed on, where a class says so
    if passed_on and not keywords:
        return
    for setting in entry:
        if not setting.startswith("_") and setting not in {*parameters, *(keywords or ())}:
            raise InvalidSettingError(f"{key}.{setting}", entry[setting], f"{entry['_target_']} does not take it")


def _follows(config: Mapping[str, Any], key: str, value: Any) -> bool:
    """Whether a setting has the value of another one that it restates, which is checked where that stands."""
    restated = _OF_THE_RUN.get(key.rpartition(".")[2], key)
    there, other, _ = _lookup(config, restated)
    return restated != key and there and type(value) is type(other) and bool(value == other)


def _automatic(key: str, value: Any) -> bool:
    """Whether a setting is null, and has a value of its own then, as all of loggers have."""
    if value is not None:
        return False
    return key.startswith("logger.") or (key in BY_KEY and BY_KEY[key].allowed != "" and BY_KEY[key].allows(None))


def check_memory(config: Mapping[str, Any]) -> None:
    """Checks that the examples, whose number is known, and the nodes fit into the free memory of this machine.

    Raises:
        InvalidSettingError: If they do not.
    """
    replicas, size = config["replicas"], config["flow"].get("batch_size")
    batch = f"flow.batch_size={size}, " if size else ""
    needed, available = replicas * memory_needed(config, replicas), float(psutil.virtual_memory().available)
    if needed > available:
        raise InvalidSettingError(
            f"{batch}N={config['N']}, d={config['d']}, M",
            config["M"],
            f"needs about {needed / 2**30:.3g} GiB of memory, and {available / 2**30:.3g} GiB are free",
        )


def memory_needed(config: Mapping[str, Any], replicas: int) -> float:
    """About how many bytes a network takes, one of so many that are trained side by side.

    The estimate counts the examples, with those of a minibatch, in float64 while they are drawn, by every process,
    their copy for training, and the parameters with their initial copy, their drive and the temporaries of a step.
    Examples of a network that are larger than ``data.memory`` are mapped, and not counted.
    """
    n_examples = config["N"] + config["data"].get("n_test", 0)
    devices, divide = config["trainer"]["devices"], config["trainer"]["divide"]
    n_nodes = config["M"] * (1 if divide == "nodes" else devices)
    copies = (3.0, 6.0) if replicas == 1 else (5.0, 14.0)  # of examples and nodes; of replicas also those on their way
    if 8.0 * config["d"] * n_examples > config["data"].get("memory", math.inf) * 2**30:
        n_examples = 0
    n_examples += config["flow"].get("batch_size") or 0
    return 8.0 * config["d"] * (copies[0] * n_examples * devices + copies[1] * n_nodes)


def check_directory(key: str, path: str | os.PathLike[str], *, new: bool = True) -> None:
    """Checks that there can be a directory for results, and that it is new unless it need not be.

    Raises:
        InvalidSettingError: If it exists and is not empty, or is not a directory.
    """
    directory = Path(path)
    if directory.exists() and not directory.is_dir():
        raise InvalidSettingError(key, path, "is a file; name a directory")
    if new and directory.exists() and any(path.name != _LOCK for path in directory.iterdir()):
        raise InvalidSettingError(key, path, "exists already and is not written over; name a new directory")


def _n_train(config: Mapping[str, Any]) -> int | None:
    return config["data"].get("n_train", config["N"])
