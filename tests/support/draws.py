"""Draws of a run, made without torch."""

from __future__ import annotations

import numpy as np

from mfnet.theory import Draw


def make_draw(N, M, d, seed, *, flip=0.0, n_test=4000):
    """Normal inputs, labelled by the first coordinate, of which a fraction ``flip`` is reversed."""
    rng = np.random.default_rng(seed)
    x, x_test = rng.normal(size=(N, d)), rng.normal(size=(n_test, d))
    y, y_test = np.where(x[:, 0] >= 0.0, 1.0, -1.0), np.where(x_test[:, 0] >= 0.0, 1.0, -1.0)
    y[rng.permutation(N)[: round(flip * N)]] *= -1.0
    return Draw(rng.normal(size=M), rng.normal(size=(M, d)), x, y, x_test, y_test, np.eye(d)[0])
