"""A run that has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from mfnet.figures import FIGURES, figures_of
from mfnet.record.contents import Arrays, Contents
from mfnet.setup.setup import Setup
from mfnet.theory import Theory

if TYPE_CHECKING:
    from mfnet.network import MeanFieldNetwork, Replicas


class Run:
    """What a run has left: its history, its nodes, its network, and the theories that were laid over it.

    Args:
        setup: What was run.
        contents: History, arrays and summary, as the figures take them.
        network: Gives the network as it is at the end, or the replicas.
        theories: Gives the theories by name, each of the actual draw where it speaks of one.
        directory: Where its files are, if it has left any.
    """

    def __init__(
        self,
        setup: Setup,
        contents: Contents,
        network: Callable[[], MeanFieldNetwork | Replicas],
        theories: Callable[[], Mapping[str, Theory]],
        directory: Path | None = None,
    ):
        self.setup, self.contents, self.directory = setup, contents, directory
        self._network, self._theories = network, theories

    @cached_property
    def network(self) -> MeanFieldNetwork | Replicas:
        """The network as it is at the end, or the replicas: ``a`` (M,), ``w`` (M, d), ``output(x)``."""
        return self._network()

    @cached_property
    def theories(self) -> Mapping[str, Theory]:
        """The theories that were laid over it, by name; the first is ``theory``."""
        return self._theories()

    @cached_property
    def history(self) -> pd.DataFrame:
        """A row an observation: ``k``, ``t``, and for each series ``NAME_network`` and ``NAME_theory``."""
        return pd.DataFrame(dict(self.contents.history)).astype({"k": int})

    @property
    def summary(self) -> Mapping[str, Any]:
        """How it ended and how it compares with each theory, as ``summary.json`` has it."""
        return self.contents.summary

    @property
    def nodes(self) -> Arrays:
        """``t`` (K,), ``a``, ``w_par`` and ``w_perp`` (K, n) of the followed nodes, and the same with ``_theory``."""
        return self.contents.arrays["nodes"]

    @property
    def examples(self) -> Arrays:
        """``x_par`` and ``t_sat`` (n,) of the followed examples, and the theory's curve ``x_theory`` at ``t`` (K,)."""
        return self.contents.arrays["examples"]

    @property
    def replicas(self) -> Arrays:
        """Every series of every replica (K, R), with ``t`` (K,), ``seed`` and ``alpha`` (R,)."""
        return self.contents.arrays["replicas"]

    @property
    def theory(self) -> Theory:
        """The theory that was laid over the run."""
        return self.theories["theory"]

    def figure(self, name: str = "fig1") -> Figure:
        """A figure, which a notebook shows and ``savefig`` writes to a file.

        Args:
            name: 'fig1', 'errors', or what else ``run.figures`` lists.

        Raises:
            ValueError: If there is no such figure of this run.
        """
        if name not in self.figures:
            raise ValueError(f"{name!r} is no figure of this run; there are {', '.join(self.figures) or 'none'}")
        return FIGURES[name](self.contents)

    @property
    def figures(self) -> list[str]:
        """Names of the figures of this run."""
        return figures_of(self.contents)

    def __repr__(self) -> str:
        from mfnet.training.summary import brief

        symbols = " ".join(f"{key}={getattr(self.setup, key):g}" for key in ("M", "N", "d", "alpha", "seed"))
        return f"Run({symbols}: {brief(self.summary)})"
