"""What a run changes in its process while it lasts, and puts back."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

#: What Lightning says of loaders, hardware and its own innards: a schedule has no workers.
_MESSAGES = (".*does not have many workers.*", ".*number of training batches.*", ".*LeafSpec.*", ".*GPU available.*")

#: Environment that Lightning sets, with what a run sets itself: MLflow is not to report its use, and to write files.
_ENVIRONMENT = {
    "CUBLAS_WORKSPACE_CONFIG": None,
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
}


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, Lightning says only what matters; afterwards the process is as it was.

    That are filters of warnings, levels of loggers, signal handlers, torch's choice of deterministic algorithms, and
    the environment.
    """
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if main else {}
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    environment = {name: os.environ.get(name) for name in _ENVIRONMENT}
    try:
        with warnings.catch_warnings():
            for message in _MESSAGES:
                warnings.filterwarnings("ignore", message=message)
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            for name, value in _ENVIRONMENT.items():
                if value is not None:
                    os.environ.setdefault(name, value)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for number, handler in handlers.items():
            if handler is not None:  # None: it is not Python's
                signal.signal(number, handler)
        if deterministic[0] != torch.are_deterministic_algorithms_enabled() or deterministic[0]:
            torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        torch.backends.cudnn.benchmark = benchmark
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
