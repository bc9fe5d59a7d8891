"""Training with Lightning: the module, its callbacks, and a run of them."""

from mfnet.training.callbacks import ExampleLog, KernelLog, NodeAgreement, NodeLog, Observer, ReplicaLog, TheoryOverlay
from mfnet.training.module import MeanFieldModule
from mfnet.training.observation import Observation
from mfnet.training.run import TrainerOptions, run

__all__ = [
    "ExampleLog",
    "KernelLog",
    "MeanFieldModule",
    "NodeAgreement",
    "NodeLog",
    "Observation",
    "Observer",
    "ReplicaLog",
    "TheoryOverlay",
    "TrainerOptions",
    "run",
]
