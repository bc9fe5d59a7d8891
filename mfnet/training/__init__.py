"""Training with Lightning: the module, its callbacks, and a run of them."""

from mfnet.training.callbacks import ExampleLog, KernelLog, NodeAgreement, NodeLog, Observer, ReplicaLog, TheoryOverlay
from mfnet.training.ensemble_module import EnsembleModule
from mfnet.training.module import MeanFieldModule
from mfnet.training.observation import Observation
from mfnet.training.observed_module import ObservedModule
from mfnet.training.run import TrainerOptions, run

__all__ = [
    "EnsembleModule",
    "ExampleLog",
    "KernelLog",
    "MeanFieldModule",
    "NodeAgreement",
    "NodeLog",
    "Observation",
    "ObservedModule",
    "Observer",
    "ReplicaLog",
    "TheoryOverlay",
    "TrainerOptions",
    "run",
]
