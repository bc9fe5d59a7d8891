"""Types and shapes are checked in the tests, and where a test says so they are not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from mfnet.network.observables import order_parameter

FOUR, FIVE = torch.ones(4), torch.ones(5)


def test_a_wrong_shape_is_refused():
    with pytest.raises(TypeCheckError, match="order_parameter"):
        order_parameter(FOUR, FOUR, FOUR, FIVE)


@pytest.mark.unchecked
def test_a_wrong_shape_is_let_through_where_nothing_is_checked():
    with pytest.raises(RuntimeError, match="must match the size"):
        order_parameter(FOUR, FOUR, FOUR, FIVE)


@pytest.mark.slow
def test_the_examples_of_one_module_are_run_alone():
    """Without any file of the tests, so that what checks types is found by the settings of pytest alone."""
    command = [sys.executable, "-m", "pytest", "mfnet/network/observables.py"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
