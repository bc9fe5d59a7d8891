"""What makes two runs the same."""

from __future__ import annotations

import pytest

from mfnet.record.identity import identity, run_name

CONFIG = {"M": 400, "N": 10000, "d": 100, "alpha": 1.0, "seed": 3, "stop": {"satisfied": 1.0, "wall_seconds": None}}
CONFIG |= {"trainer": {"precision": "auto", "devices": 1}, "ckpt": None, "data": {"flip": 0.0, "memory": 2.0}}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"alpha": 1}, True),
        ({"ckpt": "last.ckpt"}, True),
        ({"trainer": {"precision": "auto", "devices": 2}}, True),
        ({"stop": {"satisfied": 1.0, "wall_seconds": 60.0}}, True),
        ({"data": {"flip": 0.0, "memory": 0.5}}, True),
        ({"data": {"flip": 0.1, "memory": 2.0}}, False),
        ({"alpha": 1.5}, False),
        ({"seed": 4}, False),
        ({"trainer": {"precision": "float64", "devices": 1}}, False),
        ({"stop": {"satisfied": 0.9, "wall_seconds": None}}, False),
        ({"callbacks": {"closure": {"name": "kernel_closure"}}}, False),
    ],
)
def test_a_run_is_known_by_what_it_computes_and_records(change, same):
    assert (identity({**CONFIG, **change}) == identity(CONFIG)) is same
    assert (run_name({**CONFIG, **change}) == run_name(CONFIG)) is same
    assert run_name(CONFIG).startswith("M400_N10000_d100_alpha1_seed3_")
