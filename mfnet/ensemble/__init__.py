"""R replicas trained side by side as one batched computation, each with its own steps and its own end."""

from mfnet.ensemble.averaged import EnsembleAveraged
from mfnet.ensemble.fixed_step import EnsembleEuler, EnsembleRotation
from mfnet.ensemble.flow import EnsembleFlow
from mfnet.ensemble.replicas import Batches, Replicas

__all__ = ["Batches", "EnsembleAveraged", "EnsembleEuler", "EnsembleFlow", "EnsembleRotation", "Replicas"]
