"""R replicas trained side by side as one batched computation, each with its own steps and its own end.

A small network costs the overhead of its operations, not their arithmetic: with M = 100, N = 1000, d = 20 the matrix
products of a run are a fifth of its time. Here one operation serves all replicas that are on their way. Each keeps its
own time, Δt, error, number of sub-steps, accepted or rejected step, and end; examples whose force may change, a
different number in each replica, are padded. Scale α and the data may differ from replica to replica, their sizes not.

**Equal to single flows.** The steps are those of `mfnet.flow`, in another order of summation. In float64 every replica
that was compared has been equal to its single flow to rounding (2·10⁻¹⁶ to 3·10⁻¹⁵ of the displacement of the nodes),
with the same steps, rejections and sub-steps, to its end: 32 with M = 100, N = 1000, d = 20, α = 1 to t = 500, of which
20 had all examples satisfied, eight of them until all had; and other losses, scales and activations. Late chatter does
not amplify the rounding: averaged forces of a hinge are whole multiples of 1/n_sub, the same ones unless a margin
happens to lie within rounding of h in a sub-step. A run in which one does goes another way, as it would on another
number of threads. In float32 18 of the same 32 did, and their nodes ended up to 8 % of the displacement apart.

Measured with them on one thread of a CPU: 3.4 times as fast as one after the other in float64, 5.2 times in float32
(``scripts/benchmark.py --only ensemble``). Nothing of this has been run on a GPU yet.

The flow of one network is the case R = 1 of these in what it computes, but not in how: it gathers rows instead of
padding, divides itself among processes, and streams tiles of nodes; it stays the way for large networks.
"""

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
