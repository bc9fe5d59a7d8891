"""The command ``mfnet``."""

from __future__ import annotations

from collections.abc import Sequence

from mfnet.cli.imports import uncollected


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0, 1 if a run failed, 2 for a mistake in the settings."""
    with uncollected():
        from mfnet.cli.command import main  # imports Hydra, which a command's own module does without

    return main(argv)
