"""Runs the package from wherever it is called: ``python scripts/benchmark``."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmark.command import main  # noqa: E402  # the package is found from now on

if __name__ == "__main__":
    main()
