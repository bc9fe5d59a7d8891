"""Every setting once: its name, what it may be, and whether it changes results. Its default stands in ``conf/``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mfnet.theory.initial import INITS


class Effect(Enum):
    """What a setting changes."""

    #: What is computed.
    RESULT = "result"
    #: What is seen of it and until when, but nothing of what is computed at a given time.
    RECORD = "record"
    #: Neither: where, how fast and how it is shown.
    NONE = "none"


@dataclass(frozen=True)
class Setting:
    """One setting, or a whole group whose settings are the arguments of a class.

    Attributes:
        key: Its dotted name, as typed.
        allows: Whether it may have a value; of a group, whose class checks its arguments, True.
        allowed: What is allowed, as a sentence without its subject.
        effect: What it changes.
    """

    key: str
    allows: Callable[[Any], bool] = lambda _: True
    allowed: str = ""
    effect: Effect = Effect.RESULT


Rule = tuple[Callable[[Any], bool], str]


#: Numbers are 0, or of a size from 1e-30 to 1e30: networks are float32, and theories square what they are given.
SMALLEST, LARGEST = 1e-30, 1e30

#: Whole numbers are below 2⁶³, as torch has them.
LARGEST_WHOLE = 2**63 - 1


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, written as one."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_WHOLE


def is_number(value: object) -> bool:
    """Whether a value is a finite number of a size with which one can compute."""
    if isinstance(value, float):
        return value == 0.0 or SMALLEST <= abs(value) <= LARGEST
    return is_whole(value)


def _integer(lowest: int) -> Callable[[Any], bool]:
    return lambda value: is_whole(value) and value >= lowest


def _number(allows: Callable[[float], bool]) -> Callable[[Any], bool]:
    return lambda value: is_number(value) and allows(value)


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


def _name(value: object) -> bool:
    """Whether a value is text, or what Hydra makes of text."""
    return value is None or isinstance(value, str | int | float)


def _classes(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(_name, value))


def _separator(value: object) -> bool:
    return isinstance(value, str) and (value == r"\t" or (value != "" and len(value.strip(" ")) < 2))


def _encoding(value: object) -> bool:
    try:
        return isinstance(value, str) and isinstance("".encode(value), bytes)
    except (LookupError, ValueError):
        return False


def _one_of(*names: str) -> Rule:
    return lambda value: isinstance(value, str) and value in names, f"must be one of {', '.join(names)}"


POSITIVE: Rule = (_number(lambda value: value > 0.0), "must be a finite number above 0, from 1e-30 to 1e30")
POSITIVE_OR_NULL: Rule = (_optional(POSITIVE[0]), f"{POSITIVE[1]}, or null for the automatic value")
COUNT: Rule = (_integer(1), "must be a whole number of at least 1, below 2^63, written without point or exponent")
SIZE: Rule = (_optional(COUNT[0]), f"{COUNT[1]}, or null with real data for all that there are")
DIMENSION: Rule = (_optional(_integer(2)), "must be a whole number of at least 2, or null with real data")
SEED: Rule = (_integer(0), "must be a whole number of at least 0, below 2^63")
NOT_NEGATIVE: Rule = (_number(lambda value: value >= 0.0), "must be a finite number of at least 0, up to 1e30")
INSIDE: Rule = (_number(lambda value: 0.0 < value < 1.0), "must be above 0 and below 1")
BELOW_1: Rule = (_number(lambda value: value < 1.0), "must be a finite number below 1")
BOOLEAN: Rule = (_boolean, "must be true or false")
CLASSES: Rule = (_optional(_classes), "must be a list of classes, such as [7] or [a,b], or null")
NAMED: Rule = (_text, "must be a name, or the dotted name of one of your own, as in my_module.name")

_END: Rule = (_optional(POSITIVE[0]), f"{POSITIVE[1]}, or null for no such end")

SETTINGS: tuple[Setting, ...] = (
    Setting("M", *COUNT),
    Setting("N", *SIZE),
    Setting("d", *DIMENSION),
    Setting("alpha", *POSITIVE),
    Setting("h", *POSITIVE),
    Setting("seed", *SEED),
    Setting("replicas", *COUNT),
    Setting("ckpt", _optional(_text), "must be the path of a checkpoint, or null", Effect.NONE),
    Setting("figures", _optional(_boolean), "must be true, false, or null for all but sweeps", Effect.NONE),
    Setting("batch", *BOOLEAN, effect=Effect.NONE),
    Setting("objective", _optional(_text), "must be a number of summary.json, such as test_error", Effect.NONE),
    Setting("mean_field"),
    Setting("mean_field.dt", *POSITIVE_OR_NULL),
    Setting("mean_field.scheme", *_one_of("euler", "rotation")),
    Setting("hydrodynamic", effect=Effect.RECORD),
    Setting(
        "hydrodynamic.rtol", _number(lambda value: 1e-12 <= value <= 0.1), "must be from 1e-12 to 0.1", Effect.RECORD
    ),
    Setting(
        "hydrodynamic.points",
        _optional(_integer(2)),
        "must be a whole number of at least 2, or null for the automatic value",
        Effect.RECORD,
    ),
    Setting("network.activation", *NAMED),
    Setting("network.init", *_one_of(*INITS)),
    Setting("network.a_std", *POSITIVE),
    Setting("network.w_std", *POSITIVE),
    Setting("loss.name", *NAMED),
    Setting("data"),
    Setting("data.n_train", *SIZE),
    Setting("data.n_test", *COUNT),
    Setting("data.d", *DIMENSION),
    Setting("data.seed", *SEED),
    Setting("data.inputs", *_one_of("normal", "sphere", "radial", "elongated", "mixture", "latent")),
    Setting(
        "data.radius",
        _optional(lambda value: isinstance(value, Mapping)),
        "must be a law of scipy.stats, its name and parameters, or null",
    ),
    Setting("data.rule", *NAMED),
    Setting(
        "data.k",
        _optional(lambda value: is_whole(value) and value in (1, 2, 3)),
        "must be 1, 2 or 3, or null for that of the rule",
    ),
    Setting("data.at", _optional(_number(lambda _: True)), "must be a finite number, or null for that of the rule"),
    Setting(
        "data.separation",
        _optional(NOT_NEGATIVE[0]),
        f"{NOT_NEGATIVE[1]}, or null for that of the rule",
    ),
    Setting("data.source", lambda value: value is not None, "must name a source by its _target_"),
    Setting("data.source.folder", _text, "must be the path of a folder of IDX files"),
    Setting("data.source.file", _text, "must be the path of a file, or of a folder with data=npz"),
    Setting(
        "data.source.label",
        lambda value: value is not None and _name(value),
        "must be the name of the column with the classes",
    ),
    Setting(
        "data.source.exclude",
        lambda value: isinstance(value, list) and all(map(_name, value)),
        "must be a list of names of columns, such as [id]",
    ),
    Setting(
        "data.source.separator",
        _optional(_separator),
        "must be one character, as in 'data.source.separator=\";\"', or \\t for a tab, or null to find it",
    ),
    Setting("data.source.decimal", lambda value: value in (".", ","), "must be . or '\",\"'"),
    Setting("data.source.encoding", _encoding, "must be an encoding of text that Python knows, such as latin-1"),
    Setting("data.source.missing", *_one_of("refuse", "drop")),
    Setting("data.source.prefix", _optional(_text), "must be what the names of files start with, or null"),
    Setting("data.positive", *CLASSES),
    Setting("data.negative", *CLASSES),
    Setting("data.test_share", *INSIDE),
    Setting("data.memory", *POSITIVE, effect=Effect.NONE),
    Setting("data.preparation.centre", *BOOLEAN),
    Setting("data.preparation.scale", *_one_of("global", "unit", "none")),
    Setting("data.preparation.components", _optional(_integer(2)), "must be a whole number of at least 2, or null"),
    Setting("data.preparation.whiten", *BOOLEAN),
    Setting("data.preparation.sphere", *BOOLEAN),
    Setting("data.stretch", *POSITIVE),
    Setting("data.flip", _number(lambda value: 0.0 <= value < 0.5), "must be at least 0 and below 1/2"),
    Setting("data.direction", *_one_of("random", "axis")),
    Setting("flow"),
    Setting("flow.dt", *POSITIVE_OR_NULL),
    Setting("flow.batch_size", _optional(COUNT[0]), "must be a whole number of at least 1, or null for all examples"),
    Setting("flow.seed", *SEED),
    Setting("flow.optimizer.lr", *POSITIVE_OR_NULL),
    Setting("flow.rtol", _number(lambda value: 0.0 < value <= 0.1), "must be above 0 and at most 0.1"),
    Setting("flow.atol", *NOT_NEGATIVE),
    Setting("flow.safety", *INSIDE),
    Setting("flow.shrink", *INSIDE),
    Setting("flow.grow", _number(lambda value: value > 1.0), "must be a finite number above 1"),
    Setting("flow.dt_first", *POSITIVE_OR_NULL),
    Setting("flow.dt_min", *POSITIVE_OR_NULL),
    Setting("flow.dt_max", *POSITIVE_OR_NULL),
    Setting("flow.resolution", *POSITIVE),
    Setting("flow.memory", _number(lambda value: 0.0 <= value <= 1.0), "must be at least 0 and at most 1"),
    Setting("theory", effect=Effect.RECORD),
    Setting("overlay", effect=Effect.RECORD),
    Setting("stop", effect=Effect.RECORD),
    Setting(
        "stop.satisfied", _number(lambda value: 0.0 < value <= 1.0), "must be above 0 and at most 1", Effect.RECORD
    ),
    Setting(
        "stop.test_error_rise",
        _optional(_number(lambda value: value > 1.0)),
        "must be a finite number above 1, or null for no such end",
        Effect.RECORD,
    ),
    Setting("stop.wall_seconds", *_END, effect=Effect.NONE),
    Setting("stop.stationary", *_END, effect=Effect.RECORD),
    Setting("schedule", effect=Effect.RECORD),
    Setting("schedule.t_min", *POSITIVE_OR_NULL, effect=Effect.RECORD),
    Setting("schedule.t_max", *POSITIVE_OR_NULL, effect=Effect.RECORD),
    Setting("schedule.per_decade", *COUNT, effect=Effect.RECORD),
    Setting(
        "schedule.times",
        _times,
        "must be a list of finite numbers of at least 0, not all 0, such as [1,10,100]",
        Effect.RECORD,
    ),
    Setting("callbacks", effect=Effect.RECORD),
    Setting("callbacks.node_log.n", *COUNT, effect=Effect.RECORD),
    Setting("callbacks.example_log.n", *COUNT, effect=Effect.RECORD),
    Setting("callbacks.latent_log.n", *COUNT, effect=Effect.RECORD),
    Setting("callbacks.kernel_log.n", *COUNT, effect=Effect.RECORD),
    Setting("callbacks.node_agreement.n", *COUNT, effect=Effect.RECORD),
    Setting("callbacks.node_agreement.principal", *COUNT, effect=Effect.RECORD),
    Setting("callbacks.node_agreement.r2", *BELOW_1, effect=Effect.RECORD),
    Setting("callbacks.node_agreement.moved", *BELOW_1, effect=Effect.RECORD),
    Setting("callbacks.node_agreement.unsatisfied", *POSITIVE, effect=Effect.RECORD),
    Setting("callbacks.baselines.n_chosen", *COUNT, effect=Effect.RECORD),
    Setting("callbacks.baselines.n_kernel", *COUNT, effect=Effect.RECORD),
    Setting("callbacks.baselines.seed", *SEED, effect=Effect.RECORD),
    Setting("logger", effect=Effect.NONE),
    Setting("logger.tensorboard.histograms_every", *COUNT, effect=Effect.NONE),
    Setting("trainer", effect=Effect.NONE),
    Setting("trainer.accelerator", *_one_of("auto", "cpu", "gpu"), effect=Effect.NONE),
    Setting("trainer.devices", *COUNT, effect=Effect.NONE),
    Setting("trainer.nodes", *COUNT, effect=Effect.NONE),
    Setting("trainer.divide", *_one_of("rows", "nodes"), effect=Effect.NONE),
    Setting("trainer.precision", *_one_of("auto", "float32", "float64", "tf32", "bf16")),
    Setting("trainer.fast_dev_run", effect=Effect.RECORD),
    Setting("trainer.callbacks", effect=Effect.RECORD),
    Setting(
        "trainer.progress", _optional(_boolean), "must be true, false, or null to show it on a terminal", Effect.NONE
    ),
)

BY_KEY = {setting.key: setting for setting in SETTINGS}

#: Parts of a config whose settings all stand above; those of the others are the arguments of classes.
CLOSED = {
    group: {key.rpartition(".")[2] for key in BY_KEY if key.rpartition(".")[0] == group}
    for group in ("network", "loss")
}

#: Settings of the command alone, which are not those of a run.
OF_THE_COMMAND = ("ckpt", "objective", "batch")

#: Groups of prepared settings, of which nothing but these is left in a run.
PREPARED = ("paper", "experiment")

#: Options of Lightning's trainer that change what is recorded; it has others.
LIGHTNINGS = ("trainer.fast_dev_run", "trainer.callbacks")

#: Names at the top level of a config.
SYMBOLS_AND_GROUPS = {key.partition(".")[0] for key in BY_KEY} | set(PREPARED)


def effect(key: str) -> Effect:
    """What a setting changes: as it says itself, or the group that it is in.

    >>> effect("trainer.devices"), effect("flow.optimizer.momentum")
    (<Effect.NONE: 'none'>, <Effect.RESULT: 'result'>)
    """
    while key not in BY_KEY and "." in key:
        key = key.rpartition(".")[0]
    return BY_KEY[key].effect if key in BY_KEY else Effect.RESULT


def kept(config: Mapping[str, Any], *effects: Effect) -> dict[str, Any]:
    """The settings of a config that have one of these effects, nested as they were; empty groups are left out."""
    return _kept(config, "", effects)


def _kept(entries: Mapping[str, Any], prefix: str, effects: tuple[Effect, ...]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in entries.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            if inner := _kept(value, f"{key}.", effects):
                result[name] = inner
        elif effect(key) in effects:
            result[name] = value
    return result
