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


def _boolean(value: object) -> bool:
    return isinstance(value, bool)


def _times(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(_number(lambda t: t >= 0.0)(t) for t in value)


def _one_of(names: Mapping[str, object] | tuple[str, ...]) -> tuple[Callable[[Any], bool], str]:
    return lambda value: isinstance(value, str) and value in names, f"must be one of {', '.join(names)}"


_POSITIVE = (_number(lambda value: value > 0.0), "must be a finite number above 0")
_POSITIVE_OR_NULL = (_optional(_POSITIVE[0]), "must be a finite number above 0, or null for the automatic value")
_COUNT = (_integer(1), "must be a whole number of at least 1, written without point or exponent")

RULES: tuple[Rule, ...] = (
    Rule("M", *_COUNT),
    Rule("N", *_COUNT),
    Rule("d", _integer(2), "must be a whole number of at least 2"),
    Rule("alpha", *_POSITIVE),
    Rule("h", *_POSITIVE),
    Rule("seed", _integer(0), "must be a whole number of at least 0"),
    Rule("replicas", *_COUNT),
    Rule("ckpt", _optional(lambda value: isinstance(value, str)), "must be the path of a checkpoint, or null"),
    Rule("network.activation", *_one_of(ACTIVATIONS)),
    Rule("network.a_std", *_POSITIVE),
    Rule("network.w_std", *_POSITIVE),
    Rule("loss.name", *_one_of(LOSSES)),
    Rule("data.n_train", *_COUNT),
    Rule("data.n_test", *_COUNT),
    Rule("data.inputs", *_one_of(("normal", "sphere", "radial", "elongated"))),
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
    Rule(
        "schedule.t_max",
        _optional(_number(lambda value: value >= 0.0)),
        "must be a finite number of at least 0, or null for the automatic value",
    ),
    Rule("schedule.per_decade", *_COUNT),
    Rule("schedule.times", _times, "must be a list of finite numbers of at least 0, such as [1,10,100]"),
    Rule("callbacks.node_log.n", *_COUNT),
    Rule("callbacks.node_log.histograms_every", *_COUNT),
    Rule("callbacks.example_log.n", *_COUNT),
    Rule("trainer.accelerator", *_one_of(("auto", "cpu", "gpu"))),
    Rule("trainer.devices", *_COUNT),
    Rule("trainer.divide", *_one_of(("rows", "nodes"))),
    Rule("trainer.precision", *_one_of(("auto", "float32", "float64", "tf32", "bf16"))),
    Rule("trainer.checkpoint_every", *_COUNT),
    Rule("trainer.progress", _optional(_boolean), "must be true, false, or null to show it on a terminal"),
    Rule("trainer.tensorboard", _boolean, "must be true or false"),
)


#: Activations whose nodes can be rotated.
HOMOGENEOUS = tuple(name for name, activation in ACTIVATIONS.items() if activation.kink is not None)

#: Flows that many networks can follow at once.
ENSEMBLE_FLOWS = ("Averaged", "Rotation", "Euler")

#: Every setting outside the groups whose settings are the arguments of their ``_target_``.
_KEYS: dict[str, tuple[str, ...]] = {
    "": (
        *("M", "N", "d", "alpha", "h", "seed", "replicas", "ckpt", "mean_field", "data", "network", "loss", "flow"),
        *("theory", "schedule", "callbacks", "trainer", "experiment", "stop"),
    ),
    "network": ("activation", "a_std", "w_std"),
    "loss": ("name",),
    "trainer": ("accelerator", "devices", "divide", "precision", "checkpoint_every", "progress", "tensorboard"),
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
    if data.get("inputs") == "radial":
        try:
            radius_law(data.get("radius") or {})
        except ValueError as error:
            raise InvalidSettingError("data.radius", data.get("radius"), str(error)) from None
    t_min, t_max = schedule.get("t_min"), schedule.get("t_max")
    if t_min is not None and t_max is not None and not (t_max == 0.0 or t_min < t_max):
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
    devices, divide = config["trainer"]["devices"], config["trainer"]["divide"]
    if devices == 1:
        return
    if config["flow"].get("_target_", "").endswith(".Descent"):
        raise InvalidSettingError(
            "trainer.devices", devices, "flow=sgd and flow=adam run in one process; use flow=rotation or flow=euler"
        )
    shared, n = ("N", _n_train(config)) if divide == "rows" else ("M", config["M"])
    if n < devices:
        raise InvalidSettingError(
            "trainer.devices", devices, f"trainer.divide={divide} needs at least as many {divide}, and {shared}={n}"
        )


def _validate_replicas(config: Mapping[str, Any]) -> None:
    """Whether what is asked for can be computed for many networks at once."""
    replicas, trainer = config["replicas"], config["trainer"]
    if replicas == 1:
        return
    flow = config["flow"].get("_target_", "").rpartition(".")[2]
    if flow not in ENSEMBLE_FLOWS:
        raise InvalidSettingError("replicas", replicas, f"needs flow=averaged, rotation or euler, and not {flow}")
    if trainer["devices"] > 1:
        raise InvalidSettingError("replicas", replicas, "runs in one process; leave out trainer.devices")
    if trainer["precision"] in ("tf32", "bf16"):
        raise InvalidSettingError("replicas", replicas, "needs trainer.precision=float32, float64 or auto")


def validate_memory(config: Mapping[str, Any]) -> None:
    """Checks that the examples and the nodes fit into the free memory of this machine.

    The estimate counts the examples in float64 while they are drawn, by every process, their copy for training, and
    the parameters with their initial copy, their drive and the temporaries of a step.

    Raises:
        InvalidSettingError: If they do not.
    """
    n_examples = _n_train(config) + config["data"].get("n_test", 0)
    devices, divide = config["trainer"]["devices"], config["trainer"]["divide"]
    n_nodes = config["M"] * (1 if divide == "nodes" else devices)
    replicas = config["replicas"]
    copies = (3.0, 6.0) if replicas == 1 else (5.0, 14.0)  # of examples and nodes; of replicas also those on their way
    needed = 8.0 * config["d"] * (copies[0] * n_examples * devices + copies[1] * n_nodes) * replicas
    available = float(psutil.virtual_memory().available)
    if needed > available:
        raise InvalidSettingError(
            f"N={config['N']}, d={config['d']}, M",
            config["M"],
            f"needs about {needed / 2**30:.3g} GiB of memory, and {available / 2**30:.3g} GiB are free",
        )


def validate_directory(key: str, path: str | os.PathLike[str]) -> None:
    """Checks that a directory for results is new.

    Raises:
        InvalidSettingError: If it exists and is not empty, or is not a directory.
    """
    directory = Path(path)
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise InvalidSettingError(key, path, "exists already and is not written over; name a new directory")


def _n_train(config: Mapping[str, Any]) -> int:
    return config["data"].get("n_train", config["N"])


def _lookup(config: Mapping[str, Any], key: str) -> tuple[bool, Any]:
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value
