"""Losses and activations: network and theory have written them each for itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mfnet.network.activations import ACTIVATIONS
from mfnet.network.losses import LOSSES, MarginLoss, loss_of
from mfnet.theory.activations import ACTIVATIONS as THEORY_ACTIVATIONS
from mfnet.theory.losses import LOSSES as THEORY_LOSSES
from support.own import Exponential


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_the_theorys(name):
    m = torch.linspace(-4.0, 4.0, 101, dtype=torch.float64)
    for h in (0.5, 1.0):
        value = THEORY_LOSSES[name].value(m.numpy(), h)
        torch.testing.assert_close(loss_of(name, h)(m), torch.from_numpy(value))
        torch.testing.assert_close(loss_of(name, h).force(m), torch.from_numpy(THEORY_LOSSES[name].force(m.numpy(), h)))


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
    torch.testing.assert_close(ACTIVATIONS[name].value(z), torch.from_numpy(theory.value(z.numpy())))
    if theory.odd_part_is_linear:
        derivative = theory.odd_slope + theory.even_slope(z.numpy())
        torch.testing.assert_close(ACTIVATIONS[name].derivative(z), torch.from_numpy(derivative))
    assert ACTIVATIONS[name].homogeneous == (theory.kink is not None)


def test_there_are_the_same_losses_and_activations_on_both_sides():
    assert set(LOSSES) == set(THEORY_LOSSES)
    assert set(ACTIVATIONS) == set(THEORY_ACTIVATIONS)


@pytest.mark.parametrize("name", LOSSES)
def test_each_replica_can_have_a_margin_of_its_own(name):
    h = torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64)
    together = loss_of(name, h)
    m = torch.linspace(-2.0, 3.0, 12, dtype=torch.float64).view(3, 4)
    reach = torch.full_like(m, 0.7)
    for r, alone in enumerate(loss_of(name, float(value)) for value in h):
        assert torch.equal(together(m)[r], alone(m[r]))
        assert torch.equal(together.force(m)[r], alone.force(m[r]))
        assert torch.equal(together.force_is_constant(m, reach)[r], alone.force_is_constant(m[r], reach[r]))
    assert together.of([2, 0]).h.tolist() == [[2.0], [0.5]]
    assert together.like(m.float()).h.dtype is torch.float32


@pytest.mark.parametrize("name", LOSSES)
def test_a_force_said_to_be_constant_is(name):
    loss = loss_of(name, h=0.7)
    source = torch.Generator().manual_seed(0)
    m = 3.0 * torch.randn(10_000, generator=source, dtype=torch.float64)
    reach = torch.rand(10_000, generator=source, dtype=torch.float64)
    constant = loss.force_is_constant(m, reach)
    where = m + (2.0 * torch.rand(10_000, generator=source, dtype=torch.float64) - 1.0) * reach
    assert torch.equal(loss.force(m)[constant], loss.force(where)[constant])
    assert int(constant.sum()) > 2000 or name in ("logistic", "square")


class Written(Exponential):
    name = "written"

    def force(self, m):
        return torch.exp(-m)


@dataclass(frozen=True)
class Tempered(MarginLoss):
    """With a parameter of its own."""

    beta: float = 2.0

    def __call__(self, m):
        return torch.nn.functional.softplus(self.beta * (self.h - m))


@pytest.mark.parametrize("h", [0.7, torch.tensor([[0.5], [2.0]])], ids=["h", "h of each"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_force_of_a_loss_is_autograds_unless_it_is_written(dtype, h):
    own, written = loss_of(Exponential, h), loss_of(Written, h)
    m = torch.linspace(-5.0, 5.0, 24, dtype=dtype).view(2, 12)
    with torch.no_grad():
        force = own.force(m)
    assert force.dtype is dtype
    assert not force.requires_grad
    torch.testing.assert_close(force, written.force(m), rtol=2 * torch.finfo(dtype).eps, atol=0.0)
    assert not own.force_is_constant(m, torch.full_like(m, 1e-3)).any()


@pytest.mark.parametrize("name", LOSSES)
def test_autograds_force_is_that_of_the_builtins(name):
    m, loss = torch.linspace(-4.0, 4.0, 100, dtype=torch.float64), loss_of(name, 0.5)
    torch.testing.assert_close(MarginLoss.force(loss, m), loss.force(m), rtol=1e-13, atol=1e-14)


def test_losses_have_the_names_of_their_classes_and_no_twin_of_a_parents():
    class Twin(MarginLoss):
        theory = THEORY_LOSSES["hinge"]

        def __call__(self, m):
            return torch.relu(self.h - m)

    class Other(Twin):
        def __call__(self, m):
            return torch.relu(self.h - m) ** 2

    class Same(Twin):
        pass

    assert [kind.name for kind in (Exponential, Written, Twin, Other)] == ["exponential", "written", "twin", "other"]
    assert [kind.name for kind in LOSSES.values()] == ["hinge", "squared_hinge", "logistic", "square"]
    assert Twin.theory is Same.theory is THEORY_LOSSES["hinge"]
    assert Other.theory is Exponential.theory is LOSSES["hinge"].theory is None


def test_a_loss_is_given_by_name_by_class_or_as_it_is():
    assert loss_of("hinge") == LOSSES["hinge"](1.0)
    assert loss_of(Tempered, 0.3) == Tempered(0.3, 2.0)
    assert loss_of(Tempered(0.4, beta=5.0)) == Tempered(0.4, 5.0)
    assert loss_of(Tempered(0.4, beta=5.0), 0.1) == Tempered(0.1, 5.0)


class Hinge(MarginLoss):
    def __call__(self, m):
        return torch.relu(self.h - m)


class Mean(MarginLoss):
    def __call__(self, m):
        return torch.exp(-m).mean()


class Wide(MarginLoss):
    def __call__(self, m):
        return torch.exp(-m.double())


class Ranked(MarginLoss):
    def __call__(self, m):
        return torch.softmax(-m, dim=-1)


class Backwards(MarginLoss):
    def __call__(self, m):
        return torch.exp(-m)

    def force(self, m):
        return -torch.exp(-m)


class Inherited(LOSSES["hinge"]):
    """Whose force is that of the hinge, not its own."""

    def __call__(self, m):
        return torch.relu(self.h - m) ** 2


class Constant(Exponential):
    def force_is_constant(self, m, reach):
        return m > 0.0


class Detached(MarginLoss):
    def __call__(self, m):
        return torch.exp(-m.detach())


class Nothing(MarginLoss):
    pass


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("hinges", "there is no loss 'hinges': known are hinge, squared_hinge, logistic, square"),
        (torch.relu, "give a name, or a subclass of MarginLoss"),
        (Nothing, "loss Nothing cannot be made"),
        (Hinge, "cannot be called hinge"),
        (Mean, r"ℓ of a float32 tensor of shape \(35,\) is a float32 tensor of shape \(\)"),
        (Wide, "is a float64 tensor"),
        (Ranked, "depends on the margins of others"),
        (Backwards, "force is not"),
        (Inherited, "force is not"),
        (Constant, "force_is_constant"),
        (Detached, "cannot be evaluated and differentiated"),
    ],
)
def test_what_is_no_margin_loss_is_refused_in_one_line(given, words):
    with pytest.raises(ValueError, match=words) as refusal:
        loss_of(given)
    assert "\n" not in str(refusal.value)
