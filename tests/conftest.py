"""What holds for every test."""

from __future__ import annotations

import signal
from functools import partial

import pytest
import torch

from support.command import call
from support.type_checks import unchecked


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


@pytest.fixture(autouse=True)
def _types_are_checked_unless_marked(request):
    """Types and shapes are checked in every test but those that are marked ``unchecked``."""
    if request.node.get_closest_marker("unchecked") is None:
        yield
    else:
        with unchecked():
            yield


@pytest.fixture
def command(tmp_path):
    """The command ``mfnet`` in a directory of the test's own."""
    return partial(call, cwd=tmp_path)


@pytest.fixture
def three_threads():
    """Also where the tests themselves run on one thread each."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)
