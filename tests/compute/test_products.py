"""Matrix products in full and in reduced precision."""

from __future__ import annotations

import pytest
import torch

from mfnet.compute.products import DifferentiableProduct, exact_products, product
from mfnet.compute.seeding import generator
from mfnet.flow import Batch, Euler, Objective
from mfnet.network import MeanFieldNetwork
from mfnet.network.losses import Hinge
from support.problems import ROUNDING


def relative(difference, reference):
    return float(((difference - reference).norm() / reference.norm()).detach())


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


@pytest.mark.parametrize("precision", ["full", "tf32", "bf16"])
def test_autograd_sees_products_of_the_same_precision(precision):
    source = torch.Generator().manual_seed(0)
    a, b, slope = (torch.randn(size, generator=source) for size in ((5, 7), (6, 7), (5, 6)))
    a.requires_grad_()
    b.requires_grad_()
    found = DifferentiableProduct.apply(a, b, precision)
    assert torch.equal(found, product(a, b, precision))
    of_a, of_b = torch.autograd.grad(found, (a, b), slope)
    assert torch.equal(of_a, product(slope, b.T, precision))
    assert torch.equal(of_b, product(slope.T, a.T, precision))
    if precision == "full":
        assert torch.autograd.gradcheck(
            lambda *factors: DifferentiableProduct.apply(*factors, "full"), (a.double(), b.double())
        )


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_what_autograd_trains_has_the_outputs_that_are_streamed(precision):
    """In the network's precision, so that F(0) = 0; those of full precision are far from it."""
    network, exact = (
        MeanFieldNetwork(100, 20, generator=generator(0, "network"), precision=each) for each in (precision, "full")
    )
    x = torch.randn(500, 20, generator=generator(0, "x"))
    streamed = network.output(x, initial=True)
    assert (network(x) - streamed).square().mean().sqrt() < 1e-7
    assert (exact(x) - streamed).square().mean().sqrt() > 5e-6


class Seen(Euler):
    """Euler's steps, which look at what torch may do."""

    def moved(self, evaluator, nodes, rates, dt):
        self.seen = torch.backends.cuda.matmul.fp32_precision
        return super().moved(evaluator, nodes, rates, dt)


@pytest.fixture
def allowed():
    """A caller who has allowed TF32 everywhere, by the newer name, after which the older cannot be read."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    yield
    torch.backends.cuda.matmul.fp32_precision = before


def test_full_precision_does_not_depend_on_what_the_caller_has_allowed(allowed):
    network = MeanFieldNetwork(10, 5, generator=generator(0, "network"))
    batch = Batch(torch.randn(20, 5, generator=generator(0, "x")), torch.ones(20))
    flow = Seen(Objective(network, Hinge(), 1.0, lambda _: batch, fixed=True), dt=1.0)
    flow.step(until=2.0)
    assert flow.seen == "ieee"
    with exact_products():
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
