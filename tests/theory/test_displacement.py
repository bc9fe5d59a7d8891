"""How far nodes move: closed form against drawn nodes and networks; each theory against nodes of its own."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from mfnet.claims.simulation import draw_of, nodes_at, seeds, setup_of
from mfnet.flow import Rotation
from mfnet.theory import FiniteWidth, LinearClosure, MeanField, RealisedWidth


def relative(nodes, initial):
    """|θ − θ₀|/|θ₀| over nodes (…, M, d + 1)."""
    return np.linalg.norm(nodes - initial, axis=(-2, -1)) / np.linalg.norm(initial)


@pytest.mark.parametrize(("a_std", "w_std"), [(1.0, 1.0), (2.0, 0.5)])
@pytest.mark.parametrize("dt", [None, 1.5])
def test_it_is_that_of_drawn_nodes_on_their_hyperbolas(a_std, w_std, dt):
    """Flow and discrete steps: 10⁵ nodes, whose mean squares scatter by √(2/10⁵) = 0.5 %."""
    model = MeanField(d=5, a_std=a_std, w_std=w_std, dt=dt)
    solution = model.solve([0.0, 1.0, 12.0, 60.0])
    initial = np.random.default_rng(0).normal(size=(100_000, 6)) * [a_std, *[w_std] * 5]
    a, w_par = solution.nodes(initial[:, 0], initial[:, 1])
    moved = np.broadcast_to(initial, (4, *initial.shape)).copy()
    moved[:, :, 0], moved[:, :, 1] = a, w_par
    np.testing.assert_allclose(solution.displacement, relative(moved, initial), rtol=0.015)
    assert solution.displacement[0] == 0.0


@pytest.mark.slow
@pytest.mark.unchecked
def test_it_is_that_of_networks_and_of_their_actual_nodes():
    """M = 1000 nodes, d = 10, N = 20 000 until half of the examples are satisfied, four seeds.

    A draw scatters by 1/(2√M) in |θ − θ₀| and as much through the clock: by 3 %, 1.6 % in the mean of four. What is
    left when the nodes are known is the training set: √(d/N) = 2 % of the drive.
    """
    M, d, N = 1000, 10, 20_000
    model = MeanField(d=d)
    times = model.time_of(0.5 * np.arcsinh(np.array([0.2, 2.0, 2.0 * math.sqrt(d) / 0.67])))
    measured, realised = [], []
    for setup in seeds(setup_of(M, d, N), 4):
        draw = draw_of(setup)
        initial = np.column_stack([draw.a0, draw.w0])
        measured.append(relative(nodes_at(setup, times, partial(Rotation, dt=float(times[-1]) / 30)), initial))
        theory = RealisedWidth(model).of_draw(lambda draw=draw: draw._replace(x=draw.x[:1], y=draw.y[:1]))
        realised.append(theory.series(times)["displacement"].value)
    np.testing.assert_allclose(np.mean(measured, axis=0), model.solve(times).displacement, rtol=3.0 * 0.016)
    np.testing.assert_allclose(measured, realised, rtol=0.02)
    finite = FiniteWidth(model, M).series(times)["displacement"].value
    np.testing.assert_array_equal(finite, model.solve(times).displacement)


@pytest.mark.slow
def test_a_linear_network_moves_as_its_closure_says():
    """The linear closure with actual nodes is exact for a linear activation; steps of both leave 1 %."""
    setup = setup_of(12, 6, 80, double=True, loss="logistic", network__activation="linear")
    draw, times = draw_of(setup), [1.0, 8.0, 30.0]
    moved = nodes_at(setup, times, partial(Rotation, dt=0.02))
    model = MeanField(d=6, activation="linear", loss="logistic")
    closure = LinearClosure(model, "actual", 0.005).of_draw(lambda: draw).solve(np.array(times))
    np.testing.assert_allclose(closure.displacement, relative(moved, np.column_stack([draw.a0, draw.w0])), rtol=0.01)
