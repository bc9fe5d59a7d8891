"""What makes two runs the same."""

from __future__ import annotations

import pytest

from mfnet.collection.settings import settings
from mfnet.record.identity import identity, run_name
from mfnet.setup.settings import Effect, kept

CONFIG = {"M": 400, "N": 10000, "d": 100, "alpha": 1.0, "seed": 3, "stop": {"satisfied": 1.0, "wall_seconds": None}}
CONFIG |= {"trainer": {"precision": "auto", "devices": 1}, "ckpt": None, "data": {"flip": 0.0, "memory": 2.0}}
CONFIG |= {"schedule": {"t_max": 1.0}, "callbacks": {"node_log": {"n": 10}}, "logger": {"csv": {"name": "csv"}}}

NONE, RECORD, RESULT = Effect.NONE, Effect.RECORD, Effect.RESULT

CHANGES = [
    ({"alpha": 1}, NONE),
    ({"ckpt": "last.ckpt"}, NONE),
    ({"trainer": {"precision": "auto", "devices": 2}}, NONE),
    ({"trainer": {"precision": "auto", "devices": 1, "max_time": "00:01:00:00"}}, NONE),
    ({"stop": {"satisfied": 1.0, "wall_seconds": 60.0}}, NONE),
    ({"data": {"flip": 0.0, "memory": 0.5}}, NONE),
    ({"logger": {}}, NONE),
    ({"stop": {"satisfied": 0.9, "wall_seconds": None}}, RECORD),
    ({"schedule": {"t_max": 2.0}}, RECORD),
    ({"callbacks": {"node_log": {"n": 11}}}, RECORD),
    ({"overlay": {"mine": {"_target_": "my_module.Mine"}}}, RECORD),
    ({"data": {"flip": 0.1, "memory": 2.0}}, RESULT),
    ({"alpha": 1.5}, RESULT),
    ({"seed": 4}, RESULT),
    ({"trainer": {"precision": "float64", "devices": 1}}, RESULT),
]


@pytest.mark.parametrize(("change", "changes"), CHANGES)
def test_directories_checkpoints_and_tables_agree_on_what_a_setting_changes(change, changes):
    changed = {**CONFIG, **change}
    known = [identity(kept(config, Effect.RESULT, Effect.RECORD)) for config in (CONFIG, changed)]
    assert (known[0] == known[1]) is (changes is NONE)
    assert (run_name(CONFIG, known[0]) == run_name(changed, known[1])) is (changes is NONE)
    assert (kept(CONFIG, Effect.RESULT) == kept(changed, Effect.RESULT)) is (changes is not RESULT)
    assert (settings(CONFIG) == settings(changed)) is (changes is NONE)


def test_a_name_begins_with_the_symbols():
    assert run_name(CONFIG, "0123456789") == "M400_N10000_d100_alpha1_seed3_0123456789"
