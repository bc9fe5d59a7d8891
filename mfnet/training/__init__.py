"""Training with Lightning: a setup and what becomes of it, the module, and the callbacks that look at it."""

from mfnet.training.callbacks import ExampleLog, KernelLog, LatentLog, NodeAgreement, NodeLog, Observable, Observer
from mfnet.training.module import MeanFieldModule
from mfnet.training.observation import Observation
from mfnet.training.run import Run
from mfnet.training.sinks import TensorBoard
from mfnet.training.train import Training

__all__ = [
    "ExampleLog",
    "KernelLog",
    "LatentLog",
    "MeanFieldModule",
    "NodeAgreement",
    "NodeLog",
    "Observable",
    "Observation",
    "Observer",
    "Run",
    "TensorBoard",
    "Training",
]
