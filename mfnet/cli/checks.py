"""Every job is composed and checked before any work starts, so that a mistake costs one line and no directory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import hydra
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from mfnet.cli.compose import CONFIG_MODULE, Job, jobs
from mfnet.cli.targets import check_targets
from mfnet.setup.validation import InvalidSettingError, SettingError, validate_directory, validate_memory

_ONE_RUN = "speaks of one run; use replicas=1, or leave it out"
_NODES_TOGETHER = "needs all nodes in one process; use trainer.divide=rows, or leave it out"


def rank() -> int:
    """Number of this process among those of a run, as torchrun or Lightning says; 0 before there are others."""
    return int(os.environ.get("RANK" if "TORCHELASTIC_RUN_ID" in os.environ else "LOCAL_RANK", 0))


def n_processes(config: Mapping[str, Any]) -> int:
    """Processes of a run, on all machines."""
    return config["trainer"]["devices"] * config["trainer"]["nodes"]


def checked_jobs(command: str, overrides: Sequence[str], *, multirun: bool) -> list[Job]:
    """The runs that Hydra is about to start, each composed and validated.

    Raises:
        SettingError: For the first setting that is wrong.
    """
    with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        checked: dict[str, Job] = {}
        for job in jobs(overrides, multirun=multirun):
            _check(command, job, multirun=multirun)
            if (twin := checked.get(str(job.directory))) is not None:
                asked = f"{' '.join(twin.overrides)} and {' '.join(job.overrides)}"
                raise SettingError(f"{asked} are one run, {job.directory}; ask for it once")
            checked[str(job.directory)] = job
        return list(checked.values())


def _check(command: str, job: Job, *, multirun: bool) -> None:
    config = job.config
    check_targets(config, ("mean_field", "schedule", "theory") if command == "predict" else tuple(config))
    _check_theories(config, command)
    if command == "train":
        _check_devices(config, multirun=multirun)
    if rank() > 0:
        return
    if command == "train":
        validate_memory(config)
    if config["ckpt"] is None:
        goes_on = multirun and command == "train"  # a sweep does where it was left
        validate_directory("hydra.sweep.dir" if multirun else "hydra.run.dir", job.root, new=not goes_on)


def _check_theories(config: Mapping[str, Any], command: str) -> None:
    """Checks that every theory that is laid over the run can be made of its settings, and its nodes are together."""
    divided = command == "train" and n_processes(config) > 1 and config["trainer"]["divide"] == "nodes"
    refused = _ONE_RUN if command == "train" and config["replicas"] > 1 else _NODES_TOGETHER if divided else None
    found = {"theory": config["theory"]}
    if command == "train":
        callbacks = {name: entry for name, entry in config["callbacks"].items() if isinstance(entry, dict)}
        found |= {f"callbacks.{name}.theory": entry["theory"] for name, entry in callbacks.items() if "theory" in entry}
        of_one = ("KernelLog", "NodeAgreement") + (("Baselines",) if config["replicas"] > 1 else ())
        for name, entry in callbacks.items():
            kind = str(entry.get("_target_")).rpartition(".")[2]
            if refused and kind in of_one:
                raise InvalidSettingError(f"callbacks.{name}", kind, refused)
    for key, group in found.items():
        try:
            theory = instantiate(group)
        except InstantiationException as error:
            cause = error.__cause__ or error
            raise InvalidSettingError(f"{key}._target_", group["_target_"], str(cause)) from None
        if refused and getattr(theory, "needs_draw", False):
            raise InvalidSettingError(f"{key}._target_", group["_target_"], refused)


def _check_devices(config: Mapping[str, Any], *, multirun: bool) -> None:
    """Checks that the devices asked for are there, and that as many processes can be started."""
    import torch

    accelerator, devices, nodes = (config["trainer"][key] for key in ("accelerator", "devices", "nodes"))
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if accelerator == "gpu" and n_gpus == 0:
        raise InvalidSettingError("trainer.accelerator", "gpu", "no GPU is available to torch here; use auto or cpu")
    if accelerator != "cpu" and 0 < n_gpus < devices:
        raise InvalidSettingError(
            "trainer.devices", devices, f"torch sees {n_gpus} GPU here; use no more, or trainer.accelerator=cpu"
        )
    if multirun and n_processes(config) > 1:
        raise InvalidSettingError("trainer.devices", devices, "the runs of a sweep have one process each; leave out -m")
    by_torchrun = torch.distributed.is_torchelastic_launched()
    if nodes > 1 and not by_torchrun:
        raise InvalidSettingError("trainer.nodes", nodes, "start it with torchrun --nnodes on each machine (README)")
    started, per_node = (int(os.environ.get(key, 1)) for key in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if by_torchrun and (devices, nodes) != (per_node, started // per_node):
        raise InvalidSettingError(
            "trainer.devices", devices, f"torchrun has started {per_node} on each of {started // per_node} nodes"
        )
