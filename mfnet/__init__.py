"""Wide single-hidden-layer networks, trained beside their mean-field theory.

>>> import mfnet
>>> run = mfnet.train(alpha=1.0, M=40, N=200, d=10, schedule__t_max=10.0, schedule__per_decade=2)
>>> list(run.history[["t", "gamma_network", "gamma_theory"]].columns)
['t', 'gamma_network', 'gamma_theory']
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import Any

__version__ = version("mfnet")

#: Public names, each imported when it is first asked for: torch and Lightning take seconds.
_PUBLIC = {
    "Activation": "mfnet.network.activations",
    "Collection": "mfnet.collection",
    "MarginLoss": "mfnet.network.losses",
    "MeanField": "mfnet.theory",
    "MeanFieldModule": "mfnet.training",
    "MeanFieldNetwork": "mfnet.network",
    "Observer": "mfnet.training",
    "Run": "mfnet.training",
    "Runs": "mfnet.training.python",
    "Setup": "mfnet.setup.setup",
    "SettingError": "mfnet.setup.errors",
    "Theory": "mfnet.theory",
    "collect": "mfnet.collection",
    "load": "mfnet.training.python",
    "sweep": "mfnet.training.python",
    "train": "mfnet.training.python",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mfnet' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
