"""Losses and activations: network and theory have written them each for itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mfnet.network.activations import ACTIVATIONS
from mfnet.network.losses import LOSSES, margin_loss
from mfnet.theory.activations import ACTIVATIONS as THEORY_ACTIVATIONS
from mfnet.theory.losses import LOSSES as THEORY_LOSSES


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_the_theorys(name):
    m = torch.linspace(-4.0, 4.0, 101, dtype=torch.float64)
    for h in (0.5, 1.0):
        value = THEORY_LOSSES[name].value(m.numpy(), h)
        torch.testing.assert_close(margin_loss(name, h)(m), torch.from_numpy(value))
        torch.testing.assert_close(
            margin_loss(name, h).force(m), torch.from_numpy(THEORY_LOSSES[name].force(m.numpy(), h))
        )


@pytest.mark.parametrize("name", [name for name, loss in THEORY_LOSSES.items() if loss.curvature is not None])
def test_curvatures_are_slopes_of_the_force(name):
    """By central differences, between the kinks."""
    loss, step = THEORY_LOSSES[name], 1e-5
    m = np.linspace(-4.0, 4.0, 100)
    slope = (loss.force(m + step, 0.5) - loss.force(m - step, 0.5)) / (2.0 * step)
    np.testing.assert_allclose(loss.curvature(m, 0.5), -slope, atol=1e-9)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_the_theorys(name):
    z = torch.linspace(-6.0, 6.0, 100, dtype=torch.float64)  # without the kink at 0
    theory = THEORY_ACTIVATIONS[name]
    value = theory.odd_slope * z.numpy() + theory.even(z.numpy())
    torch.testing.assert_close(ACTIVATIONS[name].value(z), torch.from_numpy(value))
    derivative = theory.odd_slope + theory.even_slope(z.numpy())
    torch.testing.assert_close(ACTIVATIONS[name].derivative(z), torch.from_numpy(derivative))
    assert ACTIVATIONS[name].homogeneous == (theory.kink is not None)


def test_there_are_the_same_losses_and_activations_on_both_sides():
    assert set(LOSSES) == set(THEORY_LOSSES)
    assert set(ACTIVATIONS) == set(THEORY_ACTIVATIONS)


@pytest.mark.parametrize("name", LOSSES)
def test_each_replica_can_have_a_margin_of_its_own(name):
    h = torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64)
    together = margin_loss(name, h)
    m = torch.linspace(-2.0, 3.0, 12, dtype=torch.float64).view(3, 4)
    reach = torch.full_like(m, 0.7)
    for r, alone in enumerate(margin_loss(name, float(value)) for value in h):
        assert torch.equal(together(m)[r], alone(m[r]))
        assert torch.equal(together.force(m)[r], alone.force(m[r]))
        assert torch.equal(together.force_is_constant(m, reach)[r], alone.force_is_constant(m[r], reach[r]))
    assert together.of([2, 0]).h.tolist() == [[2.0], [0.5]]
    assert together.like(m.float()).h.dtype is torch.float32


@pytest.mark.parametrize("name", LOSSES)
def test_a_force_said_to_be_constant_is(name):
    loss = margin_loss(name, h=0.7)
    source = torch.Generator().manual_seed(0)
    m = 3.0 * torch.randn(10_000, generator=source, dtype=torch.float64)
    reach = torch.rand(10_000, generator=source, dtype=torch.float64)
    constant = loss.force_is_constant(m, reach)
    where = m + (2.0 * torch.rand(10_000, generator=source, dtype=torch.float64) - 1.0) * reach
    assert torch.equal(loss.force(m)[constant], loss.force(where)[constant])
    assert int(constant.sum()) > 2000 or name in ("logistic", "square")
