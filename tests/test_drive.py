"""The closed form of the gradient against autograd, and its streaming."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mfnet.network
from mfnet.activations import ACTIVATIONS
from mfnet.drive import drive, velocity
from mfnet.flow import Objective
from mfnet.losses import LOSSES, margin_loss
from mfnet.products import product
from mfnet.theory.activations import ACTIVATIONS as THEORY_ACTIVATIONS
from mfnet.theory.losses import LOSSES as THEORY_LOSSES
from support.problems import ROUNDING, make_problem

HOMOGENEOUS = [name for name, activation in ACTIVATIONS.items() if activation.homogeneous]
ALPHA = 0.7


def autograd_velocity(problem, loss):
    """−M ∂L/∂θ by autograd."""
    objective = Objective(problem.network, loss, ALPHA, lambda _: problem.batch, fixed=True)
    value, _ = objective.loss(problem.batch)
    gradient_a, gradient_w = torch.autograd.grad(value, [problem.network.a, problem.network.w])
    return -problem.network.M * gradient_a, -problem.network.M * gradient_w


def relative(difference, reference):
    return float(((difference - reference).norm() / reference.norm()).detach())


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_velocity_is_autograds(activation, loss, dtype):
    problem = make_problem(N=2000, activation=activation, dtype=dtype, moved=True)
    a, w, _ = velocity(problem.network, problem.batch, margin_loss(loss), ALPHA)
    expected_a, expected_w = autograd_velocity(problem, margin_loss(loss))
    assert relative(a, expected_a) < ROUNDING[dtype]
    assert relative(w, expected_w) < ROUNDING[dtype]


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("activation", HOMOGENEOUS)
def test_homogeneous_nodes_move_along_their_drive(activation, dtype):
    problem = make_problem(N=2000, activation=activation, dtype=dtype, moved=True)
    network = problem.network
    b, _ = drive(network, problem.batch, margin_loss("hinge"), ALPHA)
    expected_a, expected_w = autograd_velocity(problem, margin_loss("hinge"))
    assert relative((network.w * b).sum(dim=1), expected_a) < ROUNDING[dtype]
    assert relative(network.a[:, None] * b, expected_w) < ROUNDING[dtype]


def test_only_homogeneous_nodes_have_a_drive():
    problem = make_problem(activation="gelu")
    with pytest.raises(ValueError, match="gelu is not positively homogeneous"):
        drive(problem.network, problem.batch, margin_loss("hinge"), ALPHA)


@pytest.mark.parametrize("nodes", [30, 11])
def test_streaming_in_small_tiles_changes_nothing(nodes, monkeypatch):
    """With all nodes in a tile (one pass), and with several tiles of them (outputs first)."""
    problem = make_problem(moved=True)
    whole = drive(problem.network, problem.batch, margin_loss("hinge"), ALPHA)
    output = problem.network.output(problem.batch.x)
    monkeypatch.setitem(mfnet.network.TILE_NODES, "cpu", nodes)
    monkeypatch.setitem(mfnet.network.TILE_ELEMENTS, "cpu", 7 * nodes)
    chunked = drive(problem.network, problem.batch, margin_loss("hinge"), ALPHA)
    assert relative(chunked.b, whole.b) < ROUNDING[torch.float64]
    assert relative(chunked.margins, whole.margins) < ROUNDING[torch.float64]
    assert relative(problem.network.output(problem.batch.x), output) < ROUNDING[torch.float64]


def test_no_array_of_nodes_times_examples_is_made(monkeypatch):
    """With N·M elements far above the budget no temporary exceeds it."""
    problem = make_problem(M=1000, N=3000, d=4)
    monkeypatch.setitem(mfnet.network.TILE_ELEMENTS, "cpu", 20_000)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    with Watch():
        drive(problem.network, problem.batch, margin_loss("hinge"), ALPHA)
    assert 0 < largest <= 20_000


def test_margins_are_of_the_excess():
    problem = make_problem(moved=True)
    _, margins = drive(problem.network, problem.batch, margin_loss("hinge"), ALPHA)
    expected = ALPHA * problem.batch.y * problem.network.excess(problem.batch.x)
    assert relative(margins, expected.detach()) < ROUNDING[torch.float64]


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_the_theorys(name):
    """Network and theory have written the same loss each for itself."""
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


@pytest.mark.parametrize(("precision", "unit"), [("tf32", 2.0**-11), ("bf16", 2.0**-8)])
def test_reduced_precision_rounds_the_factors(precision, unit):
    """Relative errors of the factors are at most a unit, of independent signs: the product's is of that order."""
    source = torch.Generator().manual_seed(0)
    a, b = (torch.randn(50, 200, generator=source) for _ in range(2))
    exact = a.double() @ b.double().T
    error = relative(product(a, b, precision).double(), exact)
    assert 0.3 * unit < error < 1.5 * unit
    assert relative(product(a, b).double(), exact) < ROUNDING[torch.float32]
    if precision == "bf16":  # torch rounds to it as well
        torch.testing.assert_close(product(a, b, precision), a.bfloat16().float() @ b.bfloat16().float().T)


def test_a_product_of_nothing_is_zero():
    """Rows of which none has a force: oneDNN refuses such a sum."""
    assert torch.equal(product(torch.ones(3, 0), torch.ones(2, 0)), torch.zeros(3, 2))
