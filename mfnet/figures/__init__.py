"""Figures, drawn with matplotlib from the saved files of a run and nothing else."""

from __future__ import annotations

from pathlib import Path

from mfnet.figures import errors, figure1
from mfnet.run_directory import RunDirectory


def draw_figures(directory: RunDirectory) -> list[Path]:
    """Draws every figure of a run and returns their paths; none if only the initial network was observed."""
    if len(directory.read_history()["t"]) < 2:
        return []
    return [figure1.draw(directory), errors.draw(directory)]
