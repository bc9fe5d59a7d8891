"""Follows the tangent kernel of the network: how lazy it is, measured."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from mfnet.network import MeanFieldNetwork
from mfnet.network.tangent_kernel import kernel_motion, tangent_kernel
from mfnet.training.callbacks.observer import Observer
from mfnet.training.module import MeanFieldModule
from mfnet.training.observation import Observation

#: Series that this callback adds to each observation.
KERNEL_CHANGE, KERNEL_ALIGNMENT = "kernel_change", "kernel_alignment"


class KernelLog(Observer):
    """Adds ‖K_t − K₀‖/‖K₀‖ and the alignment ⟨K_t, K₀⟩/(‖K_t‖‖K₀‖) to each observation.

    Its place is ahead of what reads observations; `RunFiles` then writes both to the history, the summary and
    TensorBoard. An observation costs 2nM(d + 2n) operations more.

    Args:
        n: Number of training examples between which the kernel is taken, the first ones; all if there are fewer.
    """

    def __init__(self, n: int = 200):
        if n < 1:
            raise ValueError(f"n={n} must be at least 1")
        self.n = n
        self._initial: Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that this process, the only one that has callbacks, has all nodes."""
        assert isinstance(pl_module, MeanFieldModule)
        if pl_module.n_replicas > 1:
            raise ValueError("KernelLog looks at one network: leave it out, or the replicas")
        if pl_module.network.processes.divide == "nodes":
            raise ValueError("KernelLog needs all nodes on one process: divide the run by rows, or leave it out")

    def on_observation(self, trainer: Trainer, module: MeanFieldModule, observation: Observation) -> None:
        assert isinstance(module.network, MeanFieldNetwork)
        x = module.train_batches[0].x[: self.n]
        if self._initial is None:  # not in the checkpoint: the network keeps its initial nodes
            self._initial = tangent_kernel(module.network, x, initial=True)
        change, alignment = kernel_motion(tangent_kernel(module.network, x), self._initial)
        observation.series.update({KERNEL_CHANGE: change, KERNEL_ALIGNMENT: alignment})
