"""Callbacks that look at a run and return what they add to its record, and those that keep and end it."""

from mfnet.training.callbacks.checkpoint import LastCheckpoint
from mfnet.training.callbacks.example_log import ExampleLog
from mfnet.training.callbacks.interruption import Interruption
from mfnet.training.callbacks.kernel_log import KernelLog
from mfnet.training.callbacks.latent_log import LatentLog
from mfnet.training.callbacks.node_agreement import NodeAgreement
from mfnet.training.callbacks.node_log import NodeLog
from mfnet.training.callbacks.observer import Observable, Observer
from mfnet.training.callbacks.progress import RunProgress

__all__ = [
    "ExampleLog",
    "Interruption",
    "KernelLog",
    "LastCheckpoint",
    "LatentLog",
    "NodeAgreement",
    "NodeLog",
    "Observable",
    "Observer",
    "RunProgress",
]
