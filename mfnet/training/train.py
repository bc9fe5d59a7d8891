"""A setup trained: Lightning's trainer around a module, a task, what looks at them, and where that goes."""

from __future__ import annotations

import functools
import inspect
import io
import shutil
import sys
import threading
from collections.abc import Sequence
from contextlib import redirect_stderr
from multiprocessing import parent_process
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Checkpoint as AnyCheckpoint
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from mfnet.compute.launch import FellowEndedError, launch
from mfnet.compute.processes import ALONE, Processes
from mfnet.data import ObservedData
from mfnet.record.contents import Contents
from mfnet.record.directory import RunDirectory
from mfnet.setup import settings
from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.pieces import Builder, name_of, told
from mfnet.setup.setup import Setup
from mfnet.theory.initial import as_drawn
from mfnet.training.build import Pieces
from mfnet.training.callbacks import Interruption, LastCheckpoint, Observable, Observer, RunProgress
from mfnet.training.callbacks.recording import Recording
from mfnet.training.checkpoint import Checkpoint
from mfnet.training.checks import callback_keys, check_columns, check_devices, check_pieces, check_steps, n_processes
from mfnet.training.module import MeanFieldModule
from mfnet.training.quiet import quiet
from mfnet.training.recorder import Recorder, say
from mfnet.training.row import Sink
from mfnet.training.run import Run
from mfnet.training.sinks import CurveLogger, Files, TensorBoard
from mfnet.training.strategy import DividedStrategy, OwnEnvironment, is_of_another


@functools.cache
def _say_once(line: str) -> None:
    """Tells the user something, for all runs of this process."""
    say(line)


class Training:
    """A run that is about to start: its pieces are checked, and nothing is written yet.

    Where the run is divided among processes, each makes this; the first one alone looks and writes, at what is gathered
    from all.

    Args:
        setup: What is run.
        directory: Where its files go, if anywhere.
        checkpoint: Where to go on from.
        in_sweep: Whether it is one of many, which draw no figures unless they are asked to.

    Raises:
        SettingError: If its pieces do not go with one another, or with this machine.

    Attributes:
        pieces: What the setup describes.
        times: The observation times.
        callbacks: What looks at the run.
        predictions: What theories say, on the process that looks.
    """

    def __init__(
        self,
        setup: Setup,
        directory: RunDirectory | None = None,
        checkpoint: Checkpoint | None = None,
        *,
        in_sweep: bool = False,
    ):
        self.setup, self.directory, self.checkpoint, self.in_sweep = setup, directory, checkpoint, in_sweep
        size = n_processes(setup)
        self.processes = Processes(setup.trainer["divide"], launch().rank, size) if size > 1 else ALONE
        self.pieces = Pieces(setup, self.processes)
        check_devices(setup)
        check_pieces(self.pieces)
        self._check_options()
        self.times = self.pieces.theories.times
        if checkpoint is not None:
            self.times = checkpoint.extend(self.times)
        check_steps(self.pieces, self.times)
        self._placed: list[ModelCheckpoint] = []
        self.callbacks = self._callbacks() if self.first else []
        theories = self.pieces.theories
        self.predictions = [theories.prediction(name, self.times) for name in theories.names] if self.first else []
        check_columns(self.predictions)

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
        drawn = as_drawn(setup.network["init"], setup.M, setup.d)
        among += f", {drawn}" if drawn else ""
        return f"{symbols}: {flow} {steps} {since}to t = {self.times[-1]:g}, {pieces.precision}{among}"

    def run(self) -> Run:
        """Trains, and returns what is left; on all processes but the first, the network alone is right."""
        with quiet():
            return self._run()

    def _run(self) -> Run:
        pieces, setup = self.pieces, self.setup
        data = pieces.data
        data.schedule = self.times
        seeds = pieces.seeds if setup.replicas > 1 else ()
        module = MeanFieldModule(pieces.networks, pieces.loss, setup.alpha, pieces.flow, pieces.rules, seeds)
        recorder, loggers, versions = self.recorder()
        progress = [RunProgress(self.predictions)] if self.first and self.shows_progress else []
        last = self.directory.checkpoint if self.directory is not None else None
        recordings = [Recording(recorder)] if self.first else []
        callbacks = [*self.callbacks, *recordings, *progress, LastCheckpoint(last, setup, versions)]
        try:
            self.fit(module, data, callbacks, loggers)
        finally:
            self.part_with(recorder)
        return self.ended(recorder)

    def fit(
        self, module: MeanFieldModule, data: ObservedData, callbacks: Sequence[Callback], loggers: Sequence[Logger] = ()
    ) -> None:
        """Lets Lightning train a module as this run asks for, from its checkpoint if it has one.

        Args:
            module: The module.
            data: What it learns from, and when.
            callbacks: What looks at it.
            loggers: Lightning's loggers.
        """
        setup, every = self.setup, list(callbacks)
        if threading.current_thread() is threading.main_thread():
            every.append(Interruption())
        if self.processes.divide is None:
            # Lightning has taken it from variables that may be others'
            rank_zero_only.rank = 0  # type: ignore[attr-defined]  # set where it is defined
        trainer = lightning.Trainer(
            accelerator=self._accelerator(),
            devices=self.processes.size // setup.trainer["nodes"],
            num_nodes=setup.trainer["nodes"],
            strategy=DividedStrategy() if self.processes.divide else "auto",
            precision="64-true" if module.network.w.dtype is torch.float64 else "32-true",
            max_epochs=1,
            logger=list(loggers) or False,
            enable_checkpointing=any(isinstance(callback, AnyCheckpoint) for callback in every),
            enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in every),
            enable_model_summary=False,
            callbacks=every,
            default_root_dir=self.directory.path if self.directory is not None else None,
            **{**({} if self.processes.divide else {"plugins": OwnEnvironment()}), **self.options()},
        )
        path = self.checkpoint.path if self.checkpoint is not None else None
        try:
            trainer.fit(module, datamodule=data, ckpt_path=path)
        except SystemExit:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None
        except RuntimeError as error:
            if isinstance(trainer.strategy, DividedStrategy) and is_of_another(error):
                raise FellowEndedError(trainer.strategy.died) from error
            raise
        if module.interrupted and self.in_sweep:  # too late for this run, and not for the next
            raise KeyboardInterrupt

    def _accelerator(self) -> str:
        """What Lightning takes: a GPU that CUDA knows, if there is one and any may be taken, or the CPU."""
        if self.setup.trainer["accelerator"] == "cpu":
            return "cpu"
        if torch.cuda.is_available():
            return "cuda"
        if torch.backends.mps.is_available() and self.first:
            _say_once("trains on the CPU: Apple's GPU (MPS) has no float64; trainer.accelerator=cpu says so too")
        return "cpu"

    def recorder(self, *, live: bool = True) -> tuple[Recorder, list[Logger], dict[str, str]]:
        """What records the run on this process, Lightning's loggers, and what each logger calls the run.

        Args:
            live: Whether TensorBoard's files are written as the run goes, rather than in bulk.

        Raises:
            InvalidSettingError: If a logger cannot be made.
        """
        if self.directory is not None and self.first and self.checkpoint is None:
            shutil.rmtree(self.directory.tensorboard, ignore_errors=True)  # of a run that had no checkpoint yet
        loggers, sinks = self._sinks(live=live) if self.first else ([], [])
        observers = [callback for callback in self.callbacks if isinstance(callback, Observer)]
        setup = self.setup
        recorder = Recorder(observers, self.predictions, sinks, setup.config, setup.identity, self._of_theories)
        versions = {sink.called: sink.version for sink in sinks if isinstance(sink, CurveLogger) and sink.version}
        return recorder, loggers, versions

    def part_with(self, recorder: Recorder) -> None:
        """Closes what the run alone has opened."""
        for sink in recorder.sinks:
            if isinstance(sink, CurveLogger):
                sink.close()
        for callback in self._placed:  # which may look at another run
            callback.dirpath = None

    def ended(self, recorder: Recorder) -> Run:
        """The run, when it has ended."""
        theories = {prediction.name: prediction.theory for prediction in self.predictions}
        network = self.pieces.networks
        where = self.directory.path if self.directory is not None else None
        contents = recorder.contents or Contents({}, {}, {})  # on processes that do not look
        return Run(self.setup, contents, lambda: network, lambda: theories, where)

    def _of_theories(self) -> dict[str, Any]:
        """What the summary says of the theories; ``trust`` of all that there are, ``overlaid`` of those of the run."""
        theories = self.pieces.theories
        trusted = theories.trusted(self.times)
        laid = theories.laid({prediction.name: prediction.theory for prediction in self.predictions}, trusted)
        return {
            "trust": {entry.prediction: {"until": entry.until, "because": entry.because} for entry in trusted},
            "overlaid": laid,
        }

    @property
    def shows_progress(self) -> bool:
        """Whether its progress is shown; of several processes of a sweep the first one shows its own."""
        asked = self.setup.trainer["progress"]
        shown = (sys.stdout.isatty() and parent_process() is None) or "ipykernel" in sys.modules
        return shown if asked is None else asked

    def options(self) -> dict[str, Any]:
        """Options of Lightning's trainer that are not set here."""
        build = Builder(self.setup.config, self.setup.objects)
        keys = {name: f"trainer.{name}" for name in self.setup.trainer}
        names = [name for name, key in keys.items() if key not in settings.BY_KEY or key in settings.LIGHTNINGS]
        return {name: build(f"trainer.{name}") for name in names if name != "callbacks"}

    def _check_options(self) -> None:
        """Lets Lightning's trainer look at its options.

        Raises:
            InvalidSettingError: If it refuses them.
        """
        options = self.options()
        if not options:
            return
        try:
            with quiet(), redirect_stderr(io.StringIO()):
                lightning.Trainer(
                    accelerator="cpu",
                    logger=False,
                    enable_checkpointing=False,
                    max_epochs=1,
                    **{"plugins": OwnEnvironment(), **options},
                )
        except Exception as error:  # of many kinds
            named = ", ".join(f"{name}={self.setup.trainer[name]}" for name in options)
            raise InvalidSettingError("trainer", named, told(error)) from error

    def _callbacks(self) -> list[Callback]:
        """What the setup says looks at the run; functions of an observation are observers.

        Raises:
            InvalidSettingError: If one cannot be made, or has nowhere to write.
        """
        build = Builder(self.setup.config, self.setup.objects)
        callbacks: list[Callback] = []
        for key in callback_keys(self.setup):
            target, name = build.target(key), key.rpartition(".")[2]
            if inspect.isclass(target) or isinstance(target, Callback):
                callback: Callback = build(key)
            else:
                given = {inner: build(f"{key}.{inner}") for inner in build.at(key) if inner[0] != "_"}
                callback = Observable(functools.partial(target, **given) if given else target, name)
            if any(callback is other for other in callbacks):
                raise InvalidSettingError(key, type(callback).__name__, "is there already, under another name")
            if isinstance(callback, Observer):
                callback.called = name
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                if self.directory is None:
                    raise InvalidSettingError(key, "ModelCheckpoint", "writes files; give it a dirpath, or a directory")
                callback.dirpath = str(self.directory.checkpoint.parent.absolute())
                self._placed.append(callback)
            callbacks.append(callback)
        return callbacks

    def _sinks(self, *, live: bool) -> tuple[list[Logger], list[Sink]]:
        """Lightning's loggers, and where the record goes.

        Raises:
            InvalidSettingError: If one cannot be made, or has nowhere to write.
        """
        directory, checkpoint, setup = self.directory, self.checkpoint, self.setup
        loggers: list[Logger] = []
        sinks: list[Sink] = [self._files(directory)] if directory is not None else []
        build = Builder(setup.config, setup.objects)
        for name in setup.logger:
            key = f"logger.{name}"
            target = build.target(key)
            own = isinstance(target, Logger)
            if not own and directory is None:
                if setup.asked is not None and setup.asked.mentions("logger"):
                    raise InvalidSettingError("logger", name, "writes files; give a directory")
                continue
            if not own and issubclass(target, TensorBoard):
                goes_on = checkpoint.k if checkpoint is not None else None
                tensorboard = build(key, directory=directory, config=setup.config, goes_on=goes_on, live=live)
                sinks.append(tensorboard)
                loggers.append(tensorboard.logger)
                continue
            version = checkpoint.loggers.get(name) if checkpoint is not None else None
            try:
                logger = target if own else self._logger(name, target, version)
                sink = CurveLogger(logger, setup.config, checkpoint is not None, name, version, closes=not own)
            except SettingError:
                raise
            except Exception as error:  # a server may be gone, or want to know who asks
                raise InvalidSettingError("logger", name, f"cannot be started: {told(error)}") from error
            loggers.append(logger)
            sinks.append(sink)
        return loggers, sinks

    def _files(self, directory: RunDirectory) -> Files:
        """The files of the run; one that has figures gets new ones."""
        asked = self.setup.figures
        draws = not self.in_sweep or directory.figures.exists() if asked is None else asked
        return Files(directory, self.pieces.data.fitted, draws=draws)

    def _logger(self, name: str, target: type, version: str | None) -> Logger:
        """A logger of Lightning's that writes into the run's directory, or goes on with what it has logged."""
        assert self.directory is not None
        parameters = inspect.signature(target).parameters
        given = {key: value for key, value in self.setup.logger[name].items() if value is not None}
        if "save_dir" in parameters and "save_dir" not in given:
            usual = parameters["save_dir"].default
            inside = usual if isinstance(usual, str) else ""
            given["save_dir"] = str((self.directory.path / inside).absolute())
        for called in {"name", "run_name"} & set(parameters):
            if parameters[called].default is None:
                given.setdefault(called, self.setup.name)
        if version is not None and "run_id" in parameters:
            given.setdefault("run_id", version)
        elif version is not None and "id" in parameters:
            given = {"id": version, "resume": "allow", **given}
        logger: Logger = Builder({"logger": {name: given}}, self.setup.objects)(f"logger.{name}")
        return logger
