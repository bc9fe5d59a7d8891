"""``mfnet train``: one run, in a directory of its own."""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from mfnet.cli.build import network_of, observation_times, trust_of, with_seed
from mfnet.cli.checks import n_processes, rank
from mfnet.cli.compose import CONFIG_MODULE, complete, compose, resolve
from mfnet.record.directory import RunDirectory, RunInUseError, RunState
from mfnet.setup.validation import InvalidSettingError, SettingError, validate

if TYPE_CHECKING:
    from mfnet.training.checkpoint import Checkpoint

#: Exit status of what was ended by Ctrl-C or SIGTERM, as the shell's.
INTERRUPTED = 130


def train(config: DictConfig) -> None:
    """One run of the command, or one of a sweep, in the directory that Hydra has made."""
    directory = RunDirectory(HydraConfig.get().runtime.output_dir)
    in_sweep = HydraConfig.get().mode is RunMode.MULTIRUN
    if rank() > 0:
        _train(config, directory, _given_checkpoint(config))
        return
    try:
        with directory.lock():
            if in_sweep:
                _train_in_sweep(config, directory)
            elif not _train(config, directory, _given_checkpoint(config)):
                raise SystemExit(1)
    except (RunInUseError, SettingError) as error:
        print(f"mfnet: error: {error}", file=sys.stderr, flush=True)
        if not in_sweep:
            raise SystemExit(2) from None


def _given_checkpoint(config: DictConfig) -> Checkpoint | None:
    from mfnet.training.checkpoint import read_checkpoint

    return read_checkpoint(Path(config.ckpt)) if config.ckpt is not None else None


def _train_in_sweep(config: DictConfig, directory: RunDirectory) -> None:
    """Trains unless it is done, from where it was cut off; a failure is told and kept, and does not end the sweep."""
    from mfnet.training.checkpoint import read_checkpoint

    if directory.state() is RunState.COMPLETE:  # by another process since the sweep was started
        return
    try:
        checkpoint = read_checkpoint(directory.checkpoint) if directory.checkpoint.exists() else None
        if checkpoint is not None and not checkpoint.may_go_on:  # it was killed while it wrote its last files
            checkpoint = None
        directory.failure.unlink(missing_ok=True)
        _train(config, directory, checkpoint)
    except Exception as error:
        directory.write_failure(traceback.format_exc())
        print(f"mfnet: FAILED {shown(directory.path)}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


def _train(config: DictConfig, directory: RunDirectory, checkpoint: Checkpoint | None) -> bool:
    """Trains, prints how it went, and returns whether it has not diverged."""
    import torch

    import __main__
    from mfnet.compute.processes import ALONE, Processes
    from mfnet.data import ReplicatedData
    from mfnet.network import Replicas
    from mfnet.network.losses import loss_of
    from mfnet.training import MeanFieldModule, ReplicaLog, TrainerOptions, run
    from mfnet.training.summary import brief, report

    config = complete(config)
    plain = resolve(config)
    unit, schedule = observation_times(config)
    if checkpoint is not None:
        schedule = checkpoint.extend(schedule)
    elif rank() == 0:
        shutil.rmtree(directory.tensorboard, ignore_errors=True)  # of a run that had no checkpoint yet

    options = dict(plain["trainer"])
    divide = options.pop("divide")
    del options["devices"]
    size = n_processes(plain)
    processes = Processes(divide, rank(), size) if size > 1 else ALONE
    precision = options.pop("precision")
    if precision == "auto":  # F is a small difference of outputs when alpha is large
        precision = "float64" if config.alpha >= 100.0 else "float32"
    of_network = {
        "dtype": torch.float64 if precision == "float64" else torch.float32,
        "precision": "full" if precision in ("float32", "float64") else precision,
        "processes": processes,
    }
    if "dt" in config.flow:
        dt = config.flow.dt if config.flow.dt is not None else unit / 100.0
        flow, steps = instantiate(config.flow, dt=dt), f"steps of {dt:g}"
    else:
        flow, steps = instantiate(config.flow), "steps"
    rules, loss = instantiate(config.stop), loss_of(config.loss.name, config.h)
    callbacks = list(instantiate(config.callbacks).values())
    if config.replicas > 1:
        seeds = range(config.seed, config.seed + config.replicas)
        each = [with_seed(config, seed) for seed in seeds]
        networks = [network_of(replica, **of_network) for replica in each]
        module = MeanFieldModule(Replicas(networks), loss, config.alpha, flow, rules, seeds)
        data = ReplicatedData([instantiate(replica.data, schedule=schedule) for replica in each])
        callbacks.append(ReplicaLog())
    else:
        module = MeanFieldModule(network_of(config, **of_network), loss, config.alpha, flow, rules)
        data = instantiate(config.data, schedule=schedule)

    if processes.rank == 0:
        among = f", {divide} divided among {size} processes" if size > 1 else ""
        among += f", {config.replicas} replicas" if config.replicas > 1 else ""
        since = f"from t = {checkpoint.times[-1]:g} " if checkpoint is not None else ""
        print(
            f"M={config.M} N={config.N} d={config.d} alpha={config.alpha:g} h={config.h:g} seed={config.seed}: "
            f"{flow.func.__name__} {steps} {since}to t = {schedule[-1]:g}, {precision}{among}\n"
            f"{shown(directory.path)}",
            flush=True,
        )
    overrides = list(HydraConfig.get().overrides.task)
    if size > 1:
        sys.argv[:1] = [str(__main__.__file__), "train"]  # Lightning starts the other processes by this command line
    trusted = trust_of(config, schedule)
    try:
        run(module, data, callbacks, directory, plain, overrides, TrainerOptions(**options), checkpoint, trusted)
    except SystemExit:  # Lightning's answer to Ctrl-C
        if processes.rank == 0:
            print(_how_to_go_on(directory), file=sys.stderr, flush=True)
        raise SystemExit(INTERRUPTED) from None
    if processes.rank == 0:
        in_sweep = HydraConfig.get().mode is RunMode.MULTIRUN
        where = shown(directory.path)
        print(f"{where}\n  {brief(directory)}" if in_sweep else report(directory, where), flush=True)
    return module.stop_reason != "diverged"


def _how_to_go_on(directory: RunDirectory) -> str:
    if not directory.checkpoint.exists():
        return f"\nmfnet: interrupted before the first checkpoint of {shown(directory.path)}"
    if HydraConfig.get().mode is RunMode.MULTIRUN:
        return f"\nmfnet: interrupted in {shown(directory.path)}"
    return f"\nmfnet: interrupted; go on with: mfnet train ckpt={shown(directory.checkpoint)}"


def with_checkpoint(overrides: Sequence[str], *, multirun: bool) -> list[str]:
    """With ``ckpt=PATH``, the overrides that its run was started with, changed by those given now, in its directory.

    Raises:
        SettingError: If the checkpoint is missing, is not one of mfnet's, or its run has ended.
    """
    given = {override.split("=", 1)[0]: override for override in overrides}
    path = given.get("ckpt", "ckpt=null").split("=", 1)[1]
    if path == "null":
        return list(overrides)
    if multirun:
        raise InvalidSettingError("ckpt", path, "a sweep goes on by itself where it was left; leave out ckpt")
    from mfnet.training.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(Path(path))
    kept = [override for override in checkpoint.overrides if override.split("=", 1)[0] not in given]
    merged = [*kept, *overrides]
    if "hydra.run.dir" not in given:
        merged.append(f"hydra.run.dir={checkpoint.run_directory}")
    with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        config = complete(compose(merged))
    validate(resolve(config))
    checkpoint.check_continues(resolve(config), observation_times(config)[1])
    return merged


def shown(path: Path) -> str:
    """``path`` as a person here would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
