"""Types and shapes are checked in the tests, and where a test says so they are not."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from mfnet.observables import order_parameter

FOUR, FIVE = torch.ones(4), torch.ones(5)


def test_a_wrong_shape_is_refused():
    with pytest.raises(TypeCheckError, match="order_parameter"):
        order_parameter(FOUR, FOUR, FOUR, FIVE)


@pytest.mark.unchecked
def test_a_wrong_shape_is_let_through_where_nothing_is_checked():
    with pytest.raises(RuntimeError, match="must match the size"):
        order_parameter(FOUR, FOUR, FOUR, FIVE)
