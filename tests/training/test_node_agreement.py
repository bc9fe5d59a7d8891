"""The subspace beside which the motion of weights is measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mfnet.network.observables import share_outside
from mfnet.training.callbacks.node_agreement import leading_directions


def test_leading_directions_span_what_the_singular_value_decomposition_says():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)) * np.array([5.0, 4.0, 1.0, 1.0, 1.0, 1.0]) + 3.0
    direction = rng.normal(size=6)
    direction /= np.linalg.norm(direction)
    basis = leading_directions(torch.from_numpy(x), torch.from_numpy(direction), 2).numpy()
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-12)
    rows = np.vstack([direction, np.linalg.svd(x - x.mean(axis=0))[2][:2]])
    np.testing.assert_allclose(basis.T @ basis, rows.T @ np.linalg.pinv(rows.T), atol=1e-10)
    moved = rng.normal(size=(7, 6))
    expected = 1.0 - np.sum((moved @ basis.T @ basis) ** 2) / np.sum(moved**2)
    assert share_outside(torch.from_numpy(moved), torch.from_numpy(basis)) == pytest.approx(expected)
    assert leading_directions(torch.from_numpy(x), torch.from_numpy(direction), 6).shape == (6, 6)
