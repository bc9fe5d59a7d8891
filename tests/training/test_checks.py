"""Pieces that do not go with one another are refused before anything is trained."""

from __future__ import annotations

import pytest

import mfnet
from mfnet.setup.errors import SettingError
from mfnet.training import KernelLog, NodeAgreement, Observer, Training

SMALL = {"M": 20, "N": 30, "d": 5, "theory": None, "logger": [], "trainer": {"accelerator": "cpu"}}
BY_NODES = {"trainer": {"accelerator": "cpu", "devices": 2, "divide": "nodes"}}


class Mine(Observer):
    """Says nothing of what it needs, and so is taken to need all nodes."""


@pytest.mark.parametrize(
    ("observer", "changes", "said"),
    [
        (KernelLog(), BY_NODES, "kernel_log=KernelLog: needs all nodes in one process; use trainer.divide=rows"),
        (KernelLog, BY_NODES, "kernel_log=KernelLog: needs all nodes in one process"),
        (Mine(), BY_NODES, "mine=Mine: needs all nodes in one process"),
        (KernelLog(), {"replicas": 2}, "kernel_log=KernelLog: speaks of one run; use replicas=1"),
        (NodeAgreement(), {"replicas": 2}, "node_agreement=NodeAgreement: speaks of one run; use replicas=1"),
    ],
)
def test_an_observer_that_cannot_look_at_a_run_is_refused(observer, changes, said):
    with pytest.raises(SettingError, match=said):
        Training(mfnet.Setup.of(**{**SMALL, **changes}, callbacks=[observer]))


@pytest.mark.parametrize("changes", [{}, {"trainer": {"accelerator": "cpu", "devices": 2, "divide": "rows"}}])
def test_others_are_not(changes):
    Training(mfnet.Setup.of(**{**SMALL, **changes}, callbacks=[KernelLog(), Mine()]))
