"""How Lightning runs one process, or several whose network or examples are divided."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from mfnet.compute.launch import PARENT, launch, starter_lives

#: Seconds in which a process ends by itself when another has died; then it is ended.
PATIENCE = 10.0

#: Seconds between two looks at the others.
_EVERY = 0.5


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

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        if self._main_port == -1:
            by_it = self._launch.by == "lightning"
            self._main_port = int(os.environ["MASTER_PORT"]) if by_it else _free_port()
        return self._main_port

    def local_rank(self) -> int:
        return self._launch.rank if self._launch.by == "lightning" else 0

    def node_rank(self) -> int:
        return 0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


class Launcher(_SubprocessScriptLauncher):
    """Lightning's, whose processes look after one another: where one has died, the others end too.

    The first one looks at those that it has started, and they at it. Most learn it at once from what they compute
    together, and end as an exception ends them; after `PATIENCE` they are ended.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._over = threading.Event()

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        if launch().by == "lightning":
            self._watch(lambda: "" if starter_lives() else "the first process of this run has died")
        elif not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            self._watch(self.dead)
        _set_num_threads_if_needed(num_processes=self.num_processes)
        returned = function(*args, **kwargs)
        self._over.set()
        return returned

    def kill(self, signum: Any) -> None:
        if not self.dead():
            self._over.set()
        super().kill(signum)

    def dead(self, seconds: float = 0.0) -> str:
        """Which process has died, of those that were started here, and how; nothing if none does in so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            for number, process in enumerate(self.procs, 1):
                if status := process.poll():
                    how = f"of signal {-status}" if status < 0 else f"with status {status}"
                    return f"process {number} of {self.num_processes} of this run has died {how}"
            if time.monotonic() >= deadline:
                return ""
            time.sleep(0.05)

    def _watch(self, died: Callable[[], str]) -> None:
        """Looks, until this process is done, whether another has died."""

        def watch() -> None:
            while not self._over.wait(_EVERY):
                if (what := died()) and not self._over.wait(PATIENCE):
                    self.kill(signal.SIGKILL)
                    print(f"mfnet: error: {what}", file=sys.stderr, flush=True)
                    os._exit(1)

        threading.Thread(target=watch, daemon=True, name="mfnet processes").start()


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
        self.died = ""

    def configure_ddp(self) -> None:
        """Leaves the module as it is."""

    def _configure_launcher(self) -> None:
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def on_exception(self, exception: BaseException) -> None:
        """Ends the other processes, which may wait for this one; if one has died already, ``died`` says which."""
        if isinstance(self.launcher, Launcher):
            if is_of_another(exception):
                self.died = self.launcher.dead(seconds=1.0) or "another process of this run has died"
            self.launcher.kill(signal.SIGKILL)


def is_of_another(exception: BaseException) -> bool:
    """Whether it says that another process of a divided run cannot be reached any more."""
    return isinstance(exception, dist.DistError) or (isinstance(exception, RuntimeError) and "gloo" in str(exception))
