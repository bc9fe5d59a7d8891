"""Networks in plain numpy, for tests of the theory: they share no code with what they are held against."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import erf

VALUE = {
    "relu": lambda z: np.maximum(z, 0.0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "linear": lambda z: z,
    "gelu": lambda z: z * 0.5 * (1 + erf(z / math.sqrt(2))),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "softplus": lambda z: np.logaddexp(0, z),
}


def simulate(M, d, t_end, seed, n=2000, dt=1.0):
    """(γ, error, unsatisfied) of a real network trained on fresh data each step, in numpy, by rotation steps."""
    rng = np.random.default_rng(seed)
    a0, w0 = rng.normal(size=M), rng.normal(size=(M, d))
    a, w = a0.copy(), w0.copy()
    for _ in range(round(t_end / dt)):
        x = rng.normal(size=(n, d))
        y = np.sign(x[:, 0])
        z = x @ w.T / math.sqrt(d)
        f = np.maximum(z, 0) @ a / M - np.maximum(x @ w0.T / math.sqrt(d), 0) @ a0 / M
        force = y * (y * f < 1.0)
        b = (z > 0).T @ (x * force[:, None]) / (math.sqrt(d) * n)
        norm = np.linalg.norm(b, axis=1)
        e = b / norm[:, None]
        p = (w * e).sum(axis=1)
        s, c1 = np.sinh(norm * dt), np.cosh(norm * dt) - 1
        w += e * (p * c1 + a * s)[:, None]
        a += a * c1 + p * s
    x = rng.normal(size=(20_000, d))
    y = np.sign(x[:, 0])
    f = np.maximum(x @ w.T / math.sqrt(d), 0) @ a / M - np.maximum(x @ w0.T / math.sqrt(d), 0) @ a0 / M
    u, v, u0, v0 = a + w[:, 0], a - w[:, 0], a0 + w0[:, 0], a0 - w0[:, 0]
    gamma = np.arcsinh((u @ u0 / (u0 @ u0) - v @ v0 / (v0 @ v0)) / 2)
    return gamma, np.mean(y * f < 0), np.mean(y * f < 1.0)
