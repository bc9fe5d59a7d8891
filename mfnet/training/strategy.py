"""How Lightning runs several processes whose network or examples are divided."""

from __future__ import annotations

import signal

from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy


class DividedStrategy(DDPStrategy):
    """Lightning's DDP, its launcher and process group (gloo on CPUs, nccl on GPUs), without its wrapper of the module.

    Flows sum drives and outputs themselves and use no autograd, and DDP would overwrite the shares of nodes with
    those of the first process. Processes are started by torchrun, or else by Lightning.
    """

    def __init__(self) -> None:
        torchrun = TorchElasticEnvironment.detect()
        super().__init__(cluster_environment=TorchElasticEnvironment() if torchrun else LightningEnvironment())

    def configure_ddp(self) -> None:
        """Leaves the module as it is."""

    def on_exception(self, exception: BaseException) -> None:
        """Ends the other processes, which may wait for this one."""
        if self.launcher is not None:
            self.launcher.kill(signal.SIGKILL)
