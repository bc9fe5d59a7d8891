"""R replicas trained side by side as one batched computation, each with its own steps and its own end."""

from typing import Any

from mfnet.ensemble.averaged import EnsembleAveraged
from mfnet.ensemble.fixed_step import EnsembleEuler, EnsembleRotation
from mfnet.ensemble.flow import EnsembleFlow
from mfnet.ensemble.replicas import Batches, Replicas
from mfnet.flow import Averaged, Euler, Flow, Rotation

#: The flow of many for a flow of one.
ENSEMBLE_FLOWS: dict[type[Flow], type[EnsembleFlow[Any]]] = {
    Averaged: EnsembleAveraged,
    Euler: EnsembleEuler,
    Rotation: EnsembleRotation,
}

__all__ = [
    "ENSEMBLE_FLOWS",
    "Batches",
    "EnsembleAveraged",
    "EnsembleEuler",
    "EnsembleFlow",
    "EnsembleRotation",
    "Replicas",
]
