"""Matrix products in full and in reduced precision."""

from __future__ import annotations

import pytest
import torch

from mfnet.compute.products import product
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
