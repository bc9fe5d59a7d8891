"""Learning online: data that are new at each step."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

import mfnet
from mfnet.data import ObservedData, OnlineSphericalData, SphericalData
from mfnet.flow import Euler
from mfnet.record.directory import RunDirectory
from mfnet.setup.errors import SettingError
from mfnet.training import Training
from mfnet.training.build import Pieces
from mfnet.training.checkpoint import read_checkpoint

SMALL = {"M": 20, "N": 30, "d": 5, "data": "online", "data.n_test": 40, "flow": "euler", "flow.dt": 0.5}
SMALL |= {
    "theory": None,
    "logger": [],
    "trainer.accelerator": "cpu",
    "schedule": {"_target_": "mfnet.record.schedule.listed"},
}
SMALL |= {"schedule.times": [1.0, 2.0], "trainer.precision": "float64"}


#: The same of data that have their own sizes.
OWN = {name: value for name, value in SMALL.items() if name not in ("N", "d", "data", "data.n_test")}


class Shells(ObservedData):
    """Examples of step k are at the distance k + 1; those that are observed at 10."""

    def __init__(self, schedule, n=8, d=5):
        super().__init__(schedule)
        self.n, self.d = n, d

    def draw(self):
        return self._at(10.0, 100), self._at(10.0, 101), np.eye(self.d)[0]

    def examples_at(self, step):
        return self._at(step + 1.0, step)

    def _at(self, radius, seed):
        x = torch.randn(self.n, self.d, generator=torch.Generator().manual_seed(seed))
        x = radius * x / x.norm(dim=1, keepdim=True)
        return x, torch.where(x[:, 0] > 0.0, 1.0, -1.0)


def test_a_class_is_online_if_it_gives_examples_of_a_step():
    class Other(Shells):
        pass

    assert Shells.online
    assert Other.online
    assert OnlineSphericalData.online
    assert not SphericalData.online


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_each_step_is_one_of_gradient_descent_on_its_own_examples(precision):
    """Against autograd, in both precisions on the same numbers; what is observed is the training set of the task."""
    setup = mfnet.Setup.of(**{**OWN, "data": functools.partial(Shells, n=8), "trainer.precision": precision})
    pieces, run = Pieces(setup), mfnet.train(setup)
    network, data = pieces.networks, pieces.data
    assert setup.d == network.d == 5
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5 * 20)
    for step in range(4):
        x, y = (torch.as_tensor(part, dtype=network.w.dtype) for part in data.examples_at(step))
        assert x.norm(dim=1).max() == pytest.approx(step + 1.0, rel=1e-6)
        optimizer.zero_grad()
        torch.relu(1.0 - y * network.excess(x)).mean().backward()
        optimizer.step()
    rtol = {"float32": 1e-5, "float64": 1e-12}[precision]
    torch.testing.assert_close(run.network.w, network.w, rtol=rtol, atol=rtol)
    x, y = (part.to(network.w.dtype) for part in data.task.train)
    margins = y * network.excess(x)
    assert run.history["unsatisfied_network"].iloc[-1] == float((margins < 1.0).double().mean())
    assert run.history["loss_network"].iloc[-1] == pytest.approx(float(torch.relu(1.0 - margins).mean()), rel=1e-5)


def test_the_spherical_law_is_drawn_anew_at_each_step():
    data = Pieces(mfnet.Setup.of(**SMALL, data__flip=0.2)).data
    steps = [data.read_at(step) for step in (0, 1, 0)]
    assert torch.equal(steps[0].x, steps[2].x)
    assert not torch.equal(steps[0].x, steps[1].x)
    assert steps[0].x.shape == (30, 5)
    assert len(data.task.train.y) == len(data.task.test.y) == 40
    of_all = torch.cat([(step.y * (step.x @ data.task.direction) < 0.0) for step in map(data.read_at, range(100))])
    assert float(of_all.double().mean()) == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / 3000))
    assert bool((data.task.test.y * (data.task.test.x @ data.task.direction) > 0.0).all())


def test_satisfied_examples_do_not_end_it():
    run = mfnet.train(**SMALL, stop__satisfied=1e-6, alpha=1e-2)
    assert run.history["unsatisfied_network"].iloc[1] < 1.0
    assert run.summary["stop_reason"] == "t_max"


def test_it_goes_on_where_it_stopped(tmp_path):
    def go(name, times, checkpoint=None):
        directory = RunDirectory(tmp_path / name)
        directory.path.mkdir(exist_ok=True)
        return Training(mfnet.Setup.of(**{**SMALL, "schedule.times": times}), directory, checkpoint).run()

    whole = go("whole", [1.0, 2.0, 3.0])
    go("cut", [1.0])
    rest = go("cut", [1.0, 2.0, 3.0], read_checkpoint(tmp_path / "cut" / "checkpoints" / "last.ckpt"))
    assert torch.equal(rest.network.w, whole.network.w)
    assert rest.history.equals(whole.history)
    assert rest.summary["trust"] == whole.summary["trust"]


class TooWide(Shells):
    def examples_at(self, step):
        return torch.ones(4, 6), torch.ones(4)


class Unlabelled(Shells):
    def examples_at(self, step):
        return torch.ones(4, 5), torch.zeros(4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"flow": "averaged"}, "adaptive steps need a fixed training set.*use flow=rotation"),
        ({"replicas": 2}, "replicas=2: data that are new at each step go with one network"),
        ({"overlay": ["kernel_closure"]}, "speaks of a fixed training set"),
        ({**OWN, "data": TooWide}, "TooWide: new inputs have d=6, and those of its training set have d=5"),
        ({**OWN, "data": Unlabelled}, "Unlabelled: new labels must be −1 or 1"),
    ],
)
def test_what_does_not_go_with_it_is_said(changes, said):
    settings = changes if "data" in changes else {**SMALL, **changes}
    if settings["flow"] == "averaged":
        settings.pop("flow.dt")
    with pytest.raises(SettingError, match=said):
        mfnet.train(**settings)


def test_a_flow_of_ones_own_may_say_that_it_cannot():
    class Careful(Euler):
        only_fixed = "it compares steps"

    with pytest.raises(SettingError, match="it compares steps"):
        mfnet.train(**{**SMALL, "flow": functools.partial(Careful, dt=0.5)})
