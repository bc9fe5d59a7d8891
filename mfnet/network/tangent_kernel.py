"""The tangent kernel of an actual network, and how far it has moved: the measured degree of laziness.

    K(x, x') = (1/M) Σ_i [σ(z_i)σ(z_i') + a_i² σ′(z_i)σ′(z_i') x·x'/d]

is M times the product of the gradients of f, which is what drives margins in mean-field time. It stays as it is at
t = 0 for a lazy network (α → ∞), and turns towards ŵ* for a rich one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.network import MeanFieldNetwork


@torch.no_grad()
def tangent_kernel(
    network: MeanFieldNetwork, x: Float[Tensor, "n d"], *, initial: bool = False
) -> Float[Tensor, "n n"]:
    """K(x, x) in float64, whatever the network's type: two kernels differ by little in the lazy regime.

    It costs 2nM(d + 2n) operations. Of a network that is divided by nodes, every process must call it.

    Args:
        network: The network.
        x: Inputs.
        initial: Whether to take the initial nodes, which a network keeps, instead of the present ones.
    """
    a, w = (network.a0, network.w0) if initial else (network.a, network.w)
    x = x.double()
    values, slopes = x.new_zeros(len(x), len(x)), x.new_zeros(len(x), len(x))
    for nodes, *_ in network.node_tiles(network.a0, network.w0):
        z = w[nodes].double() @ x.T / math.sqrt(network.d)
        gate = network.activation.derivative(z) * a[nodes, None].double()
        s = network.activation.value(z)
        values += s.T @ s
        slopes += gate.T @ gate
    partial = values + slopes * (x @ x.T / network.d)
    return network.processes.sum_nodes(partial).div_(network.M)


class KernelMotion(NamedTuple):
    """How far a kernel is from an earlier one.

    Attributes:
        change: ‖K − K₀‖/‖K₀‖ in the Frobenius norm.
        alignment: ⟨K, K₀⟩/(‖K‖‖K₀‖): 1 where only the scale of the kernel has changed.
    """

    change: float
    alignment: float


def kernel_motion(kernel: Float[Tensor, "n n"], initial: Float[Tensor, "n n"]) -> KernelMotion:
    """How far ``kernel`` is from ``initial``.

    >>> kernel_motion(2.0 * torch.eye(4), torch.eye(4))
    KernelMotion(change=1.0, alignment=1.0)
    """
    size, size0 = kernel.norm(), initial.norm()
    return KernelMotion(float((kernel - initial).norm() / size0), float((kernel / size * (initial / size0)).sum()))
