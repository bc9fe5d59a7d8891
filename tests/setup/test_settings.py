"""Settings: each has one rule and one default, and the same names in Python as on the command line."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import mfnet
from mfnet.flow import Euler
from mfnet.setup.compose import Source, compose, plain, task
from mfnet.setup.names import keys
from mfnet.setup.settings import CLOSED, SETTINGS, SYMBOLS_AND_GROUPS, Effect, effect
from mfnet.theory import Theory

CONF = Path(mfnet.__file__).parent.parent / "conf"

#: Every choice of every group, but experiments, which choose again.
CHOICES = sorted(
    f"{path.parent.name}={path.stem}"
    for path in CONF.glob("*/*.yaml")
    if path.parent.name != "experiment" and path.stem not in ("binary", "own", "csv", "idx", "npz")
)


def test_every_setting_stands_once():
    assert len({setting.key for setting in SETTINGS}) == len(SETTINGS)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_default_is_allowed_and_every_name_is_known(choice):
    group, name = choice.split("=")
    listed = f"{group}=[{name}]" if group in ("overlay", "logger") else choice
    with Source().opened():
        config = plain(task(compose([listed])))
    assert set(config) <= SYMBOLS_AND_GROUPS
    for closed, known in CLOSED.items():
        assert set(config[closed]) <= known
    for setting in SETTINGS:
        value = config
        for part in setting.key.split("."):
            value = value.get(part, KeyError) if isinstance(value, dict) else KeyError
        if value is not KeyError and value is not None:
            assert setting.allows(value), setting.key
    assert all(isinstance(effect(key), Effect) for key in keys(config))


@pytest.mark.parametrize(
    ("settings", "key", "value"),
    [
        ({"alpha": np.float64(2.0)}, "mean_field.alpha", 2.0),
        ({"flow": "euler"}, "flow._target_", "mfnet.flow.Euler"),
        ({"flow": {"rtol": 0.003}}, "flow.rtol", 0.003),
        ({"flow__rtol": 0.003}, "flow.rtol", 0.003),
        ({"flow.rtol": 0.003}, "flow.rtol", 0.003),
        ({"flow": partial(Euler, dt=0.5)}, "flow.dt", 0.5),
        ({"data": "sphere", "data__flip": 0.1}, "mean_field.flip", 0.1),
        ({"theory": None}, "theory._target_", "mfnet.theory.Theory"),
        ({"overlay": ["kernel_closure", "laziness"]}, "overlay.moving_kernel.n", 200),
        ({"overlay": "mean_field"}, "overlay.mean_field.d", 100),
        ({"overlay": {"mine": Theory()}}, "overlay.mine._target_", "mfnet.Theory"),
        ({"network": {"activation": torch.tanh}, "theory": None}, "network.activation", "torch.tanh"),
        ({"logger": None}, "logger", {}),
        ({"logger": ["csv", "tensorboard"]}, "logger.csv.name", "csv"),
        ({"experiment": "lazy"}, "alpha", 1000.0),
        ({"schedule": "listed", "schedule__times": [1, 2.5]}, "schedule.times", [1, 2.5]),
        ({"stop": {"stationary": 0.01}}, "stop.stationary", 0.01),
        ({"data": "digits"}, "N", 267),
    ],
    ids=lambda given: None if isinstance(given, dict) else str(given),
)
def test_settings_in_python_are_those_of_the_command(settings, key, value):
    found = mfnet.Setup.of(**settings).config
    for part in key.split("."):
        found = found[part]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.1}, "lr=0.1: there is no setting of this name; it is called flow.dt"),
        ({"alpha": -1}, "alpha=-1: must be a finite number above 0"),
        ({"M": 1.5}, "M=1.5: must be a whole number"),
        ({"flow": "rk4"}, "flow=rk4: must be one of"),
        ({"flow": {"foo": 1}}, "flow.foo=1: mfnet.flow.Averaged does not take it"),
        ({"data": "normal", "N": None}, "N=null: these data are drawn"),
        ({"trainer": {"max_epochs": 3}}, "use schedule.t_max"),
        ({"trainer": {"frobnicate": 3}}, "trainer.frobnicate=3: there is no setting of this name"),
        ({"network": {"activation": "tanh"}}, "must be one of relu"),
        ({"network": {"activation": torch.tanh}}, "theory=none"),
        ({"network": {"activation": torch.square}, "theory": None}, "no linear part"),
        ({"flow": dict}, "must be a class derived from mfnet's Flow"),
        ({"callbacks": [3]}, "callbacks.int=3: must name a class, or a function"),
        ({"callbacks": {"mine": object()}}, "must be a callback of Lightning's, an Observer"),
        ({"overlay": {"mine": object()}}, "must be a class derived from mfnet.theory's Theory"),
        ({"logger": "csv"}, "give a directory"),
        ({"callbacks": ["node_log"]}, "must be a list of callbacks or functions"),
    ],
    ids=lambda given: None if isinstance(given, dict) else str(given),
)
def test_a_mistake_in_python_is_one_line(settings, message):
    with pytest.raises(mfnet.SettingError) as caught:
        mfnet.train(**{"N": 40, "M": 5, "d": 4, **settings})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_setup_is_frozen_and_changes_by_making_another():
    setup = mfnet.Setup.of(alpha=2.0, flow={"rtol": 0.003})
    other = setup.but(M=50)
    assert (other.alpha, other.M, other.flow["rtol"]) == (2.0, 50, 0.003)
    assert setup.M == 400
    assert (setup.identity == mfnet.Setup.of(alpha=2, flow__rtol=0.003).identity) is True
    assert setup.identity != other.identity
    with pytest.raises(AttributeError):
        setup.alpha = 3.0


def test_a_program_that_uses_hydra_itself_is_left_alone():
    with Source().opened():
        mfnet.Setup.of(alpha=2.0)
        assert compose(["alpha=3"]).alpha == 3
