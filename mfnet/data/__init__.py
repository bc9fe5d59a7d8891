"""Data sets: samplers that take a generator, and the datamodule that pairs them with a schedule.

Real ones are in `mfnet.data.binary`, which imports scikit-learn and therefore is not imported here.
"""

from mfnet.data.datamodule import ObservedData, ScheduleLoader
from mfnet.data.examples import Examples
from mfnet.data.latent import LatentData, OnlineLatentData
from mfnet.data.mixture import GaussianMixture
from mfnet.data.own import OwnData
from mfnet.data.replicated import ReplicatedData
from mfnet.data.spherical import OnlineSphericalData, SphericalData, flip_labels, label, sample_inputs
from mfnet.data.task import Task, task_of

__all__ = [
    "Examples",
    "GaussianMixture",
    "LatentData",
    "ObservedData",
    "OnlineLatentData",
    "OnlineSphericalData",
    "OwnData",
    "ReplicatedData",
    "ScheduleLoader",
    "SphericalData",
    "Task",
    "flip_labels",
    "label",
    "sample_inputs",
    "task_of",
]
