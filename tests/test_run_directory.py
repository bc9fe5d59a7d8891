"""A run's directory: who is at work in it, and how far it is."""

from __future__ import annotations

import json

import pytest

from mfnet.run_directory import RunDirectory, RunInUseError, RunState


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
