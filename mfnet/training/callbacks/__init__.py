"""Callbacks that look at a run: what it logs, what is laid over it, what it leaves."""

from mfnet.training.callbacks.checkpoint import LastCheckpoint
from mfnet.training.callbacks.example_log import ExampleLog
from mfnet.training.callbacks.kernel_log import KernelLog
from mfnet.training.callbacks.node_agreement import NodeAgreement
from mfnet.training.callbacks.node_log import NodeLog
from mfnet.training.callbacks.observer import Observer
from mfnet.training.callbacks.progress import RunProgress
from mfnet.training.callbacks.replica_log import ReplicaLog
from mfnet.training.callbacks.run_files import RunFiles
from mfnet.training.callbacks.sigterm import SigtermIsCtrlC
from mfnet.training.callbacks.theory_overlay import TheoryOverlay, overlays

__all__ = [
    "ExampleLog",
    "KernelLog",
    "LastCheckpoint",
    "NodeAgreement",
    "NodeLog",
    "Observer",
    "ReplicaLog",
    "RunFiles",
    "RunProgress",
    "SigtermIsCtrlC",
    "TheoryOverlay",
    "overlays",
]
