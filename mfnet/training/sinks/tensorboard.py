"""TensorBoard: network and each theory are runs of their own that share tags, so that their curves share charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.image import imread
from torch.utils.tensorboard import SummaryWriter

from mfnet.record.contents import Contents
from mfnet.record.directory import RunDirectory
from mfnet.theory import Curve
from mfnet.theory.overlay import Nodes
from mfnet.training.row import Row, Sink
from mfnet.training.sinks import tags

#: Most nodes that have curves, which are three a node; the files have every node that is followed.
CURVES = 10


class TensorBoard(Sink):
    """Writes curves, nodes and histograms as a run goes, and figures, Margin charts and HParams at its end.

    Args:
        directory: The run directory.
        config: What is run, in plain containers.
        goes_on: Number of the observation that the run goes on from, if it does: later ones are written anew.
        histograms_every: Observations between two histograms.
    """

    called = "tensorboard"

    def __init__(
        self, directory: RunDirectory, config: Mapping[str, Any], goes_on: int | None = None, histograms_every: int = 4
    ):
        self.directory, self.config, self.histograms_every = directory, config, histograms_every
        self._purge_step = None if goes_on is None else goes_on + 1
        self.logger = TensorBoardLogger(
            str(directory.path),
            name=directory.tensorboard.name,
            version=tags.NETWORK,
            default_hp_metric=False,
            purge_step=self._purge_step,
        )
        self._writers: dict[str, SummaryWriter] = {}

    def _writer(self, side: str) -> SummaryWriter:
        """The writer of the network or of a theory."""
        if side == tags.NETWORK:
            return self.logger.experiment
        if side not in self._writers:
            self._writers[side] = SummaryWriter(str(self.directory.tensorboard / side), purge_step=self._purge_step)
        return self._writers[side]

    def row(self, row: Row, rows: Sequence[Mapping[str, float]]) -> None:
        k = row.observation.k
        numbers: dict[str, dict[str, float]] = {tags.NETWORK: {}, **{theory: {} for theory in row.theories}}
        for name, spread in row.series.items():
            numbers[tags.NETWORK] |= tags.points(name, spread.curve())
        for theory, curves in row.theories.items():
            for name, curve in curves.items():
                numbers[theory] |= tags.points(name, curve)
        for theory, measures in row.measures.items():
            for name, value in measures.items():
                numbers[theory] |= tags.points(name, Curve(np.array([value])))
        for side, more in self._nodes(row).items():
            numbers[side] |= more
        for side, own in numbers.items():
            tags.write_scalars(self._writer(side), own, k)
        if k % self.histograms_every == 0:
            for name, values in zip(Nodes._fields, row.observation.nodes, strict=True):
                self._writer(tags.NETWORK).add_histogram(f"nodes/{name}", values[0], k)

    @staticmethod
    def _nodes(row: Row) -> dict[str, dict[str, float]]:
        """The last point of the first trajectories, of the network and of each theory."""
        arrays = row.arrays.get("nodes", {})
        return {
            side: {
                tags.node(name, i): float(number)
                for name in Nodes._fields
                if (values := arrays.get(f"{name}{suffix}")) is not None
                for i, number in enumerate(values[-1, :CURVES])
            }
            for side, suffix in ((tags.NETWORK, ""), *((theory, f"_{theory}") for theory in row.theories))
        }

    def end(self, contents: Contents, *, finished: bool) -> None:
        if not finished:
            return
        writer = self._writer(tags.NETWORK)
        writer.add_custom_scalars(tags.margin_layout(contents.series))
        for figure in sorted(Path(self.directory.figures).glob("*.png")):
            writer.add_image(f"figures/{figure.stem}", imread(figure)[..., :3], dataformats="HWC")
        with SummaryWriter(str(self.directory.tensorboard / tags.FINAL)) as end:
            tags.write_end(end, self.config, contents.final)
        for theory in self._writers.values():
            theory.close()
        self._writers.clear()
