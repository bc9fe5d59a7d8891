"""Experiments as they are composed, and run directories with made-up observations, without training."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hydra.core.override_parser.overrides_parser import OverridesParser

from mfnet.record.directory import RunDirectory
from mfnet.record.series import GAMMA, TEST_ERROR, UNSATISFIED
from mfnet.setup.compose import Source, compose, task
from mfnet.setup.setup import Setup
from mfnet.theory import MeanField


def composed(experiment, overrides=()):
    """The settings of a job, checked, in plain containers, and the parameters of the experiment's own sweep."""
    with Source().opened():
        config = compose([f"experiment={experiment}", *overrides])
        return Setup.resolved(task(config)).config, dict(config.hydra.sweeper.params or {})


def jobs(experiment):
    """The overrides of each job of an experiment's own sweep."""
    _, params = composed(experiment)
    parsed = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    choices = [[f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()] for o in parsed]
    return list(itertools.product(*choices))


def model(config):
    """The mean-field solution of a job."""
    return MeanField(**{key: value for key, value in config["mean_field"].items() if key != "_target_"})


def write(path, config, t, columns, nodes=None, examples=None):
    """A finished run with these columns of its history; those that a run has and are not given are made up."""
    directory, solution = RunDirectory(path), model(config).solve(t)
    plain = {GAMMA.name: solution.gamma, UNSATISFIED.name: solution.unsatisfied}
    plain |= dict.fromkeys((TEST_ERROR.name, "train_error", "displacement", "kernel_change"), np.full(len(t), 0.1))
    history = {"k": np.arange(len(t)), "t": t}
    for name, values in plain.items():
        history |= {f"{name}_{side}": values for side in ("network", "theory", "kernel_closure", "moving_kernel")}
    history |= columns
    directory.write_history([{name: float(values[k]) for name, values in history.items()} for k in range(len(t))])
    last = {name: float(history[f"{name}_network"][-1]) for name in plain if name != UNSATISFIED.name}
    ended = {"stop_reason": "t_max", "t_end": float(t[-1]), "n_unsatisfied": 0, "wall_seconds": 1.0, "steps": 1}
    ended |= {"series": list(plain), "theories": ["theory", "kernel_closure", "moving_kernel"]}
    directory.write_summary({"config": config, **ended, "drive_evaluations": 1.0, **last})
    if nodes is not None:
        directory.write_arrays("nodes", nodes)
    if examples is not None:
        directory.write_arrays("examples", examples)


def moved_nodes(config, t, n):
    """``nodes.npz`` of nodes on their hyperbolas, with their prediction."""
    rng = np.random.default_rng(0)
    a0, w_par0 = rng.normal(size=(2, n))
    a, w_par = model(config).solve(t).nodes(a0, w_par0)
    nodes = {"a": a, "w_par": w_par, "w_perp": np.full(a.shape, math.sqrt(config["d"] - 1.0))}
    return {"t": t, **nodes, **{f"{name}_theory": values for name, values in nodes.items()}}
