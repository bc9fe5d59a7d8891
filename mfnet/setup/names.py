"""Names of settings that are near those that are meant."""

from __future__ import annotations

import difflib
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from mfnet.setup.settings import BY_KEY

#: What a setting is called here, by names that it has elsewhere.
KNOWN_AS = {
    "activation": "network.activation",
    "batch_size": "flow.batch_size (with flow=sgd)",
    "batch": "flow.batch_size (with flow=sgd)",
    "dataset": "data",
    "dim": "d",
    "dt": "flow.dt (with flow=euler, rotation or sgd)",
    "epochs": "schedule.t_max, the time t until which a run is followed",
    "early_stopping": "stop",
    "eta": "flow.dt: a learning rate η is a step of Δt = η/M",
    "gpus": "trainer.devices",
    "hidden": "M",
    "hidden_dim": "M",
    "hidden_size": "M",
    "input_dim": "d",
    "learning_rate": "flow.dt: a learning rate η is a step of Δt = η/M",
    "lr": "flow.dt: a learning rate η is a step of Δt = η/M",
    "m": "M",
    "max_steps": "schedule.t_max, the time t until which a run is followed",
    "max_epochs": "schedule.t_max, the time t until which a run is followed",
    "momentum": "flow.optimizer.momentum (with flow=sgd)",
    "n": "N",
    "n_train": "N",
    "nodes": "M; machines are trainer.nodes",
    "noise": "data.flip",
    "optimizer": "flow (flow=sgd and flow=adam have an optimizer of torch's)",
    "scheduler": "schedule",
    "steps": "schedule.t_max, the time t until which a run is followed",
    "t_max": "schedule.t_max",
    "tensorboard": "logger",
    "trainer.tensorboard": "logger: logger=[] for none",
    "width": "M",
}

#: Options of Lightning's trainer that contradict a flow, or are set by ours; each with what does it here.
REFUSED = {
    "accumulate_grad_batches": "a flow takes its own steps; flow.batch_size says how many examples a step sees",
    "barebones": "a run is observed; use logger=[] and trainer.progress=false",
    "benchmark": "a run has no convolutions",
    "check_val_every_n_epoch": "there is no validation set; schedule says when a run is observed",
    "default_root_dir": "files are in the run's directory; use hydra.run.dir, or directory in Python",
    "detect_anomaly": "flows do without autograd, and flow=sgd stops at a loss that is not finite",
    "enable_checkpointing": "every observation is saved, so that a run can go on",
    "enable_model_summary": "a network is M nodes of d + 1 parameters",
    "enable_progress_bar": "use trainer.progress",
    "gradient_clip_algorithm": "a clipped gradient is not that of the flow; flow.rtol bounds the error of a step",
    "gradient_clip_val": "a clipped gradient is not that of the flow; flow.rtol bounds the error of a step",
    "inference_mode": "a run only trains",
    "limit_predict_batches": "a run only trains",
    "limit_test_batches": "a run only trains; data.n_test says how many examples test it",
    "limit_train_batches": "a batch is an interval between observations; use schedule.t_max",
    "limit_val_batches": "there is no validation set",
    "log_every_n_steps": "schedule says when a run is observed, and every observation is logged",
    "logger": "use logger=tensorboard, csv, wandb or mlflow",
    "max_epochs": "a run is one epoch, whose batches are the intervals of the schedule; use schedule.t_max",
    "max_steps": "steps are of the schedule; use schedule.t_max",
    "min_epochs": "a run is one epoch; use schedule.t_max",
    "min_steps": "steps are of the schedule; use schedule.t_max",
    "num_nodes": "use trainer.nodes",
    "num_sanity_val_steps": "there is no validation set",
    "overfit_batches": "every step of a flow sees the whole training set; use N",
    "plugins": "use trainer.precision, trainer.devices and trainer.divide",
    "reload_dataloaders_every_n_epochs": "a run is one epoch",
    "strategy": "use trainer.devices and trainer.divide",
    "sync_batchnorm": "a network has no batch normalisation",
    "tensorboard": "use logger=[] for none",
    "use_distributed_sampler": "use trainer.divide",
    "val_check_interval": "there is no validation set",
}

#: Options of Lightning's trainer that are passed on, among others.
PASSED = ("callbacks", "deterministic", "fast_dev_run", "max_time", "profiler")

#: Groups that follow from others.
_DERIVED = ("mean_field.", "hydrodynamic.", "data.N", "data.d", "data.seed", "flow.seed")


def suggestion(key: str, name: str = "train") -> str:
    """The known settings that are probably meant by ``key``, inside `mfnet.setup.compose.Source.opened`."""
    group, _, leaf = key.rpartition(".")
    if key in KNOWN_AS:
        return f"; it is called {KNOWN_AS[key]}"
    if group in ("", "trainer") and leaf in REFUSED:
        return f"; {REFUSED[leaf]}"
    if group == "trainer" and leaf in PASSED:
        return f"; it is an option of Lightning's: +{key}=…"
    if choices := _choices_with(key):
        return f"; it goes with {' or '.join(f'{group}={choice}' for choice in choices[:3])}"
    known = keys(OmegaConf.to_container(hydra.compose(name)))
    known = [k for k in dict.fromkeys([*known, *BY_KEY]) if not k.startswith(_DERIVED) and "._" not in k]
    known = [k for k in known if not group or not any(other.startswith(f"{k}.") for other in known)]  # no group alone
    similar = [k for k in known if _spelt(k) == _spelt(key)] or [k for k in known if _leaf(k) == _leaf(key)]
    if not similar and leaf in KNOWN_AS:
        return f"; it is called {KNOWN_AS[leaf]}"
    inside = [k for k in known if group and k.startswith(f"{group}.")]
    similar = similar or _ending_like(leaf, inside) or difflib.get_close_matches(key, known, n=2)
    similar = similar or _ending_like(leaf, known)
    return f"; did you mean {' or '.join(similar[:3])}?" if similar else "; mfnet train --help lists them"


def _ending_like(leaf: str, known: list[str]) -> list[str]:
    """The settings whose last part is spelt like this."""
    near = difflib.get_close_matches(leaf, [_end(key) for key in known], n=2)
    return [key for key in known if _end(key) in near]


def _end(key: str) -> str:
    return key.rpartition(".")[2]


def _spelt(key: str) -> str:
    """A name without what is often spelt otherwise."""
    return key.lower().replace("_", "").replace("-", "")


def _leaf(key: str) -> str:
    return _spelt(_end(key))


def _choices_with(key: str) -> list[str]:
    """The choices of a group that have a setting, where the one that is taken has it not."""
    hydra_itself = GlobalHydra.instance().hydra
    assert hydra_itself is not None
    group, _, inner = key.partition(".")
    found = []
    for choice in options(group) if inner else []:
        loaded = hydra_itself.config_loader.repository.load_config(f"{group}/{choice}")  # type: ignore[attr-defined]  # Hydra has it
        known = keys(OmegaConf.to_container(loaded.config))
        if inner in known or key in known:  # of a choice that sets other groups too, the keys are whole
            found.append(choice)
    return found


def options(group: str) -> list[str]:
    """The choices of a group."""
    choices: list[str] = GlobalHydra.instance().config_loader().get_group_options(group)
    return choices


def keys(config: Any, prefix: str = "") -> list[str]:
    """The dotted names of all settings of a config."""
    if not isinstance(config, dict) or not config:
        return [prefix[:-1]]
    return [key for name, inner in config.items() for key in keys(inner, f"{prefix}{name}.")]
