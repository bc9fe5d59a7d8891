"""Steps of a fixed length (`mfnet.flow.Rotation`, `mfnet.flow.Euler`) for all replicas at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mfnet.ensemble import drive
from mfnet.ensemble.drive import Nodes
from mfnet.ensemble.flow import EnsembleFlow
from mfnet.ensemble.replicas import Batches, Replicas
from mfnet.losses import MarginLoss
