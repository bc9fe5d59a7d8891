"""One run: Lightning's trainer around a module, a task, and what looks at them."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from mfnet.data import ObservedData
from mfnet.record.directory import RunDirectory
from mfnet.theory import Trust
from mfnet.training import tags
from mfnet.training.callbacks import LastCheckpoint, RunFiles, RunProgress, SigtermIsCtrlC
from mfnet.training.checkpoint import Checkpoint
from mfnet.training.module import MeanFieldModule
from mfnet.training.strategy import DividedStrategy


@dataclass(frozen=True)
class TrainerOptions:
    """How and where a run is computed.

    Args:
        accelerator: 'auto', 'cpu' or 'gpu'.
        nodes: Machines of the run.
        progress: Whether to show a progress bar; None shows it on a terminal.
        tensorboard: Whether to write TensorBoard's files.
    """

    accelerator: str = "auto"
    nodes: int = 1
    progress: bool | None = None
    tensorboard: bool = True


def run(
    module: MeanFieldModule,
    data: ObservedData,
    callbacks: Sequence[Callback],
    directory: RunDirectory,
    config: Mapping[str, Any],
    overrides: Sequence[str],
    options: TrainerOptions,
    checkpoint: Checkpoint | None = None,
    trusted: Sequence[Trust] = (),
) -> None:
    """Trains ``module`` on ``data`` over its schedule and leaves the files of `RunDirectory`.

    Where the network is divided among processes, each calls this; the first one alone looks and writes, at what
    is gathered from all.

    Args:
        module: Network, loss and flow.
        data: Task and schedule.
        callbacks: Overlays and logs.
        directory: Where the files go.
        config: What is run, in plain containers, for summary and checkpoint.
        overrides: How it was asked for, for the checkpoint.
        options: How and where it is computed.
        checkpoint: Where to go on from.
        trusted: Until when each prediction is trustworthy, for the summary.
    """
    _quieten()
    logger = TensorBoardLogger(
        str(directory.path),
        name=directory.tensorboard.name,
        version=tags.NETWORK,
        default_hp_metric=False,
        purge_step=checkpoint.k + 1 if checkpoint else None,
    )
    processes = module.network.processes
    first = processes.rank == 0
    show_bar = first and (sys.stdout.isatty() if options.progress is None else options.progress)
    observers = [*callbacks, RunFiles(directory, config, trusted), *([RunProgress()] if show_bar else [])]
    trainer = lightning.Trainer(
        accelerator=options.accelerator,
        devices=processes.size // options.nodes,
        num_nodes=options.nodes,
        strategy=DividedStrategy() if processes.divide else "auto",
        precision="64-true" if module.network.w.dtype is torch.float64 else "32-true",
        max_epochs=1,
        logger=logger if options.tensorboard else False,
        enable_checkpointing=True,
        enable_progress_bar=show_bar,
        enable_model_summary=False,
        callbacks=[
            *(observers if first else []),
            LastCheckpoint(directory.checkpoint, config, overrides),
            SigtermIsCtrlC(),
        ],
    )
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint.path if checkpoint else None)


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
