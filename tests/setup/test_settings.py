"""Settings: each has one rule and one default, and the same names in Python as on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import mfnet
from mfnet.flow import Euler
from mfnet.setup.compose import Source, compose, plain, task
from mfnet.setup.names import keys
from mfnet.setup.pieces import description_of
from mfnet.setup.settings import CLOSED, SETTINGS, SYMBOLS_AND_GROUPS, Effect, effect
from mfnet.theory import Theory
from mfnet.training.build import Pieces

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
        ({"overlay": {"mine": Theory()}}, "overlay.mine._target_", description_of(Theory())),
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
        ({"network": {"activation": "tan"}}, "must be one of relu"),
        ({"network": {"activation": torch.tanh}, "theory": "finite_width"}, "theory=none"),
        ({"network": {"activation": torch.square}, "theory": None}, "no linear part"),
        ({"flow": dict}, "must be a class derived from mfnet's Flow"),
        ({"callbacks": [3]}, "callbacks.int=3: must name a class, or a function"),
        ({"callbacks": {"mine": object()}}, "must be a callback of Lightning's, an Observer"),
        ({"overlay": {"mine": object()}}, "must be a class derived from mfnet.theory's Theory"),
        ({"logger": "csv"}, "give a directory"),
        ({"callbacks": ["node_log"]}, "must be a list of callbacks or functions"),
        ({"callbacks": [Theory]}, "must be a callback of Lightning's, an Observer"),
        ({"ckpt": "some.ckpt"}, "ckpt=some.ckpt: is a setting of the command alone"),
        ({"alpha": [1.0, 2.0]}, "mfnet.sweep takes several"),
        ({"flow": 3}, "must be the name of a choice"),
        ({"data": partial(np.zeros, 3)}, "bind them by name"),
        ({"trainer": {"devices": 2, "accelerator": "cpu"}}, "several processes are the command's"),
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


@dataclass(frozen=True)
class Steep(mfnet.MarginLoss):
    rate: float = 1.0

    def __call__(self, m):
        return torch.exp(-self.rate * m)


def test_objects_that_differ_are_known_apart_and_are_not_taken_for_their_class(tmp_path):
    """Also by a directory: what a run computed with one is not read for another."""
    pairs = [
        ({"loss": Steep(rate=1.0)}, {"loss": Steep(rate=3.0)}),
        ({"network": {"activation": lambda z: z.tanh()}}, {"network": {"activation": lambda z: z.sin()}}),
        ({"network": {"activation": torch.nn.LeakyReLU(0.1)}}, {"network": {"activation": torch.nn.LeakyReLU(0.5)}}),
        ({"overlay": {"mine": Straight(0.1)}}, {"overlay": {"mine": Straight(0.2)}}),
    ]
    for one, other in pairs:
        setups = [mfnet.Setup.of(theory=None, **settings) for settings in (one, other, one)]
        assert setups[0].identity != setups[1].identity
        assert setups[0].identity == setups[2].identity
    small = {"M": 5, "N": 20, "d": 4, "theory": None, "schedule": {"t_max": 1.0, "per_decade": 2}, "logger": []}
    runs = [mfnet.sweep(loss=Steep(rate=rate), directory=tmp_path, **small)[0] for rate in (1.0, 3.0)]
    assert runs[0].summary["gamma"] != runs[1].summary["gamma"]


class Straight(Theory):
    def __init__(self, slope):
        self.slope = slope


def test_settings_have_no_order():
    for settings in ({"flow__dt": 0.1, "flow": Euler}, {"flow": Euler, "flow__dt": 0.1}):
        assert mfnet.Setup.of(**settings).flow["dt"] == 0.1


def test_what_was_asked_for_before_stays():
    sphere = mfnet.Setup.of(data="sphere", data__flip=0.1)
    assert sphere.but(data={"flip": 0.2}).data["inputs"] == "sphere"
    assert sphere.but(data__flip=0.3).but(data={"flip": 0.2}).but(data__flip=0.4).data["flip"] == 0.4
    assert mfnet.Setup.of(flow=partial(Euler, dt=0.5)).but(flow="averaged").flow["_target_"] == "mfnet.flow.Averaged"
    assert list(mfnet.Setup.of(overlay=["mean_field"]).but(overlay=[]).overlay) == []


def test_a_seed_that_is_given_is_that_of_all_replicas():
    small = {"M": 5, "N": 20, "d": 4, "trainer": {"precision": "float64"}}
    for given, same in ({}, False), ({"data__seed": 0}, True):
        first, second = (task.train.x for task in Pieces(mfnet.Setup.of(replicas=2, **small, **given)).data.tasks)
        assert torch.equal(first, second) is same


def test_what_is_bound_to_a_function_stays_bound():
    def draw(seed, shift=0.0):
        x = np.random.default_rng(seed).normal(size=(40, 4)) + shift
        return (x[:20], np.sign(x[:20, 0])), (x[20:], np.sign(x[20:, 0]))

    bound = Pieces(mfnet.Setup.of(data=partial(draw, seed=5), M=5)).data.task.train.x
    assert torch.equal(bound, torch.from_numpy(draw(5)[0][0]))


def test_a_program_that_uses_hydra_itself_is_left_alone():
    with Source().opened():
        mfnet.Setup.of(alpha=2.0)
        assert compose(["alpha=3"]).alpha == 3
