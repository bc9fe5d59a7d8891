"""A setup trained: Lightning's trainer around a module, a task, what looks at them, and where that goes."""

from __future__ import annotations

import inspect
import logging
import shutil
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Checkpoint as AnyCheckpoint
from lightning.pytorch.loggers import Logger

from mfnet.compute.processes import ALONE, Processes
from mfnet.compute.rank import rank
from mfnet.record.contents import Contents
from mfnet.record.directory import RunDirectory
from mfnet.setup import settings
from mfnet.setup.errors import InvalidSettingError
from mfnet.setup.pieces import Builder, name_of
from mfnet.setup.setup import Setup
from mfnet.theory.prediction import Prediction
from mfnet.training.build import Pieces
from mfnet.training.callbacks import LastCheckpoint, Observable, Observer, RunProgress, SigtermIsCtrlC
from mfnet.training.checkpoint import Checkpoint
from mfnet.training.checks import check_devices, check_pieces, n_processes
from mfnet.training.module import MeanFieldModule
from mfnet.training.recorder import Recorder, Sink
from mfnet.training.run import Run
from mfnet.training.sinks import CurveLogger, Files, TensorBoard
from mfnet.training.strategy import DividedStrategy


def train(setup: Setup, directory: RunDirectory | None = None, checkpoint: Checkpoint | None = None) -> Run:
    """Trains what a setup describes, and returns what it has left.

    Where the run is divided among processes, each calls this; the first one alone looks and writes, at what is
    gathered from all.

    Args:
        setup: What is run.
        directory: Where its files go; without one nothing is written.
        checkpoint: Where to go on from.

    Raises:
        SettingError: If its pieces do not go with one another.
        KeyboardInterrupt: If it was interrupted; what was observed is on disk, if there is a directory.
    """
    return Training(setup, directory, checkpoint).run()


class Training:
    """A run that is about to start: its pieces are checked, and nothing is written yet.

    Args:
        setup: What is run.
        directory: Where its files go, if anywhere.
        checkpoint: Where to go on from.

    Raises:
        SettingError: If its pieces do not go with one another, or with this machine.

    Attributes:
        pieces: What the setup describes.
        times: The observation times.
    """

    def __init__(self, setup: Setup, directory: RunDirectory | None = None, checkpoint: Checkpoint | None = None):
        self.setup, self.directory, self.checkpoint = setup, directory, checkpoint
        size = n_processes(setup)
        self.processes = Processes(setup.trainer["divide"], rank(), size) if size > 1 else ALONE
        self.pieces = Pieces(setup, self.processes)
        check_devices(setup)
        check_pieces(self.pieces)
        self.times = self.pieces.theories.times
        if checkpoint is not None:
            self.times = checkpoint.extend(self.times)

    @property
    def first(self) -> bool:
        """Whether this is the process that looks and writes."""
        return self.processes.rank == 0

    @property
    def headline(self) -> str:
        """What is about to be run, in a line."""
        setup, pieces = self.setup, self.pieces
        symbols = f"M={setup.M} N={setup.N} d={setup.d} alpha={setup.alpha:g} h={setup.h:g} seed={setup.seed}"
        steps = f"steps of {pieces.dt:g}" if pieces.dt is not None else "steps"
        since = f"from t = {self.checkpoint.times[-1]:g} " if self.checkpoint is not None else ""
        among = f", {setup.trainer['divide']} divided among {self.processes.size} processes"
        among = (among if self.processes.size > 1 else "") + (
            f", {setup.replicas} replicas" if setup.replicas > 1 else ""
        )
        flow = name_of(Builder(setup.config, setup.objects).target("flow")).rpartition(".")[2]
        return f"{symbols}: {flow} {steps} {since}to t = {self.times[-1]:g}, {pieces.precision}{among}"

    def run(self) -> Run:
        """Trains, and returns what is left; on all processes but the first, the network alone is right."""
        _quieten()
        pieces, setup = self.pieces, self.setup
        if self.directory is not None and self.first and self.checkpoint is None:
            shutil.rmtree(self.directory.tensorboard, ignore_errors=True)  # of a run that had no checkpoint yet
        data = pieces.data
        data.schedule = self.times
        seeds = pieces.seeds if setup.replicas > 1 else ()
        module = MeanFieldModule(pieces.networks, pieces.loss, setup.alpha, pieces.flow, pieces.rules, seeds)
        names = pieces.theories.names if self.first else []
        predictions = [Prediction(name, pieces.theories.named(name), self.times, pieces.draw) for name in names]
        loggers, sinks = self._sinks() if self.first else ([], [])
        callbacks = self._callbacks() if self.first else []
        observers = [callback for callback in callbacks if isinstance(callback, Observer)]
        recorder = Recorder(observers, predictions, sinks, setup.config, setup.identity, self._trusted)
        progress = [RunProgress(predictions)] if self.first and self._show_progress() else []
        kept = [LastCheckpoint(self.directory.checkpoint, setup.config)] if self.directory is not None else []
        in_main_thread = threading.current_thread() is threading.main_thread()
        every: list[Callback] = [*callbacks, *([recorder] if self.first else []), *progress, *kept]
        every += [SigtermIsCtrlC()] if in_main_thread else []
        trainer = lightning.Trainer(
            accelerator=setup.trainer["accelerator"],
            devices=self.processes.size // setup.trainer["nodes"],
            num_nodes=setup.trainer["nodes"],
            strategy=DividedStrategy() if self.processes.divide else "auto",
            precision="64-true" if module.network.w.dtype is torch.float64 else "32-true",
            max_epochs=1,
            logger=loggers or False,
            enable_checkpointing=any(isinstance(callback, AnyCheckpoint) for callback in every),
            enable_progress_bar=bool(progress),
            enable_model_summary=False,
            callbacks=every,
            **self._options(),
        )
        path = self.checkpoint.path if self.checkpoint is not None else None
        try:
            trainer.fit(module, datamodule=data, ckpt_path=path)
        except SystemExit:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None
        theories = {prediction.name: prediction.theory for prediction in predictions}
        network = pieces.networks
        where = self.directory.path if self.directory is not None else None
        contents = recorder.contents or Contents({}, {}, {})  # on processes that do not look
        return Run(setup, contents, lambda: network, lambda: theories, where)

    def _trusted(self) -> Sequence[Any]:
        return [] if self.pieces.data.online else self.pieces.theories.trusted(self.times)

    def _show_progress(self) -> bool:
        asked = self.setup.trainer["progress"]
        return bool(sys.stdout.isatty() or "ipykernel" in sys.modules) if asked is None else asked

    def _options(self) -> dict[str, Any]:
        """Options of Lightning's trainer that are not set here."""
        build = Builder(self.setup.config, self.setup.objects)
        names = [name for name in self.setup.trainer if f"trainer.{name}" not in settings.BY_KEY]
        return {name: build(f"trainer.{name}") for name in names if name != "callbacks"}

    def _callbacks(self) -> list[Callback]:
        """What the setup says looks at the run; functions of an observation are observers."""
        build = Builder(self.setup.config, self.setup.objects)
        callbacks: list[Callback] = []
        for name in self.setup.callbacks:
            key = f"callbacks.{name}"
            target = build.target(key)
            if isinstance(target, Callback):
                callbacks.append(target)
            elif inspect.isclass(target):
                callbacks.append(build(key))
            else:
                callbacks.append(Observable(target, name))
        if "callbacks" in self.setup.trainer:
            callbacks += build("trainer.callbacks")
        return callbacks

    def _sinks(self) -> tuple[list[Logger], list[Sink]]:
        """Lightning's loggers, and where the record goes."""
        directory, checkpoint, setup = self.directory, self.checkpoint, self.setup
        loggers: list[Logger] = []
        sinks: list[Sink] = [Files(directory, self.pieces.data.fitted)] if directory is not None else []
        build = Builder(setup.config, setup.objects)
        for name in setup.logger:
            key = f"logger.{name}"
            target = build.target(key)
            if isinstance(target, Logger):
                logger = target
            elif directory is None:
                if "logger" in setup.asked:
                    raise InvalidSettingError("logger", name, "writes files; give a directory")
                continue
            elif issubclass(target, TensorBoard):
                goes_on = checkpoint.k if checkpoint is not None else None
                tensorboard = build(key, directory=directory, config=setup.config, goes_on=goes_on)
                sinks.append(tensorboard)
                loggers.append(tensorboard.logger)
                continue
            else:
                given = {**setup.logger[name]}
                if "save_dir" in inspect.signature(target).parameters and given.get("save_dir") is None:
                    given["save_dir"] = str(directory.path)
                logger = Builder({"logger": {name: given}}, setup.objects)(key)
            loggers.append(logger)
            sinks.append(CurveLogger(logger, setup.config, goes_on=checkpoint is not None))
        return loggers, sinks


def _quieten() -> None:
    """Silences what Lightning says of loaders, hardware and its own innards: a schedule has no workers."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*number of training batches.*",
        ".*LeafSpec.*",
        ".*GPU available.*",
    ):
        warnings.filterwarnings("ignore", message=message)
