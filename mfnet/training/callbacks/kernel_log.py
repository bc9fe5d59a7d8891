"""Follows the tangent kernel of the network: how lazy it is, measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from mfnet.network import MeanFieldNetwork
from mfnet.network.tangent_kernel import kernel_motion, tangent_kernel
from mfnet.training.callbacks.observer import Observer, Value
from mfnet.training.observation import Observation

#: Series that this callback adds to each observation.
KERNEL_CHANGE, KERNEL_ALIGNMENT = "kernel_change", "kernel_alignment"


class KernelLog(Observer):
    """Adds ‖K_t − K₀‖/‖K₀‖ and the alignment ⟨K_t, K₀⟩/(‖K_t‖‖K₀‖) to each observation.

    An observation costs 2nM(d + 2n) operations more.

    Args:
        n: Number of training examples between which the kernel is taken, the first ones; all if there are fewer.
    """

    of_one_network: ClassVar[bool] = True

    def __init__(self, n: int = 200):
        if n < 1:
            raise ValueError(f"n={n} must be at least 1")
        self.n = n
        self._initial: Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._initial = None

    def observe(self, observation: Observation) -> Mapping[str, Value]:
        network = observation.networks
        assert isinstance(network, MeanFieldNetwork)
        x = observation.tasks[0].train.x[: self.n].to(network.w)
        if self._initial is None:  # not in the checkpoint: the network keeps its initial nodes
            self._initial = tangent_kernel(network, x, initial=True)
        change, alignment = kernel_motion(tangent_kernel(network, x), self._initial)
        return {KERNEL_CHANGE: change, KERNEL_ALIGNMENT: alignment}
