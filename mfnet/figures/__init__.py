"""Figures, drawn with matplotlib from the saved files of a run and nothing else."""

from __future__ import annotations

from pathlib import Path

from mfnet.figures import errors, figure1, nodes
from mfnet.record.directory import RunDirectory


def draw_figures(directory: RunDirectory) -> list[Path]:
    """Draws every figure of a run and returns their paths; none if only the initial network was observed."""
    history = directory.read_history()
    if len(history["t"]) < 2:
        return []
    figures = [figure1.draw(directory), errors.draw(directory)]
    return [*figures, nodes.draw(directory)] if nodes.SHARES[0][0] in history else figures
