"""Passes over the examples that are shared out among threads."""

from __future__ import annotations

import threading

import pytest
import torch

from mfnet.compute.threads import one_thread, side_by_side

CPU = torch.device("cpu")


@pytest.mark.usefixtures("three_threads")
def test_shares_cover_the_rows_at_the_same_time_and_in_order():
    together = threading.Barrier(3, timeout=60.0)  # breaks unless three threads are inside at once

    def work(share):
        together.wait()
        return share, torch.get_num_threads(), torch.is_grad_enabled()

    shares, threads, gradients = zip(*side_by_side(work, 10, 3, CPU), strict=True)
    assert [row for share in shares for row in range(share.start, share.stop)] == list(range(10))
    assert threads == (1, 1, 1)
    assert not any(gradients)
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("failing", [0, 2])
def test_a_failure_in_any_share_is_the_callers(failing):
    def work(share):
        if share.start == 4 * failing:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        side_by_side(work, 12, 1, CPU)
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_few_rows_and_one_thread_are_not_shared():
    assert side_by_side(lambda share: share, 5, 3, CPU) == [slice(0, 5)]
    assert side_by_side(lambda share: share, 0, 3, CPU) == [slice(0, 0)]
    with one_thread():
        assert side_by_side(lambda share: share, 100, 1, CPU) == [slice(0, 100)]
