"""The network, and what is defined with it: activations, margin losses, observables, the tangent kernel."""

from mfnet.network.activations import ACTIVATIONS, Activation, activation_of
from mfnet.network.losses import LOSSES, MarginLoss, loss_of
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
    "activation_of",
    "loss_of",
]
