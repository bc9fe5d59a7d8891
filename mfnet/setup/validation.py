"""What a user may ask for: every setting is checked before any work starts (no torch)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mfnet.theory.activations import ACTIVATIONS
from mfnet.theory.losses import LOSSES
from mfnet.theory.projections import radius_law


class SettingError(Exception):
    """A mistake in what was asked for, told in one line."""


class InvalidSettingError(SettingError):
    """A setting that is not allowed: its key, its value, and what is."""

    def __init__(self, key: str, value: object, allowed: str):
        super().__init__(f"{key}={value}: {allowed}")


@dataclass(frozen=True)
class Rule:
    """What one setting may be; a rule for a key that a choice of config does not have is not applied."""

    key: str
    allows: Callable[[Any], bool]
    allowed: str


def _integer(lowest: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= lowest


def _number(allows: Callable[[float], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and allows(value)
    )


def _optional(allows: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or allows(value)


def _text(value: object) -> bool:
    return isinstance(value, str)


def _boolean(value: object) -> bool:
    return isinstance(value, bool)


def _times(value: object) -> bool:
    return (
        isinstance(value, list) and all(_number(lambda t: t >= 0.0)(t) for t in value) and any(t > 0.0 for t in value)
    )


def _classes(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(name, str | int) for name in value)


def _one_of(names: Mapping[str, object] | tuple[str, ...]) -> tuple[Callable[[Any], bool], str]:
    return lambda value: isinstance(value, str) and value in names, f"must be one of {', '.join(names)}"


_POSITIVE = (_number(lambda value: value > 0.0), "must be a finite number above 0")
_POSITIVE_OR_NULL = (_optional(_POSITIVE[0]), "must be a finite number above 0, or null for the automatic value")
_COUNT = (_integer(1), "must be a whole number of at least 1, written without point or exponent")

RULES: tuple[Rule, ...] = (
    Rule("M", *_COUNT),
    Rule("N", _optional(_COUNT[0]), f"{_COUNT[1]}, or null with real data for all that there are"),
    Rule("d", _optional(_integer(2)), "must be a whole number of at least 2, or null with real data"),
    Rule("alpha", *_POSITIVE),
    Rule("h", *_POSITIVE),
    Rule("seed", _integer(0), "must be a whole number of at least 0"),
    Rule("replicas", *_COUNT),
    Rule("ckpt", _optional(lambda value: isinstance(value, str)), "must be the path of a checkpoint, or null"),
    Rule("network.activation", *_one_of(ACTIVATIONS)),
    Rule("network.a_std", *_POSITIVE),
    Rule("network.w_std", *_POSITIVE),
    Rule("loss.name", *_one_of(LOSSES)),
    Rule("data.n_train", _optional(_COUNT[0]), f"{_COUNT[1]}, or null with real data for all that there are"),
    Rule("data.n_test", *_COUNT),
    Rule("data.d", _optional(_integer(2)), "must be a whole number of at least 2"),
    Rule("data.inputs", *_one_of(("normal", "sphere", "radial", "elongated", "mixture"))),
    Rule("data.separation", _number(lambda value: value >= 0.0), "must be a finite number of at least 0"),
    Rule("data.source", lambda value: value is not None, "must name a source by its _target_"),
    Rule("data.source.folder", _text, "must be the path of a folder of IDX files"),
    Rule("data.source.file", _text, "must be the path of a file, or of a folder with data=npz"),
    Rule("data.source.label", _text, "must be the name of the column with the classes"),
    Rule("data.positive", _optional(_classes), "must be a list of classes, such as [7] or [a,b], or null"),
    Rule("data.negative", _optional(_classes), "must be a list of classes, such as [7] or [a,b], or null"),
    Rule("data.test_share", _number(lambda value: 0.0 < value < 1.0), "must be above 0 and below 1"),
    Rule("data.memory", *_POSITIVE),
    Rule("data.preparation.centre", _boolean, "must be true or false"),
    Rule("data.preparation.scale", *_one_of(("global", "unit", "none"))),
    Rule("data.preparation.components", _optional(_integer(2)), "must be a whole number of at least 2, or null"),
    Rule("data.preparation.whiten", _boolean, "must be true or false"),
    Rule("data.preparation.sphere", _boolean, "must be true or false"),
    Rule("data.stretch", *_POSITIVE),
    Rule("data.flip", _number(lambda value: 0.0 <= value < 0.5), "must be at least 0 and below 1/2"),
    Rule("data.direction", *_one_of(("random", "axis"))),
    Rule("mean_field.dt", *_POSITIVE_OR_NULL),
    Rule("mean_field.scheme", *_one_of(("euler", "rotation"))),
    Rule("flow.dt", *_POSITIVE_OR_NULL),
    Rule("flow.batch_size", _optional(_COUNT[0]), "must be a whole number of at least 1, or null for all examples"),
    Rule("flow.optimizer.lr", *_POSITIVE_OR_NULL),
    Rule("flow.rtol", _number(lambda value: 0.0 < value <= 0.1), "must be above 0 and at most 0.1"),
    Rule("flow.atol", _number(lambda value: value >= 0.0), "must be a finite number of at least 0"),
    Rule("flow.safety", _number(lambda value: 0.0 < value < 1.0), "must be above 0 and below 1"),
    Rule("flow.shrink", _number(lambda value: 0.0 < value < 1.0), "must be above 0 and below 1"),
    Rule("flow.grow", _number(lambda value: value > 1.0), "must be a finite number above 1"),
    Rule("flow.dt_first", *_POSITIVE_OR_NULL),
    Rule("flow.dt_min", *_POSITIVE_OR_NULL),
    Rule("flow.dt_max", *_POSITIVE_OR_NULL),
    Rule("flow.resolution", *_POSITIVE),
    Rule("flow.memory", _number(lambda value: 0.0 <= value <= 1.0), "must be at least 0 and at most 1"),
    Rule("stop.satisfied", _number(lambda value: 0.0 < value <= 1.0), "must be above 0 and at most 1"),
    Rule(
        "stop.test_error_rise",
        _optional(_number(lambda value: value > 1.0)),
        "must be a finite number above 1, or null for no such end",
    ),
    Rule("stop.wall_seconds", _optional(_POSITIVE[0]), "must be a finite number above 0, or null for no such end"),
    Rule("stop.stationary", _optional(_POSITIVE[0]), "must be a finite number above 0, or null for no such end"),
    Rule("schedule.t_min", *_POSITIVE_OR_NULL),
    Rule("schedule.t_max", *_POSITIVE_OR_NULL),
    Rule("schedule.per_decade", *_COUNT),
    Rule("schedule.times", _times, "must be a list of finite numbers of at least 0, not all 0, such as [1,10,100]"),
    Rule("callbacks.node_log.n", *_COUNT),
    Rule("callbacks.node_log.histograms_every", *_COUNT),
    Rule("callbacks.example_log.n", *_COUNT),
    Rule("callbacks.node_agreement.n", *_COUNT),
    Rule("callbacks.node_agreement.principal", *_COUNT),
    Rule("callbacks.node_agreement.r2", _number(lambda value: value < 1.0), "must be a finite number below 1"),
    Rule("callbacks.node_agreement.moved", _number(lambda value: value < 1.0), "must be a finite number below 1"),
    Rule("callbacks.node_agreement.unsatisfied", *_POSITIVE),
    Rule("callbacks.baselines.n_chosen", *_COUNT),
    Rule("callbacks.baselines.n_kernel", *_COUNT),
    Rule("trainer.accelerator", *_one_of(("auto", "cpu", "gpu"))),
    Rule("trainer.devices", *_COUNT),
    Rule("trainer.nodes", *_COUNT),
    Rule("trainer.divide", *_one_of(("rows", "nodes"))),
    Rule("trainer.precision", *_one_of(("auto", "float32", "float64", "tf32", "bf16"))),
    Rule("trainer.progress", _optional(_boolean), "must be true, false, or null to show it on a terminal"),
    Rule("trainer.tensorboard", _boolean, "must be true or false"),
)


#: Activations whose nodes can be rotated.
HOMOGENEOUS = tuple(name for name, activation in ACTIVATIONS.items() if activation.kink is not None)

#: Flows that many networks can follow at once.
#: Every setting outside the groups whose settings are the arguments of their ``_target_``.
_KEYS: dict[str, tuple[str, ...]] = {
    "": (
        *("M", "N", "d", "alpha", "h", "seed", "replicas", "ckpt", "mean_field", "data", "network", "loss", "flow"),
        *("theory", "schedule", "callbacks", "trainer", "experiment", "stop"),
    ),
    "network": ("activation", "a_std", "w_std"),
    "loss": ("name",),
    "trainer": ("accelerator", "devices", "nodes", "divide", "precision", "progress", "tensorboard"),
}


def validate(config: Mapping[str, Any]) -> None:
    """Checks every setting of a resolved config, in plain containers.

    Raises:
        InvalidSettingError: For the first one that is unknown or not allowed.
    """
    for group, known in _KEYS.items():
        entries = config[group] if group else config
        for name in entries:
            if name not in known:
                raise InvalidSettingError(
                    f"{group}.{name}".lstrip("."), entries[name], "there is no setting of this name"
                )
    for rule in RULES:
        found, value = _lookup(config, rule.key)
        if found and not rule.allows(value):
            raise InvalidSettingError(rule.key, value, rule.allowed)
    _validate_together(config)


def _validate_together(config: Mapping[str, Any]) -> None:
    """Settings that are right only with one another."""
    data, schedule = config["data"], config["schedule"]
    for key, value in (("N", config["N"]), ("d", config["d"]), ("data.n_train", _n_train(config))):
        if value is None and "d" in data:
            raise InvalidSettingError(key, "null", "these data are drawn, and need a number")
    if data.get("inputs") == "radial":
        try:
            radius_law(data.get("radius") or {})
        except ValueError as error:
            raise InvalidSettingError("data.radius", data.get("radius"), str(error)) from None
    t_min, t_max = schedule.get("t_min"), schedule.get("t_max")
    if t_min is not None and t_max is not None and not t_min < t_max:
        raise InvalidSettingError("schedule.t_min", t_min, f"must be below schedule.t_max={t_max}")
    activation, flow = config["network"]["activation"], config["flow"].get("_target_", "")
    if flow.endswith("Rotation") and activation not in HOMOGENEOUS:
        raise InvalidSettingError(
            "network.activation", activation, f"rotation steps need {', '.join(HOMOGENEOUS)}; use flow=averaged"
        )
    _validate_division(config)
    _validate_replicas(config)


def _validate_division(config: Mapping[str, Any]) -> None:
    """Whether there is something to share out to every process."""
    trainer = config["trainer"]
    divide, n_processes = trainer["divide"], trainer["devices"] * trainer["nodes"]
    if n_processes == 1:
        return
    key, devices = "trainer.devices", trainer["devices"]
    if config["flow"].get("_target_", "").endswith(".Descent"):
        raise InvalidSettingError(
            key, devices, "flow=sgd and flow=adam run in one process; use flow=rotation or flow=euler"
        )
    shared, n = ("N", _n_train(config)) if divide == "rows" else ("M", config["M"])
    if n is not None and n < n_processes:
        raise InvalidSettingError(
            key, devices, f"trainer.divide={divide} needs at least as many {divide}, and {shared}={n}"
        )


def _validate_replicas(config: Mapping[str, Any]) -> None:
    """Whether what is asked for can be computed for many networks at once."""
    replicas, flow = config["replicas"], config["flow"].get("_target_", "").rpartition(".")[2]
    if replicas > 1 and flow == "Descent":
        raise InvalidSettingError(
            "replicas", replicas, "needs a flow of mfnet's own: an optimizer of torch's has one state for all networks"
        )


def validate_memory(config: Mapping[str, Any]) -> None:
    """Checks that the examples, whose number is known, and the nodes fit into the free memory of this machine.

    The estimate counts the examples in float64 while they are drawn, by every process, their copy for training, and
    the parameters with their initial copy, their drive and the temporaries of a step. Examples of a network that are
    larger than ``data.memory`` are mapped, and not counted.

    Raises:
        InvalidSettingError: If they do not.
    """
    n_examples = config["N"] + config["data"].get("n_test", 0)
    devices, divide = config["trainer"]["devices"], config["trainer"]["divide"]
    n_nodes = config["M"] * (1 if divide == "nodes" else devices)
    replicas = config["replicas"]
    copies = (3.0, 6.0) if replicas == 1 else (5.0, 14.0)  # of examples and nodes; of replicas also those on their way
    if 8.0 * config["d"] * n_examples > config["data"].get("memory", math.inf) * 2**30:
        n_examples = 0
    needed = 8.0 * config["d"] * (copies[0] * n_examples * devices + copies[1] * n_nodes) * replicas
    available = float(psutil.virtual_memory().available)
    if needed > available:
        raise InvalidSettingError(
            f"N={config['N']}, d={config['d']}, M",
            config["M"],
            f"needs about {needed / 2**30:.3g} GiB of memory, and {available / 2**30:.3g} GiB are free",
        )


def validate_directory(key: str, path: str | os.PathLike[str], *, new: bool = True) -> None:
    """Checks that there can be a directory for results, and that it is new unless it need not be.

    Raises:
        InvalidSettingError: If it exists and is not empty, or is not a directory.
    """
    directory = Path(path)
    if directory.exists() and not directory.is_dir():
        raise InvalidSettingError(key, path, "is a file; name a directory")
    if new and directory.exists() and any(directory.iterdir()):
        raise InvalidSettingError(key, path, "exists already and is not written over; name a new directory")


def _n_train(config: Mapping[str, Any]) -> int | None:
    return config["data"].get("n_train", config["N"])


def _lookup(config: Mapping[str, Any], key: str) -> tuple[bool, Any]:
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value
