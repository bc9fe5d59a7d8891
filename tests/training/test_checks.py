"""Pieces that do not go with one another are refused before anything is trained."""

from __future__ import annotations

import pytest
import torch

import mfnet
from mfnet.setup.errors import SettingError
from mfnet.training import KernelLog, NodeAgreement, Observer, Training
from mfnet.training.build import Pieces
from mfnet.training.checks import check_gpu_memory

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


class Gpu:
    """What torch says of a GPU with so much memory that is free; it is not there."""

    def __init__(self, monkeypatch, gib):
        for name, value in {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "mem_get_info": lambda device=None: (gib * 2**30, 80 * 2**30),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)


@pytest.mark.parametrize("accelerator", ["gpu", "auto"])
@pytest.mark.parametrize(
    "large",
    [
        {"M": 100_000, "d": 100},
        {"M": 100_000, "d": 100, "trainer.precision": "float64"},
        {"N": 2_000_000, "d": 100, "data.memory": 0.1},  # mapped from a file, and on a GPU as a whole
        {"M": 10_000, "replicas": 8, "d": 100},
    ],
)
def test_what_does_not_fit_a_gpu_is_refused(monkeypatch, accelerator, large):
    Gpu(monkeypatch, 1.0)
    changes = {"M": 20, "N": 30, **large, "theory": None, "trainer.accelerator": accelerator}
    with pytest.raises(SettingError, match=r"needs about .* GiB of a GPU's memory, and 1 GiB are free"):
        check_gpu_memory(Pieces(mfnet.Setup.of(**changes)))
    Gpu(monkeypatch, 70.0)
    check_gpu_memory(Pieces(mfnet.Setup.of(**changes)))
    Gpu(monkeypatch, 1.0)
    check_gpu_memory(Pieces(mfnet.Setup.of(**{**changes, "trainer.accelerator": "cpu"})))


def test_what_is_divided_needs_less_of_each_gpu(monkeypatch):
    """Nodes fill the memory here, and each of four has a quarter of them."""
    Gpu(monkeypatch, 2.5)
    changes = {"M": 400_000, "N": 1000, "d": 100, "theory": None, "trainer.accelerator": "gpu"}
    with pytest.raises(SettingError, match="of a GPU's memory"):
        check_gpu_memory(Pieces(mfnet.Setup.of(**changes)))
    check_gpu_memory(Pieces(mfnet.Setup.of(**changes, **{"trainer.devices": 4, "trainer.divide": "nodes"})))
