"""The moving tangent kernel against drawn nodes on their hyperbolas, and a network that was really trained."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mfnet.theory import Draw, MeanField
from mfnet.theory.moving_kernel import MovingKernel, moved_kernel
from mfnet.theory.tangent_kernel import LimitKernel

SLOPES = {"relu": 0.0, "leaky_relu": 0.01, "linear": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("activation", SLOPES)
@pytest.mark.parametrize(("gamma", "a_std", "w_std"), [(0.05, 1.0, 1.0), (0.8, 1.0, 1.0), (0.8, 1.5, 0.6)])
def test_it_is_the_average_over_moved_nodes(activation, gamma, a_std, w_std):
    """10⁶ nodes, within 4.5 standard errors for each of 15 pairs."""
    rng, d, M = np.random.default_rng(0), 4, 1_000_000
    x = rng.normal(size=(5, d))
    x[4] = x[0]
    a0, w0 = a_std * rng.normal(size=M), w_std * rng.normal(size=(M, d))
    cosh, sinh = math.cosh(gamma), math.sinh(gamma)
    a, w = cosh * a0 + sinh * w0[:, 0], w0.copy()
    w[:, 0] = cosh * w0[:, 0] + sinh * a0
    z = w @ x.T / math.sqrt(d)
    gate = np.where(z > 0, 1.0, SLOPES[activation])
    model = MeanField(d=d, activation=activation, a_std=a_std, w_std=w_std)
    kernel = moved_kernel(model, x, x[:, 0], cosh, sinh)
    for i in range(5):
        for j in range(i + 1):
            sample = gate[:, i] * gate[:, j] * (z[:, i] * z[:, j] + a**2 * (x[i] @ x[j] / d))
            assert abs(sample.mean() - kernel[i, j]) < 4.5 * sample.std() / math.sqrt(M)


@pytest.mark.parametrize("activation", SLOPES)
def test_it_starts_from_the_limit_kernel(activation):
    x = np.random.default_rng(1).normal(size=(20, 6))
    model = MeanField(d=6, activation=activation, a_std=1.5, w_std=0.6)
    kernel = moved_kernel(model, x, x[:, 0], 1.0, 0.0)
    np.testing.assert_allclose(kernel, LimitKernel(activation, 1.5, 0.6)(x, x), rtol=1e-7)


def test_a_network_on_fresh_data():
    """M = 1500, d = 10, α = 1, 1500 fresh examples a rotation step of 0.5: the change within 8 %, three times 1/√M."""
    rng, M, d, t_end, dt = np.random.default_rng(2), 1500, 10, 12.0, 0.5
    a0, w0, x = rng.normal(size=M), rng.normal(size=(M, d)), rng.normal(size=(100, d))
    a, w = a0.copy(), w0.copy()
    for _ in range(round(t_end / dt)):
        fresh = rng.normal(size=(1500, d))
        y, z = np.sign(fresh[:, 0]), fresh @ w.T / math.sqrt(d)
        f = np.maximum(z, 0) @ a / M - np.maximum(fresh @ w0.T / math.sqrt(d), 0) @ a0 / M
        b = (z > 0).T @ (fresh * (y * (y * f < 1.0))[:, None]) / (math.sqrt(d) * len(y))
        norm = np.linalg.norm(b, axis=1)
        e = b / norm[:, None]
        p, s, c1 = (w * e).sum(axis=1), np.sinh(norm * dt), np.cosh(norm * dt) - 1
        w += e * (p * c1 + a * s)[:, None]
        a += a * c1 + p * s

    def kernel(a, w):
        z = x @ w.T / math.sqrt(d)
        return (np.maximum(z, 0) @ np.maximum(z, 0).T + ((z > 0) * a**2) @ (z > 0).T * (x @ x.T / d)) / M

    now, start = kernel(a, w), kernel(a0, w0)
    draw = Draw(a0, w0, x, np.sign(x[:, 0]), x, np.sign(x[:, 0]), np.eye(d)[0])
    t = np.array([0.0, t_end])
    model = MeanField(d=d, dt=dt, scheme="rotation")
    series = MovingKernel(model, n=100).of_draw(lambda: draw).series(t)
    change = np.linalg.norm(now - start) / np.linalg.norm(start)
    assert change > 0.5
    assert series["kernel_change"].value[0] == 0.0
    assert series["kernel_change"].value[1] == pytest.approx(change, rel=0.08)
    alignment = np.sum(now * start) / np.linalg.norm(now) / np.linalg.norm(start)
    assert series["kernel_alignment"].value[1] == pytest.approx(alignment, abs=0.02)
    assert alignment < 0.95


def test_what_it_needs():
    with pytest.raises(ValueError, match="homogeneous"):
        MovingKernel(MeanField(d=5, activation="gelu"))
    with pytest.raises(ValueError, match="of_draw"):
        MovingKernel(MeanField(d=5)).series(np.array([0.0]))
