"""One observation put together, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from mfnet.record.contents import Arrays, Contents
from mfnet.record.directory import curve_columns
from mfnet.theory import Curve
from mfnet.training.observation import Observation, Spread


@dataclass(frozen=True)
class Row:
    """All that is known of one observation.

    Attributes:
        observation: What was observed.
        series: Every series of the network, observers' among them.
        theories: Each theory's predictions up to this observation, by name.
        measures: Measures of the agreement with each theory.
        arrays: Arrays that observers keep, by the name of their file; of observations that are given to sinks together
            the last has them.
    """

    observation: Observation
    series: Mapping[str, Spread]
    theories: Mapping[str, Mapping[str, Curve]]
    measures: Mapping[str, Mapping[str, float]]
    arrays: Mapping[str, Arrays]

    def curves(self) -> dict[str, float]:
        """The last point of every curve, as ``SERIES/SIDE``: what was seen and predicted of each series, then measures.

        A side is ``network`` or the name of a theory, ``network_std`` and ``network_se`` of replicas, or
        ``THEORY_lo`` and ``THEORY_hi`` for the edges of a band.
        """
        points: dict[str, float] = {}
        predicted = dict.fromkeys(name for curves in self.theories.values() for name in curves)
        for name in dict.fromkeys([*self.series, *predicted]):
            if name in self.series:
                points |= {f"{name}/network{end}": number for end, number in self.series[name].parts().items()}
            for theory, curves in self.theories.items():
                if name in curves:
                    edges = zip(("", "_lo", "_hi"), curves[name], strict=True)
                    points |= {f"{name}/{theory}{end}": float(v[-1]) for end, v in edges if v is not None}
        for theory, measures in self.measures.items():
            points |= {f"{measure}/{theory}": value for measure, value in measures.items()}
        return points

    def predictions(self) -> dict[str, Float[np.ndarray, " K"]]:
        """Every column of the history that theories predict, up to this observation."""
        whole: dict[str, Float[np.ndarray, " K"]] = {}
        for theory, curves in self.theories.items():
            for name, curve in curves.items():
                whole |= curve_columns(name, curve, theory)
        return whole

    def columns(self) -> dict[str, float]:
        """The row of ``history.csv``."""
        curves = {name.replace("/", "_"): value for name, value in self.curves().items()}
        return {"k": self.observation.k, "t": self.observation.t, **curves}


class Sink:
    """Where a record goes.

    A sink that fails is left out from then on: a line says so, and the run goes on.
    """

    #: Whether a run without it is lost, so that its failure ends the run.
    needed: ClassVar[bool] = False

    #: What it is called in the settings.
    called: str = ""

    def rows(self, new: Sequence[Row], history: Sequence[Mapping[str, float]]) -> None:
        """Takes new observations, at least one, and the rows of the history up to the last of them."""

    def end(self, contents: Contents, *, finished: bool) -> None:
        """Takes the whole at the end; not ``finished``, an exception has ended the run, and it may go on."""
