"""Activations and losses of one's own as the theory sees them, against the theory's own records."""

from __future__ import annotations

import numpy as np
import pytest

from mfnet.network import activation_of, loss_of
from mfnet.network.twins import activation_twin, loss_twin
from mfnet.theory.activations import ACTIVATIONS
from mfnet.theory.losses import LOSSES

M = np.linspace(-2.93, 3.17, 48).reshape(6, 8)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_has_the_same_value(name):
    np.testing.assert_allclose(activation_twin(activation_of(name)).value(M), ACTIVATIONS[name].value(M), atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_has_the_same_value_force_and_curvature(name):
    """The curvature is a difference, to the square of its step; between the kinks."""
    twin, known = loss_twin(loss_of(name, 0.4)), LOSSES[name]
    for h in (0.4, 1.3):
        np.testing.assert_allclose(twin.value(M, h), known.value(M, h), atol=1e-14)
        np.testing.assert_allclose(twin.force(M, h), known.force(M, h), atol=1e-14)
        assert (twin.curvature is None) == (known.curvature is None)
        if known.curvature is not None:
            np.testing.assert_allclose(twin.curvature(M, h), known.curvature(M, h), atol=1e-7)
