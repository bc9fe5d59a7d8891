"""How Lightning runs one process, or several whose network or examples are divided."""

from __future__ import annotations

import os
import signal

from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy

from mfnet.compute.launch import PARENT, launch


class OwnEnvironment(LightningEnvironment):
    """Processes that Lightning starts itself, or none: what else has left its variables in the environment is ignored.

    A process alone on a cluster is alone, whatever the job around it was given.
    """

    def __init__(self) -> None:
        super().__init__()
        self._launch = launch()

    @property
    def creates_processes_externally(self) -> bool:
        return self._launch.by == "lightning"

    def local_rank(self) -> int:
        return self._launch.rank if self._launch.by == "lightning" else 0

    def node_rank(self) -> int:
        return 0


class SrunEnvironment(SLURMEnvironment):
    """Processes that srun has started, however it was asked for them: `mfnet.training.checks` looks at their number."""

    def __init__(self) -> None:
        super().__init__(auto_requeue=False)

    def world_size(self) -> int:
        return launch().size

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Leaves them as they are."""

    @staticmethod
    def _validate_srun_used() -> None:
        """It is."""

    @staticmethod
    def _validate_srun_variables() -> None:
        """Takes any."""


class DividedStrategy(DDPStrategy):
    """Lightning's DDP, its launcher and process group (gloo on CPUs, nccl on GPUs), without its wrapper of the module.

    Flows sum drives and outputs themselves and use no autograd, and DDP would overwrite the shares of nodes with
    those of the first process. Processes are started by torchrun or srun, or else by Lightning.
    """

    def __init__(self) -> None:
        environments: dict[str, type[ClusterEnvironment]]
        environments = {"torchrun": TorchElasticEnvironment, "srun": SrunEnvironment}
        by = launch().by
        if by == "alone":
            os.environ[PARENT] = str(os.getpid())  # which those that it starts will know
        super().__init__(cluster_environment=environments.get(by, OwnEnvironment)())

    def configure_ddp(self) -> None:
        """Leaves the module as it is."""

    def on_exception(self, exception: BaseException) -> None:
        """Ends the other processes, which may wait for this one."""
        if self.launcher is not None:
            self.launcher.kill(signal.SIGKILL)
