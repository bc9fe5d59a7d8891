"""A run's directory: who is at work in it, and how far it is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mfnet.record.directory import RunDirectory, RunInUseError, RunState, agreement


def test_a_directory_is_one_processs(tmp_path):
    first, second = RunDirectory(tmp_path), RunDirectory(tmp_path)
    with first.lock():
        assert second.in_use()
        with pytest.raises(RunInUseError, match="another process"), second.lock():
            pass
    assert not second.in_use()


@pytest.mark.parametrize(
    ("summary", "state"),
    [
        (None, RunState.NEW),
        ("", RunState.NEW),
        ("{", RunState.NEW),
        ("[]", RunState.NEW),
        (json.dumps({"stop_reason": "interrupted"}), RunState.NEW),
        (json.dumps({"stop_reason": "error: it broke"}), RunState.FAILED),
        (json.dumps({"stop_reason": "all_satisfied"}), RunState.COMPLETE),
    ],
)
def test_the_state_of_a_run_is_read_off_its_files(summary, state, tmp_path):
    run = RunDirectory(tmp_path)
    if summary is not None:
        run.summary.write_text(summary)
    assert run.state() is state
    run.checkpoint.parent.mkdir()
    run.checkpoint.touch()
    assert run.state() is (RunState.CUT_OFF if state is RunState.NEW else state)
    run.write_failure("Traceback\nRuntimeError: no")
    assert run.state() is RunState.FAILED
    assert run.failure_reason() == "RuntimeError: no"


def test_agreement_is_that_after_the_start():
    """Whatever was observed at t = 0: once, or twice by a run that ended there."""
    for n in (1, 2):
        gamma = np.array([0.0] * n + [1.0, 2.0, 3.0])
        history = {"t": gamma, "gamma_theory": gamma, "gamma_network": gamma * np.array([1.0] * n + [1.01, 1.3, 1.0])}
        found = agreement(history)["gamma"]
        assert found["largest"] == pytest.approx(0.3)
        assert (found["final"], found["within_until"]) == (0.0, 1.0)
        assert agreement({name: values[:n] for name, values in history.items()}) == {}
