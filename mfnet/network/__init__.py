"""The network, and what is defined with it: activations, margin losses, observables, the tangent kernel."""

from mfnet.network.activations import ACTIVATIONS, Activation
from mfnet.network.losses import LOSSES, MarginLoss, margin_loss
from mfnet.network.networks import MeanFieldNetwork, Networks, Nodes, NodeTile, Replicas

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "Activation",
    "MarginLoss",
    "MeanFieldNetwork",
    "Networks",
    "NodeTile",
    "Nodes",
    "Replicas",
    "margin_loss",
]
