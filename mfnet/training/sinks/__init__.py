"""Where the record of a run goes: files, TensorBoard, other loggers."""

from mfnet.training.sinks.files import Files
from mfnet.training.sinks.loggers import CurveLogger
from mfnet.training.sinks.tensorboard import TensorBoard

__all__ = ["CurveLogger", "Files", "TensorBoard"]
