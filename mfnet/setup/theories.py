"""The theories of a run, and the times at which it is observed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from mfnet.record.schedule import round_to_digit
from mfnet.setup.errors import InvalidSettingError
from mfnet.setup.pieces import Builder, name_of, resolve, said
from mfnet.setup.setup import Setup
from mfnet.theory import Activation, Auto, Draw, MeanField, Theory, Trust, trust
from mfnet.theory.activations import ACTIVATIONS
from mfnet.theory.losses import LOSSES
from mfnet.theory.prediction import Prediction

#: Why a theory of one run cannot be laid over what is not one run.
OF_ONE_RUN = "speaks of one run; use replicas=1, or leave it out"
ON_A_FIXED_SET = "speaks of a fixed training set, and these data are new at each step; leave it out"
OF_ALL_NODES = "needs all nodes in one process; use trainer.divide=rows, or leave it out"

#: The same, as the reason for a theory of averages.
BECAUSE = {
    OF_ONE_RUN: "there are several replicas",
    ON_A_FIXED_SET: "the examples are new at each step",
    OF_ALL_NODES: "the nodes are divided among processes",
}

#: Why the theory alone is that of averages, unless another is asked for.
NOTHING_DRAWN = "nothing is drawn before a run"


def refused(setup: Setup) -> str | None:
    """Why what speaks of one network, or needs all its nodes, cannot go with this run."""
    if setup.replicas > 1:
        return OF_ONE_RUN
    several = setup.trainer["devices"] * setup.trainer["nodes"] > 1
    return OF_ALL_NODES if several and setup.trainer["divide"] == "nodes" else None


class Theories:
    """What theory says of a run, built on one mean-field solution.

    Args:
        setup: The run.
        draw: Gives what it draws, for theories that speak of it.
        average: Why a theory of averages is to be chosen where the choice is free, if it is.
        online: Whether the examples are new at each step.
    """

    def __init__(self, setup: Setup, draw: Callable[[], Draw], average: str | None = None, *, online: bool = False):
        self.setup, self.draw, self.average, self.online = setup, draw, average, online
        self.reasons: dict[str, str] = {}
        self._build = Builder(setup.config, setup.objects, (setup.mean_field, lambda: self.mean_field))

    @cached_property
    def mean_field(self) -> MeanField:
        """The mean-field solution, before it is given a draw.

        Raises:
            InvalidSettingError: If the theory knows nothing of the activation or the loss.
        """
        records = self._records
        if (unknown := next((key for key, record in records.items() if record is None), None)) is not None:
            key = {"activation": "network.activation", "loss": "loss.name"}[unknown]
            wanted = f"the theory knows nothing of this {unknown}; give it a twin as its `theory`, or use theory=none"
            raise InvalidSettingError(key, self.setup.mean_field[unknown], wanted)
        return self._solution_of(records)

    def _solution_of(self, records: Mapping[str, Any]) -> MeanField:
        config = {"mean_field": {**self.setup.mean_field, **records}}
        solution: MeanField = Builder(config, self.setup.objects)("mean_field")
        return solution

    @property
    def _records(self) -> dict[str, Any]:
        """What the theory knows of activation and loss."""
        return {
            "activation": self._record("network.activation", ACTIVATIONS),
            "loss": self._record("loss.name", LOSSES),
        }

    def _record(self, key: str, known: Mapping[str, Any]) -> Any:
        """What the theory knows of activation or loss: a name, the twin of one of the user's own, or nothing."""
        group, _, leaf = key.partition(".")
        name = getattr(self.setup, group)[leaf]
        if key not in self.setup.objects and name in known:
            return name
        return getattr(self.setup.objects.get(key) or resolve(key, name), "theory", None)

    @cached_property
    def solution(self) -> MeanField:
        """The same, of the actual training set where the data have no law."""
        return self.mean_field.of_draw(self.draw)

    @cached_property
    def unit(self) -> float:
        """The theory's unit of time, to one digit.

        Without a theory of the activation it is that of the linear part of σ, which starts the motion; without one of
        the loss, the hinge's.

        Raises:
            InvalidSettingError: If σ has no linear part, so that times have to be given.
        """
        records = self._records
        if not self.predicts_nothing:
            return round_to_digit(self.solution.time_scale)
        from mfnet.network import activation_of

        name = self.setup.network["activation"]
        if records["activation"] is None:
            own = self.setup.objects.get("network.activation") or resolve("network.activation", name)
            slope = activation_of(own).linear_part(self.setup.network["w_std"])
            if slope < 1e-3:
                times = "give schedule.t_min and schedule.t_max, or schedule=listed, and flow.dt if it has one"
                raise InvalidSettingError(
                    "network.activation", name, f"has no linear part, and so no unit of time; {times}"
                )
            records = {**records, "activation": Activation("linear part", slope)}
        model = self._solution_of({**records, "loss": records["loss"] or "hinge"}).of_draw(self.draw)
        return round_to_digit(model.time_scale)

    @cached_property
    def times(self) -> Float[np.ndarray, " K"]:
        """The observation times."""
        return self._build("schedule", time_scale=self.unit)

    @property
    def names(self) -> list[str]:
        """Names of the theories that are laid over the run, the first of which is ``theory``."""
        return ["theory", *self.setup.overlay]

    @property
    def predicts_nothing(self) -> bool:
        """Whether the theory knows nothing of the activation or of the loss."""
        return None in self._records.values()

    def named(self, name: str) -> Theory:
        """The theory of that name, before it is given a draw; where it is to be chosen, the choice.

        Raises:
            InvalidSettingError: If it is none, or refuses its settings.
        """
        key = name if name == "theory" else f"overlay.{name}"
        theory = self._build(key)
        if not isinstance(theory, Theory):
            wanted = "must be a class derived from mfnet.theory's Theory"
            raise InvalidSettingError(f"{key}._target_", name_of(theory), wanted)
        if isinstance(theory, Auto):
            theory, self.reasons[name] = theory.choose(self.setup.N, self.setup.data.get("n_test", 0), self.average)
        return theory

    def prediction(self, name: str, times: Float[np.ndarray, " K"]) -> Prediction:
        """The theory of that name at these times; one of the user's own is asked for everything, and checked.

        Raises:
            InvalidSettingError: If it fails, or returns what cannot be recorded.
        """
        theory = self.named(name)
        own = type(theory).__module__.partition(".")[0] != "mfnet"
        try:
            prediction = Prediction(name, theory, times, self.draw)
            if own:
                prediction.check()
        except Exception as error:  # a theory of one's own may fail in any way
            if not own:
                raise
            key = name if name == "theory" else f"overlay.{name}"
            raise InvalidSettingError(f"{key}._target_", name_of(theory), said(error)) from error
        return prediction

    def trusted(self, times: Float[np.ndarray, " K"]) -> list[Trust]:
        """Until when each prediction is trustworthy, between the first and last of the times; unknown for real data.

        Of data that are new at each step N is infinite.
        """
        if self.predicts_nothing or self.mean_field.needs_draw:
            return []
        looked = np.union1d(times, np.geomspace(times[1], times[-1], 100)[1:-1]) if len(times) > 2 else times
        return trust(self.mean_field, self.setup.M, np.inf if self.online else self.setup.N, looked)

    def laid(self, theories: Mapping[str, Theory], trusted: Sequence[Trust]) -> dict[str, dict[str, Any]]:
        """What the summary says of each theory that was laid over the run.

        Args:
            theories: By name.
            trusted: Of `trusted`.

        Returns:
            Its ``theory``, ``because`` of one that was chosen, and where it is known ``trusted_until``: of its
            ``errors``, of single ``nodes`` and examples, and of all ``others``; inf to the end.
        """
        until = {entry.prediction: entry.until for entry in trusted}
        result: dict[str, dict[str, Any]] = {}
        for name, theory in theories.items():
            known = theory.trusted_as
            result[name] = {"theory": known or name_of(theory)}
            if name in self.reasons:
                result[name]["because"] = self.reasons[name]
            if known in until:
                others = "mean_field" if known in ("finite_width", "realised_width") else known
                ends = {"errors": until[known], "nodes": until["mean_field"], "others": until[others]}
                result[name]["trusted_until"] = ends
        return result
