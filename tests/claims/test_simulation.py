"""The networks that claims are held against."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from mfnet.claims import Effort
from mfnet.claims.other_data import GROUPS
from mfnet.claims.simulation import draw_of, final_nodes, nodes_at, seeds, setup_of, train
from mfnet.flow import Averaged, Euler, Rotation
from mfnet.theory import ActualKernel, MeanField
from mfnet.training.build import Pieces

pytestmark = pytest.mark.unchecked

SETUP = setup_of(30, 20, 60, n_test=200)
IN_DOUBLE = setup_of(40, 6, 80, n_test=300, double=True)


def _final(setup):
    return train(setup, [5.0, 20.0]).gamma


@pytest.mark.slow
def test_results_depend_on_the_seed_and_not_on_the_processes():
    setups = seeds(SETUP, 3)
    one = Effort(quick=True).map(_final, setups)
    with Effort(quick=True, processes=2) as effort:
        two = effort.map(_final, setups)
    assert np.array_equal(one, two)
    assert len({tuple(values) for values in one}) == 3


def _names_itself(directory):
    """A simulation without an end."""
    (directory / str(os.getpid())).touch()
    time.sleep(600.0)


PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from mfnet.claims import Effort
from claims.test_simulation import _names_itself
if __name__ == "__main__":
    Effort(quick=True, processes=2).map(_names_itself, [Path(sys.argv[2])] * 2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_one_that_has_started_them(how, tmp_path):
    script, seen = tmp_path / "parent.py", tmp_path / "seen"
    script.write_text(PARENT)
    seen.mkdir()
    parent = subprocess.Popen([sys.executable, script, Path(__file__).parents[1], seen])
    assert _holds_within(60.0, lambda: len(list(seen.iterdir())) == 2)
    parent.send_signal(how)
    parent.wait()
    assert _holds_within(20.0, lambda: not any(_runs(int(path.name)) for path in seen.iterdir()))


def _holds_within(seconds, condition):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


def _runs(pid):
    """Whether there is such a process, and it is not one that has ended and waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_number_of_threads_is_restored():
    before = torch.get_num_threads()
    inside_map = Effort(quick=True).map(lambda _: torch.get_num_threads(), [0])
    assert inside_map == [1]
    assert torch.get_num_threads() == before


def test_a_run_that_ends_stays_where_it_is():
    record = train(SETUP, [1.0, 1e5, 2e5], Averaged, probes=np.eye(20))
    assert record.t_end < 1e5
    assert record.unsatisfied[1] == record.unsatisfied[2] == 0.0
    assert record.mean_force[2] == 0.0
    assert record.gamma[0] < record.gamma[1] == record.gamma[2]
    assert np.array_equal(record.excess[1], record.excess[2])
    nodes = final_nodes(SETUP, 1.0, Averaged)
    assert nodes.shape == (30, 21)
    assert record.overlap[0] == pytest.approx(np.mean(nodes[:, 0] * nodes[:, 1]), rel=1e-6)


def test_a_run_that_is_lost_says_so():
    with pytest.raises(RuntimeError, match="diverged"):
        train(setup_of(30, 5, 100, alpha=1e-3, loss="square"), [1e4], partial(Euler, dt=1e3))


def test_a_callback_that_fails_says_so():
    with pytest.raises(RuntimeError, match="collector"):
        train(SETUP, [1.0], probes=np.eye(3))


def test_excess_is_that_of_the_nodes():
    """F(x) of numpy's sum over the nodes, at the same initial network."""
    probes = np.random.default_rng(0).normal(size=(4, 5))
    setup = setup_of(30, 5, 100, double=True)
    record = train(setup, [3.0], partial(Rotation, dt=0.1), probes)
    nodes = final_nodes(setup, 3.0, partial(Rotation, dt=0.1))
    network = Pieces(setup).networks
    a0, w0 = network.a0.numpy(), network.w0.numpy()
    f = np.maximum(probes @ nodes[:, 1:].T / math.sqrt(5), 0.0) @ nodes[:, 0] / 30
    f0 = np.maximum(probes @ w0.T / math.sqrt(5), 0.0) @ a0 / 30
    assert record.excess[0] == pytest.approx(f - f0, rel=1e-12)


def test_fresh_labels_are_flipped_and_test_labels_are_not():
    """A linear network learns the population with ε = 0.3 to a small error on true labels."""
    setup = setup_of(400, 5, 4000, fresh=True, n_test=4000, network__activation="linear", data__flip=0.3)
    record = train(setup, [10.0], partial(Rotation, dt=0.5))
    assert record.test_error[0] < 0.03
    assert record.unsatisfied[0] > 0.3
    twin = train(setup.but(data__flip=0.0), [10.0], partial(Rotation, dt=0.5))
    assert twin.gamma[0] > 1.3 * record.gamma[0]


def test_the_draw_is_that_of_the_run():
    """F after a short step is the kernel of the drawn nodes, summed over the drawn examples; to O(t²)."""
    setup, probes, t = IN_DOUBLE.but(data__flip=0.1), np.random.default_rng(1).normal(size=(5, 6)), 1e-4
    draw, record = draw_of(setup), train(setup, [t], partial(Rotation, dt=t), probes)
    first = ActualKernel("relu", draw.a0, draw.w0)(probes, draw.x) @ draw.y * t / len(draw.y)
    np.testing.assert_allclose(record.excess[0], first, rtol=1e-3, atol=1e-3 * np.abs(first).max())
    assert np.mean(draw.y != np.sign(draw.x @ draw.direction)) == pytest.approx(0.1)
    assert np.array_equal(draw.y_test, np.sign(draw.x_test @ draw.direction))


def test_nodes_at_several_times_are_those_of_one_run():
    method = partial(Rotation, dt=0.25)
    nodes = nodes_at(IN_DOUBLE, [0.5, 1.0, 2.0], method)
    assert np.array_equal(nodes[-1], final_nodes(IN_DOUBLE, 2.0, method))
    assert np.array_equal(nodes[0], final_nodes(IN_DOUBLE, 0.5, method))


@pytest.mark.parametrize(
    ("settings", "along", "across"),
    [
        ({}, 1.0, 1.0),
        ({"inputs": "elongated", "stretch": 2.0}, 2.0, 1.0),
        (
            {"inputs": "radial", "radius": {"name": "uniform", "loc": 2.9, "scale": 0.2}},
            math.sqrt(9.0 / 6),
            math.sqrt(9.0 / 6),
        ),
    ],
)
def test_the_inputs_have_the_law_of_the_setup(settings, along, across):
    """Standard deviations along and across ŵ*, of a fixed training set and, by the first drive, of fresh examples."""
    own = {f"{GROUPS[name]}.{name}": value for name, value in settings.items()}
    setup = setup_of(2000, 6, 20_000, n_test=1000, network={"a_std": 0.5, "w_std": 1.5}, **own)
    draw = draw_of(setup)
    assert draw.x[:, 0].std() == pytest.approx(along, rel=0.02)
    assert draw.x[:, 1:].std() == pytest.approx(across, rel=0.02)
    assert draw.a0.std() == pytest.approx(0.5, rel=0.05)
    assert draw.w0.std() == pytest.approx(1.5, rel=0.05)
    model = MeanField(d=6, a_std=0.5, w_std=1.5, **settings)
    online = setup.but(data="online")
    record = train(online, [0.1], partial(Euler, dt=0.1))
    fixed = train(setup, [0.1], partial(Euler, dt=0.1))
    expected = 0.1 * model.odd_slope * model.law.m1 / math.sqrt(6)
    for run in (record, fixed):
        assert run.gamma[0] == pytest.approx(expected, rel=0.03)


def test_a_variance_scales_the_same_draw():
    setup = setup_of(10, 3, 10)
    network, wide = Pieces(setup).networks, Pieces(setup.but(network__a_std=2.0)).networks
    assert torch.equal(network.w0, wide.w0)
    assert torch.equal(2.0 * network.a0, wide.a0)
