"""`LaterKernel` against the flow of the first kernel where they are one, and the network that it is tangent to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mfnet
from mfnet.compute.seeding import generator
from mfnet.flow import Averaged, Batch, LaterKernel, Objective
from mfnet.network import MeanFieldNetwork, loss_of
from mfnet.theory import Draw, KernelFlow, MeanField

T = np.array([0.0, 10.0, 100.0, 150.0, 300.0, 1000.0])


def drawn(M=50, N=150, d=10):
    """Nodes of a run, and its examples."""
    rng = np.random.default_rng(3)
    x, x_test = rng.normal(size=(N, d)), rng.normal(size=(200, d))
    network = MeanFieldNetwork(M, d, generator=generator(3, "network"), dtype=torch.float64)
    y, y_test = np.sign(x[:, 0]), np.sign(x_test[:, 0])
    return Draw(network.a0.numpy(), network.w0.numpy(), x, y, x_test, y_test, np.eye(d)[0])


@pytest.mark.parametrize("loss", ["hinge", "square", "logistic"])
def test_of_a_lazy_network_it_is_the_flow_of_the_first_kernel(loss):
    """From t₁ = 0 to the last digit, from later as well as the network's own steps are: its forces are of rtol 0.01."""
    draw, model = drawn(), MeanField(d=10, alpha=1e6, loss=loss)
    first = KernelFlow(model, "actual").of_draw(lambda: draw).series(T)
    at_once = LaterKernel(model, loss=loss, start=0.0).of_draw(lambda: draw).series(T)
    later = LaterKernel(model, loss=loss, start=100.0).of_draw(lambda: draw).series(T)
    assert set(later) == set(first) - {"gamma"}
    for name in ("unsatisfied", "loss", "train_error", "test_error", "mean_force"):
        np.testing.assert_array_equal(at_once[name].value, first[name].value)
        assert np.isnan(later[name].value[:2]).all()
    np.testing.assert_allclose(later["loss"].value[2:], first["loss"].value[2:], rtol=0.02)
    np.testing.assert_allclose(later["test_error"].value[2:], first["test_error"].value[2:], atol=0.01)


def test_it_is_tangent_to_the_network_at_its_start():
    """Of a rich network: the loss leaves t₁ with the network's own slope, which the first kernel has not."""
    draw, alpha, t1, dt = drawn(), 0.1, 8.0, 0.02
    model = MeanField(d=10, alpha=alpha, loss="logistic")
    theory = LaterKernel(model, loss="logistic", start=t1).of_draw(lambda: draw)
    loss = theory.series(np.array([t1, t1 + dt]))["loss"].value
    network = MeanFieldNetwork(50, 10, generator=generator(3, "network"), dtype=torch.float64)
    x, y, logistic = torch.as_tensor(draw.x), torch.as_tensor(draw.y), loss_of("logistic", 1.0)
    flow = Averaged(Objective(network, logistic, alpha, lambda _: Batch(x, y), fixed=True))
    flow.step(until=t1)
    now = logistic(alpha * y * network.excess(x)).mean() / alpha**2
    gradient = torch.autograd.grad(now, [network.a, network.w])
    slope = -50 * sum(float((part**2).sum()) for part in gradient)
    assert loss[0] == pytest.approx(now.item(), rel=1e-4)
    assert (loss[1] - loss[0]) / dt == pytest.approx(slope, rel=0.02)
    first = KernelFlow(model, "actual").of_draw(lambda: draw)
    Q = first._kernel(draw.x, draw.x) * np.outer(draw.y, draw.y)
    force = 1.0 / (1.0 + np.exp(alpha * draw.y * network.excess(x).detach().numpy()))
    assert -(force @ Q @ force) / 150**2 / alpha**2 > 0.5 * slope


def test_it_is_laid_over_a_run():
    """Its curves begin at t₁, by default where the average example is satisfied; so does the agreement with them."""
    settings = {"M": 30, "N": 100, "d": 10, "alpha": 100.0, "logger": [], "trainer": {"accelerator": "cpu"}}
    run = mfnet.train(overlay=["later_kernel"], theory="none", schedule={"per_decade": 6}, **settings)
    start = MeanField(d=10, alpha=100.0).time_scale
    values, t = run.history["unsatisfied_later_kernel"], run.history["t"]
    np.testing.assert_array_equal(np.isnan(values), t < start)
    found = run.summary["agreement_later_kernel"]["unsatisfied"]
    assert found["within_until"] > start
    assert found["largest"] < 0.1


def test_what_it_is_refused_for():
    with pytest.raises(ValueError, match=r"start=-1.0 must be a time"):
        LaterKernel(MeanField(d=5), start=-1.0)
    with pytest.raises(NotImplementedError, match="training and the test set alone"):
        LaterKernel(MeanField(d=5)).output(T, np.zeros((1, 5)))
