"""What holds for every test."""

from __future__ import annotations

import signal

import pytest
import torch


def pytest_configure():
    """A background job of a shell without job control ignores SIGINT, and so would the runs that tests interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _global_state_is_untouched():
    """Global random state and default dtype are the same after a test as before: no code here may use them."""
    random_state, dtype = torch.get_rng_state(), torch.get_default_dtype()
    yield
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.get_default_dtype() is dtype
