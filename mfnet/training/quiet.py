"""What a run changes in its process while it lasts, and puts back."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from mfnet.compute.launch import PARENT

#: What Lightning says of loaders, hardware and its own innards: a schedule has no workers.
_MESSAGES = (
    ".*does not have many workers.*",
    ".*number of training batches.*",
    ".*LeafSpec.*",
    ".*GPU available.*",
    ".*ModelCheckpoint with manual optimization.*",  # it keeps what was observed
    ".*Previous log files in this directory will be deleted.*",  # and written again, as a whole
    ".*`srun` command is available on your system but is not used.*",  # nor is it meant to be
)

#: Levels of Lightning's loggers: a profiler speaks on one of them.
_LEVELS = {
    "lightning.pytorch": logging.WARNING,
    "lightning.fabric": logging.WARNING,
    "lightning.pytorch.profilers": logging.INFO,
}

#: Environment that Lightning sets, with what a run sets itself: MLflow is not to report its use, and to write files.
_ENVIRONMENT = {
    "CUBLAS_WORKSPACE_CONFIG": None,
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    PARENT: None,
}


#: What a run changes is the whole process's: runs in several threads follow one another.
_ALONE = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, Lightning says only what matters; afterwards the process is as it was.

    That are filters of warnings, levels of loggers, signal handlers, torch's choice of deterministic algorithms, the
    environment, what Lightning takes for the number of the process, and what is said of exceptions in threads.
    """
    with _ALONE:
        yield from _quiet()


def _tell_of_thread(tell: Callable[[threading.ExceptHookArgs], object], failed: threading.ExceptHookArgs) -> None:
    """Tells of an exception in a thread, but not that TensorBoard's cannot write: whoever gives it more learns that."""
    if not issubclass(failed.exc_type, OSError):
        tell(failed)


def _quiet() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in _LEVELS}
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if main else {}
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    environment = {name: os.environ.get(name) for name in _ENVIRONMENT}
    rank = rank_zero_only.rank  # type: ignore[attr-defined]  # set where it is defined
    of_threads = threading.excepthook
    try:
        threading.excepthook = partial(_tell_of_thread, of_threads)
        with warnings.catch_warnings():
            for message in _MESSAGES:
                warnings.filterwarnings("ignore", message=message)
            for name, level in _LEVELS.items():
                logging.getLogger(name).setLevel(level)
            for name, value in _ENVIRONMENT.items():
                if value is not None:
                    os.environ.setdefault(name, value)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for number, handler in handlers.items():
            if handler is not None:  # None: it is not Python's
                signal.signal(number, handler)
        if deterministic[0] != torch.are_deterministic_algorithms_enabled() or deterministic[0]:
            torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        torch.backends.cudnn.benchmark = benchmark
        rank_zero_only.rank = rank  # type: ignore[attr-defined]
        threading.excepthook = of_threads
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
