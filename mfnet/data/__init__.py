"""Data sets: samplers that take a generator, and the datamodule that pairs them with a schedule."""

from mfnet.data.datamodule import ObservedData, ScheduleLoader, Task
from mfnet.data.examples import Examples
from mfnet.data.replicated import ReplicatedData
from mfnet.data.spherical import SphericalData, flip_labels, label, sample_inputs

__all__ = [
    "Examples",
    "ObservedData",
    "ReplicatedData",
    "ScheduleLoader",
    "SphericalData",
    "Task",
    "flip_labels",
    "label",
    "sample_inputs",
]
