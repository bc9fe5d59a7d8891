"""Fig. 1 of the paper: ``experiment=fig1``."""

from __future__ import annotations

from pathlib import Path

from mfnet.collection import Collection
from mfnet.figures import figure1
from mfnet.figures.experiments import saved


def draw(collection: Collection, path: Path) -> Path:
    """Nodes, clock, and projections against the time of satisfaction, of the first run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure1.draw(next(saved.directories(collection)).read()).savefig(path)
    return path
