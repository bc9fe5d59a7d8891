"""Records that grow: their rows, their files, and what growing costs."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest

from mfnet.record.directory import RunDirectory
from mfnet.record.history import History
from mfnet.theory.growing import Growing
from mfnet.training.sinks.files import EACH, is_written

pytestmark = pytest.mark.unchecked


@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_an_array_grows_row_by_row(shape):
    rows = np.random.default_rng(0).normal(size=(50, *shape))
    growing = Growing()
    seen = []
    for row in rows:
        growing.append(row)
        seen.append(growing.values)
    assert len(growing) == 50
    for k, values in enumerate(seen):  # what was seen stays as it was
        assert np.array_equal(values, rows[: k + 1])
    with pytest.raises(ValueError, match="read-only"):
        growing.values[0] = 0.0


def test_growing_goes_on_from_what_was_saved():
    saved = np.arange(6.0).reshape(3, 2)
    growing = Growing(saved)
    growing.append([6.0, 7.0])
    assert np.array_equal(growing.values, np.arange(8.0).reshape(4, 2))
    assert np.array_equal(saved, np.arange(6.0).reshape(3, 2))
    none = Growing(np.empty((0, 2)))
    none.append([1.0, 2.0])
    assert none.values.shape == (1, 2)


def test_what_an_array_has_copied_grows_as_its_length():
    """Doubling: 10⁵ appended rows are copied less than twice each."""
    growing, copied, room = Growing(), 0, None
    for i in range(100_000):
        growing.append(float(i))
        if growing._room is not room:
            room, copied = growing._room, copied + len(growing)
    assert copied < 200_000


def test_rows_have_the_columns_of_the_first():
    history = History()
    history.append({"k": 0, "t": 0.0, "x": 1.5})
    history.append({"k": 1, "t": 0.5, "y": 2.0})
    assert history[0] == {"k": 0, "t": 0.0, "x": 1.5}
    assert isinstance(history[0]["k"], int)
    assert math.isnan(history[-1]["x"])
    assert history.names == ["k", "t", "x"]
    history.put("z", np.array([3.0, 4.0]))
    history.drop(["x", "unknown"])
    assert history[:2] == [{"k": 0, "t": 0.0, "z": 3.0}, {"k": 1, "t": 0.5, "z": 4.0}]
    again = History.of(history.columns())
    again.append({"k": 2, "t": 1.0, "z": 5.0})
    assert len(again) == 3
    assert again.column("z").tolist() == [3.0, 4.0, 5.0]
    assert len(history) == 2


def test_a_history_that_grew_is_the_one_that_is_written_as_a_whole(tmp_path):
    """Byte for byte, with numbers of every kind."""
    values = [0.1, -0.0, 1e-300, math.inf, math.nan, 1 / 3, 12345678901234567.0]
    rows = [{"k": k, "t": 0.1 * k, "x": x} for k, x in enumerate(values)]
    grown, whole = RunDirectory(tmp_path / "grown"), RunDirectory(tmp_path / "whole")
    grown.write_history(rows[:1])
    grown.append_history(rows[1:2])
    grown.append_history(rows[2:])
    whole.write_history(rows)
    assert grown.history.read_bytes() == whole.history.read_bytes()


def test_a_row_that_a_full_disk_cuts_is_taken_back(tmp_path, monkeypatch):
    directory = RunDirectory(tmp_path)
    directory.write_history([{"k": 0, "t": 0.0}])
    before = directory.history.read_bytes()
    opened = type(directory.history).open

    def full(path, *args, **more):
        file = opened(path, *args, **more)

        class Full:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, text):
                file.write(text[:3])
                file.flush()
                raise OSError(28, os.strerror(28))

            def __getattr__(self, name):
                return getattr(file, name)

        return Full()

    monkeypatch.setattr(type(directory.history), "open", full)
    with pytest.raises(OSError, match="No space left"):
        directory.append_history([{"k": 1, "t": 1.0}, {"k": 2, "t": 2.0}])
    assert directory.history.read_bytes() == before


def test_all_times_that_arrays_are_written_cost_as_the_length_of_the_run():
    """Rows written, over the rows that there are: bounded, whereas writing them each time gives half their number."""
    shares = []
    for length in (1000, 10_000, 100_000):
        written = [k + 1 for k in range(length) if is_written(k)]
        shares.append(sum(written) / length)
        gaps = np.diff([k for k in range(length) if is_written(k)])
        assert gaps.max() <= max(1, length / EACH)
    assert max(shares) < 130
