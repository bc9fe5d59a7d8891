"""The command ``mfnet``: the only place that knows Hydra.

Everything is composed and checked before Hydra starts a job, so that a mistake costs one line and
no directory. What is slow to import (torch, Lightning) is imported inside the functions that need it.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
import os
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import mfnet
from mfnet.run_directory import RunDirectory, curve_columns
from mfnet.schedule import round_to_digit
from mfnet.series import GAMMA, SERIES
from mfnet.theory import Draw, MeanField, Trust, trust
from mfnet.validation import InvalidSettingError, SettingError, validate, validate_directory, validate_memory

if TYPE_CHECKING:
    from mfnet.checkpoint import Checkpoint
    from mfnet.network import MeanFieldNetwork

CONFIG_MODULE, CONFIG_NAME = "mfnet.conf", "train"

_NODES_TOGETHER = "needs all nodes in one process; use trainer.divide=rows, or leave it out"

#: What Hydra is told in every process of a run but the first.
WITHOUT_A_TRACE = ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=none"]

HELP = f"""\
mfnet {mfnet.__version__}: wide single-hidden-layer networks, trained beside their mean-field theory

usage: mfnet COMMAND [SETTING=VALUE ...]

commands:
  train      train a network, lay the theory over it, leave figures, tables and TensorBoard files
  predict    the theory alone, without training (under two seconds)
  validate   hold the theory's claims against simulations and write their page (--quick: a minute)

examples:
  mfnet train                                        M=400 nodes, N=10000 examples, d=100, alpha=1
  mfnet train alpha=1e-3 N=4000 seed=1               the rich regime
  mfnet train data=sphere loss=logistic flow=euler   other choices of a group
  mfnet train -m alpha=1e-3,1,1e3 M=100,400          a sweep: six runs
  mfnet train experiment=lazy                        a prepared experiment
  mfnet train ckpt=RUN/checkpoints/last.ckpt         go on with a run that was cut off
  mfnet train overlay=[kernel_closure,laziness]      more theories over the same run
  mfnet predict schedule=listed 'schedule.times=[1,10,100]'
  mfnet validate --list; mfnet validate clock noise  the claims; two of them

mfnet COMMAND --help lists all settings."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0, 1 if a run failed, 2 for a mistake in the settings."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if command == "--version":
        print(mfnet.__version__)
        return 0
    if command == "validate":
        return _validate(arguments[1:])
    if command not in COMMANDS:
        known = ", ".join([*COMMANDS, "validate"])
        return _fail(f"{command!r} is not a command; there are {known} (mfnet --help)")
    options = [a for a in arguments[1:] if a.startswith("-") and a != "--"]
    overrides = [a for a in arguments[1:] if not a.startswith("-")]
    multirun = bool({"-m", "--multirun"} & set(options))
    if set(options) <= {"-m", "--multirun"}:  # the others (--help, --cfg job, …) start no job
        try:
            if command == "train":
                overrides = _with_checkpoint(overrides, multirun=multirun)
            overrides += _check(command, overrides, multirun=multirun)
        except SettingError as error:
            return _fail(str(error)) if _rank() == 0 else 2
    if command == "train" and _rank() > 0:
        overrides += WITHOUT_A_TRACE
    sys.argv = [f"mfnet {command}", *options, *overrides]
    hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name=CONFIG_NAME, version_base="1.3")(COMMANDS[command])()
    return 0


def _fail(message: str) -> int:
    print(f"mfnet: error: {message}", file=sys.stderr)
    return 2


# ---------------------------------------------------------------- checks before any work


def _check(command: str, overrides: list[str], *, multirun: bool) -> list[str]:
    """Composes and validates every job that Hydra is about to run.

    Returns:
        What a single run must be told besides: N and d where they are those of its data.

    Raises:
        SettingError: For the first setting that is wrong.
    """
    with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        jobs = _expand(overrides) if multirun else iter([overrides])
        for number, job in enumerate(jobs):
            composed = _complete(_compose(job))
            config = _resolve(composed)
            validate(config)
            _check_targets(config, ("mean_field", "schedule", "theory") if command == "predict" else tuple(config))
            _check_theories(config, command)
            if command == "train":
                _check_devices(config, multirun=multirun)
            if _rank() > 0:
                continue
            if command == "train":
                validate_memory(config)
            if number == 0 and config["ckpt"] is None:
                key = "hydra.sweep.dir" if multirun else "hydra.run.dir"
                validate_directory(key, OmegaConf.select(composed, key))
    return [] if multirun or "d" in config["data"] else [f"N={config['N']}", f"d={config['d']}"]


def _expand(overrides: list[str]) -> Iterator[list[str]]:
    """The overrides of each job of a sweep."""
    choices = []
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_sweep_override():
            key = override.get_key_element()
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            choices.append([str(override.input_line)])
    return (list(job) for job in itertools.product(*choices))


def _compose(overrides: list[str]) -> DictConfig:
    try:
        return hydra.compose(CONFIG_NAME, overrides, return_hydra_config=True)
    except MissingConfigException as error:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        raise InvalidSettingError(group, choice, f"must be one of {', '.join(error.options or [])}") from None
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ or error
        key = getattr(cause, "full_key", None)
        if key and "is not in struct" in str(cause):
            asked = next((o for o in overrides if o.startswith(key)), key)
            raise SettingError(f"{asked}: there is no setting of this name{_suggestion(key)}") from None
        raise SettingError(" ".join(str(error).split())) from None


def _complete(config: DictConfig) -> DictConfig:
    """``config`` with the N and d of a data set that has its own, which is read for that.

    Raises:
        SettingError: If it cannot be read, or other numbers are asked for.
    """
    if "d" in config.data:
        return config
    plain = _resolve(config)
    validate(plain)
    _check_targets(plain, ("data",))
    try:
        x = instantiate(config.data, schedule=np.zeros(1)).draw().train.x
    except InstantiationException as error:
        raise InvalidSettingError("data", config.data._target_, str(error.__cause__ or error)) from None
    for key, size in zip(("N", "d"), x.shape, strict=True):
        if config[key] not in (None, size):
            raise InvalidSettingError(key, config[key], f"these data have {key}={size} as prepared; leave it out")
        config[key] = size
    return config


def _suggestion(key: str) -> str:
    """The known settings that look most like ``key``."""
    known = _keys(OmegaConf.to_container(hydra.compose(CONFIG_NAME)))
    similar = difflib.get_close_matches(key, known, n=2) or [k for k in known if k.endswith(f".{key}")]
    return f"; did you mean {' or '.join(similar)}?" if similar else "; mfnet train --help lists them"


def _keys(config: Any, prefix: str = "") -> list[str]:
    if not isinstance(config, dict):
        return [prefix[:-1]]
    return [key for name, inner in config.items() for key in _keys(inner, f"{prefix}{name}.")]


def _resolve(composed: DictConfig) -> dict[str, Any]:
    """The config without Hydra's own part, in plain containers with every interpolation resolved."""
    task = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    try:
        config = OmegaConf.to_container(task, resolve=True)
    except OmegaConfBaseException as error:
        raise SettingError(" ".join(str(error).split())) from None
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def _check_targets(config: Any, groups: Iterable[str], prefix: str = "") -> None:
    """Checks that what is named by ``_target_`` exists, and takes the settings that are given to it."""
    for name in groups:
        group, key = config[name], f"{prefix}{name}"
        if not isinstance(group, dict):
            continue
        if key in ("mean_field", "data", "flow", "theory", "schedule", "stop") and "_target_" not in group:
            raise InvalidSettingError(key, group, "needs a _target_, the class that it configures")
        if (target := group.get("_target_")) is not None:
            try:
                resolved = pkgutil.resolve_name(target)
                parameters = inspect.signature(resolved).parameters
            except (ImportError, ValueError, TypeError, AttributeError) as error:
                raise InvalidSettingError(f"{key}._target_", target, str(error)) from None
            passed_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
            keywords = getattr(resolved, "KEYWORDS", None)  # those that are passed on, where a class says so
            if keywords or not passed_on:
                for setting in group:
                    if not setting.startswith("_") and setting not in {*parameters, *(keywords or ())}:
                        raise InvalidSettingError(
                            f"{key}.{setting}", group[setting], f"{group['_target_']} does not take it"
                        )
        _check_targets(group, group, f"{key}.")


def _check_theories(config: Mapping[str, Any], command: str) -> None:
    """Checks that every theory that is laid over the run can be made of its settings, and its nodes are together."""
    divided = command == "train" and config["trainer"]["devices"] > 1 and config["trainer"]["divide"] == "nodes"
    found = {"theory": config["theory"]}
    if command == "train":
        callbacks = {name: entry for name, entry in config["callbacks"].items() if isinstance(entry, dict)}
        found |= {f"callbacks.{name}.theory": entry["theory"] for name, entry in callbacks.items() if "theory" in entry}
        for name, entry in callbacks.items():
            kind = str(entry.get("_target_")).rpartition(".")[2]
            if divided and kind in ("KernelLog", "NodeAgreement"):
                raise InvalidSettingError(f"callbacks.{name}", kind, _NODES_TOGETHER)
    for key, group in found.items():
        try:
            theory = instantiate(group)
        except InstantiationException as error:
            cause = error.__cause__ or error
            raise InvalidSettingError(f"{key}._target_", group["_target_"], str(cause)) from None
        if divided and getattr(theory, "needs_draw", False):
            raise InvalidSettingError(f"{key}._target_", group["_target_"], _NODES_TOGETHER)


def _check_devices(config: Mapping[str, Any], *, multirun: bool) -> None:
    """Checks that the devices asked for are there, and that as many processes can be started."""
    import torch

    accelerator, devices = config["trainer"]["accelerator"], config["trainer"]["devices"]
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if accelerator == "gpu" and n_gpus == 0:
        raise InvalidSettingError("trainer.accelerator", "gpu", "no GPU is available to torch here; use auto or cpu")
    if accelerator != "cpu" and 0 < n_gpus < devices:
        raise InvalidSettingError(
            "trainer.devices", devices, f"torch sees {n_gpus} GPU here; use no more, or trainer.accelerator=cpu"
        )
    if multirun and devices > 1:
        raise InvalidSettingError("trainer.devices", devices, "the runs of a sweep have one process each; leave out -m")
    started = int(os.environ.get("WORLD_SIZE", 1)) if torch.distributed.is_torchelastic_launched() else None
    if started not in (None, devices):
        raise InvalidSettingError("trainer.devices", devices, f"torchrun has started {started}")


# ---------------------------------------------------------------- continuing a run


def _with_checkpoint(overrides: list[str], *, multirun: bool) -> list[str]:
    """With ``ckpt=PATH``, the overrides that its run was started with, changed by those given now, in its directory.

    Raises:
        SettingError: If the checkpoint is missing, is not one of mfnet's, or its run has ended.
    """
    given = {override.split("=", 1)[0]: override for override in overrides}
    path = given.get("ckpt", "ckpt=null").split("=", 1)[1]
    if path == "null":
        return overrides
    if multirun:
        raise InvalidSettingError("ckpt", path, "one run goes on at a time; leave out -m")
    from mfnet.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(Path(path))
    kept = [override for override in checkpoint.overrides if override.split("=", 1)[0] not in given]
    merged = kept + overrides
    if "hydra.run.dir" not in given:
        merged.append(f"hydra.run.dir={checkpoint.run_directory}")
    with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        config = _complete(_compose(merged))
    validate(_resolve(config))
    checkpoint.check_continues(_resolve(config), _schedule(config)[1])
    return merged


# ---------------------------------------------------------------- commands


def _train(config: DictConfig) -> None:
    """One training run, in the directory that Hydra has made."""
    import torch

    import __main__
    from mfnet.checkpoint import read_checkpoint
    from mfnet.losses import margin_loss
    from mfnet.processes import ALONE, Processes
    from mfnet.training import MeanFieldModule, TrainerOptions, run
    from mfnet.training.summary import report

    plain = _resolve(_complete(config))
    directory = RunDirectory(HydraConfig.get().runtime.output_dir)
    unit, schedule = _schedule(config)
    checkpoint: Checkpoint | None = None
    if config.ckpt is not None:
        checkpoint = read_checkpoint(Path(config.ckpt))
        schedule = checkpoint.extend(schedule)

    options = dict(plain["trainer"])
    devices, divide = options.pop("devices"), options.pop("divide")
    processes = Processes(divide, _rank(), devices) if devices > 1 else ALONE
    precision = options.pop("precision")
    if precision == "auto":  # F is a small difference of outputs when alpha is large
        precision = "float64" if config.alpha >= 100.0 else "float32"
    network = _network(
        config,
        dtype=torch.float64 if precision == "float64" else torch.float32,
        precision="full" if precision in ("float32", "float64") else precision,
        processes=processes,
    )
    if "dt" in config.flow:
        dt = config.flow.dt if config.flow.dt is not None else unit / 100.0
        flow, steps = instantiate(config.flow, dt=dt), f"steps of {dt:g}"
    else:
        flow, steps = instantiate(config.flow), "steps"
    rules = instantiate(config.stop)
    module = MeanFieldModule(network, margin_loss(config.loss.name, config.h), config.alpha, flow, rules)
    data = instantiate(config.data, schedule=schedule)
    callbacks = list(instantiate(config.callbacks).values())

    if processes.rank == 0:
        among = f", {divide} divided among {devices} processes" if devices > 1 else ""
        print(
            f"M={config.M} N={config.N} d={config.d} alpha={config.alpha:g} h={config.h:g} seed={config.seed}: "
            f"{flow.func.__name__} {steps} to t = {schedule[-1]:g}, {precision}{among}\n"
            f"{_shown(directory.path)}",
            flush=True,
        )
    overrides = list(HydraConfig.get().overrides.task)
    if devices > 1:
        sys.argv[:1] = [str(__main__.__file__), "train"]  # Lightning starts the other processes by this command line
    trusted = _trust(config, schedule)
    run(module, data, callbacks, directory, plain, overrides, TrainerOptions(**options), checkpoint, trusted)
    if processes.rank > 0:
        return
    print(report(directory, _shown(directory.path)), flush=True)
    if module.stop_reason == "diverged" and HydraConfig.get().mode is RunMode.RUN:
        raise SystemExit(1)


def _predict(config: DictConfig) -> None:
    """The theory's history, without training."""
    directory = RunDirectory(HydraConfig.get().runtime.output_dir)
    unit, times = _schedule(_complete(config))
    curves = instantiate(config.theory).of_draw(lambda: _draw(config)).series(times)
    columns = {"k": np.arange(len(times)), "t": times}
    for name, curve in curves.items():
        columns |= curve_columns(name, curve)
    rows = [{name: values[k].item() for name, values in columns.items()} for k in range(len(times))]
    directory.write_history(rows)

    shown = [series for series in SERIES.values() if series.name in curves]
    print(f"{'t':>12}" + "".join(f"{series.name:>14}" for series in shown))
    for k in np.unique(np.linspace(0, len(times) - 1, 21).round().astype(int)):
        print(f"{times[k]:>12.5g}" + "".join(f"{curves[series.name].value[k]:>14.8g}" for series in shown))
    gamma_star = _mean_field(config).gamma_star
    if np.isfinite(gamma_star):
        print(f"{GAMMA.name} ends at {gamma_star:.8g}")
    print(f"unit of time {unit:g}")
    if trusted := _trust(config, times):
        print(f"\ntrustworthy for M={config.M} and N={config.N}:")
        print("\n".join(f"  {entry}" for entry in trusted))
    print(_shown(directory.history))


def _trust(config: DictConfig, times: np.ndarray) -> list[Trust]:
    """Until when each prediction is trustworthy, between the first and the last of the times; unknown for real data."""
    if instantiate(config.mean_field).needs_draw:
        return []
    looked = np.union1d(times, np.geomspace(times[1], times[-1], 100)[1:-1]) if len(times) > 2 else times
    return trust(instantiate(config.mean_field), config.M, config.N, looked)


def _network(config: DictConfig, **options: Any) -> MeanFieldNetwork:
    """The network with its initial nodes."""
    from mfnet.network import MeanFieldNetwork
    from mfnet.seeding import generator

    source = generator(config.seed, "network")
    scales = {"a_std": config.network.a_std, "w_std": config.network.w_std}
    return MeanFieldNetwork(config.M, config.d, config.network.activation, generator=source, **scales, **options)


def _mean_field(config: DictConfig) -> MeanField:
    """The mean-field solution, of the actual training set where the data have no law."""
    solution: MeanField = instantiate(config.mean_field).of_draw(lambda: _draw(config))
    return solution


def _draw(config: DictConfig) -> Draw:
    """What a run with these settings draws, for a theory of that run."""
    import torch

    from mfnet.training.callbacks.theory_overlay import draw_of

    return draw_of(_network(config, dtype=torch.float64), instantiate(config.data, schedule=np.zeros(1)).draw())


def _validate(arguments: Sequence[str]) -> int:
    """The page of claims; it has arguments of its own, and no config."""
    from mfnet.claims.command import main as validate_claims

    return validate_claims(arguments)


def _schedule(config: DictConfig) -> tuple[float, np.ndarray]:
    """The theory's unit of time, to one digit, and the observation times."""
    unit = round_to_digit(_mean_field(config).time_scale)
    return unit, instantiate(config.schedule, time_scale=unit)


def _shown(path: Path) -> str:
    """``path`` as a person here would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _rank() -> int:
    """Number of this process among those of a run, as Lightning or torchrun says; 0 before there are others."""
    return int(os.environ.get("LOCAL_RANK", 0))


COMMANDS = {"train": _train, "predict": _predict}
