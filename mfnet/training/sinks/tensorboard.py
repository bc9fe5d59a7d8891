"""TensorBoard: network and each theory are runs of their own that share tags, so that their curves share charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.image import imread
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import custom_scalars, histogram, image

from mfnet.record.contents import Arrays, Contents
from mfnet.record.directory import RunDirectory
from mfnet.theory import Curve
from mfnet.theory.overlay import Nodes
from mfnet.training.row import Row, Sink
from mfnet.training.sinks import tags
from mfnet.training.sinks.events import Events, InBulk, Live

#: Most nodes that have curves, which are three a node; the files have every node that is followed.
CURVES = 10


#: Edges of the bins of histograms, which grow by a tenth from one to the next; TensorBoard joins them.
_POSITIVE = 1e-12 * 1.1 ** np.arange(774)
BINS = np.concatenate([-_POSITIVE[::-1], [0.0], _POSITIVE]).tolist()


class TensorBoard(Sink):
    """Writes curves, nodes and histograms as a run goes, and figures, Margin charts and HParams at its end.

    Args:
        directory: The run directory.
        config: What is run, in plain containers.
        goes_on: Number of the observation that the run goes on from, if it does: later ones are written anew.
        histograms_every: Observations between two histograms.
        live: Whether it writes as the run goes, rather than what it is given at a time, with no file open between.
    """

    called = "tensorboard"

    def __init__(
        self,
        directory: RunDirectory,
        config: Mapping[str, Any],
        goes_on: int | None = None,
        histograms_every: int = 4,
        *,
        live: bool = True,
    ):
        self.directory, self.config, self.histograms_every, self.live = directory, config, histograms_every, live
        self._purge_step = None if goes_on is None else goes_on + 1
        self.logger = TensorBoardLogger(
            str(directory.path),
            name=directory.tensorboard.name,
            version=tags.NETWORK,
            default_hp_metric=False,
            purge_step=self._purge_step,
        )
        self._events: dict[str, Events] = {}
        self._described: set[str] = set()

    def _of(self, side: str) -> Events:
        """The events of the network or of a theory."""
        if side not in self._events:
            folder = self.directory.tensorboard / side
            if not self.live:
                self._events[side] = InBulk(folder, self._purge_step)
            elif side == tags.NETWORK:
                self._events[side] = Live(self.logger.experiment)
            else:
                self._events[side] = Live(SummaryWriter(str(folder), purge_step=self._purge_step))
        return self._events[side]

    def rows(self, new: Sequence[Row], history: Sequence[Mapping[str, float]]) -> None:
        for i, row in enumerate(new, -len(new)):
            self._row(row, {name: values[i] for name, values in new[-1].arrays.get("nodes", {}).items()})
        for events in self._events.values():
            events.flush()

    def _row(self, row: Row, nodes: Arrays) -> None:
        """Adds an observation, at which the followed nodes had these parameters."""
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
        for side, more in self._nodes(row, nodes).items():
            numbers[side] |= more
        for side, own in numbers.items():
            known = side in self._described
            self._described.add(side)
            self._of(side).add_summary(tags.scalars(own, "" if known else tags.STEPS), k)
        if k % self.histograms_every == 0:
            for name, values in zip(Nodes._fields, row.observation.nodes, strict=True):
                counted = histogram(f"nodes/{name}", values[0].cpu().numpy(), BINS)
                self._of(tags.NETWORK).add_summary(counted, k)

    @staticmethod
    def _nodes(row: Row, nodes: Arrays) -> dict[str, dict[str, float]]:
        """The parameters of the first nodes, of the network and of each theory."""
        return {
            side: {
                tags.node(name, i): float(number)
                for name in Nodes._fields
                if (values := nodes.get(f"{name}{suffix}")) is not None
                for i, number in enumerate(values[:CURVES])
            }
            for side, suffix in ((tags.NETWORK, ""), *((theory, f"_{theory}") for theory in row.theories))
        }

    def end(self, contents: Contents, *, finished: bool) -> None:
        if not finished:
            return
        network = self._of(tags.NETWORK)
        network.add_summary(custom_scalars(tags.margin_layout(contents.series)))
        for figure in sorted(Path(self.directory.figures).glob("*.png")):
            network.add_summary(image(f"figures/{figure.stem}", imread(figure)[..., :3], dataformats="HWC"))
        network.flush()
        end = InBulk(self.directory.tensorboard / tags.FINAL)
        for summary in tags.end(self.config, contents.final):
            end.add_summary(summary)
        end.close()
        for theory in (side for side in self._events if side != tags.NETWORK):
            self._events[theory].close()
        self._events.clear()
