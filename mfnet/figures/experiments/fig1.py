"""Fig. 1 of the paper: ``experiment=fig1``, or with the paper's own steps ``experiment=fig1 paper=fig1_euler``."""

from __future__ import annotations

from pathlib import Path

from mfnet.collection import Collection
from mfnet.figures import figure1, style
from mfnet.figures.experiments import caption, saved


def draw(collection: Collection, path: Path) -> Path:
    """Nodes, clock, and projections against the time of satisfaction, of the first run; its end beside the caption."""
    path.parent.mkdir(parents=True, exist_ok=True)
    directory = next(saved.directories(collection))
    figure, summary = figure1.draw(directory.read()), directory.read_summary()
    lines = [f"$t$ = {style.number(summary['t_end'])}", *caption.lines(summary)]
    figure.suptitle("\n".join(lines), fontsize=11)
    figure.savefig(path)
    return path
