"""The theories of a run, and the times at which it is observed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from mfnet.record.schedule import CLOSEST, MOST_OBSERVATIONS, MOST_STEPS, round_to_digit, steps_between
from mfnet.setup.errors import InvalidSettingError
from mfnet.setup.pieces import Builder, name_of, resolve, said
from mfnet.setup.setup import Setup
from mfnet.theory import Activation, Auto, Draw, Hydrodynamic, MeanField, Theory, Trust, trust
from mfnet.theory.activations import ACTIVATIONS
from mfnet.theory.activations import activation_of as activation_record
from mfnet.theory.choice import Choice
from mfnet.theory.losses import LOSSES
from mfnet.theory.prediction import Prediction

if TYPE_CHECKING:
    from mfnet.network import MarginLoss
    from mfnet.network.activations import Activation as NetworkActivation

#: What to do where the mean-field solution does not hold.
_USE = "use theory=hydrodynamic, or theory=none"

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
        objects = {**setup.objects, **self._given_again()}
        self._build = Builder(
            setup.config,
            objects,
            [(setup.mean_field, lambda: self.mean_field), (setup.hydrodynamic, lambda: self.hydrodynamic)],
        )

    def _given_again(self) -> dict[str, Any]:
        """The user's own activation and loss, where a theory has the same one among its settings."""
        again = {}
        for key, leaf in (("network.activation", "activation"), ("loss.name", "loss")):
            for name in self.names if key in self.setup.objects else ():
                theory = self.setup.theory if name == "theory" else self.setup.overlay[name]
                group, _, own = key.partition(".")
                if leaf in theory and theory[leaf] == getattr(self.setup, group)[own]:
                    again[f"{_key(name)}.{leaf}"] = self.setup.objects[key]
        return again

    @cached_property
    def mean_field(self) -> MeanField:
        """The mean-field solution, before it is given a draw.

        Raises:
            InvalidSettingError: If it does not hold for this run.
        """
        if self._departure is not None:
            raise self._departure
        return self._solution_of(self._records)

    @cached_property
    def hydrodynamic(self) -> Hydrodynamic:
        """The hydrodynamic equation, of which the mean-field solution is a special case.

        Raises:
            InvalidSettingError: If it cannot be solved for this run.
        """
        from mfnet.network.twins import activation_twin, loss_twin

        known, rule = self._records, self.setup.hydrodynamic["rule"]
        if isinstance(rule, str) and "." in rule:
            rule = self._own("data.rule", self.setup.data["rule"])
        pieces = {
            "activation": known["activation"] or activation_twin(self._activation),
            "loss": known["loss"] or loss_twin(self._loss),
            "rule": rule,
        }
        equation: Hydrodynamic = self._made("hydrodynamic", pieces)
        return equation

    def _solution_of(self, records: Mapping[str, Any]) -> MeanField:
        """The mean-field solution; latent data are normal ones to it, with labels of the first direction."""
        latent = {"inputs": "normal", "separation": 0.0} if self.setup.mean_field["inputs"] == "latent" else {}
        solution: MeanField = self._made("mean_field", {**records, **latent})
        return solution

    def _made(self, key: str, pieces: Mapping[str, Any]) -> Any:
        """A theory of the settings under a key, some of which are given as objects."""
        return Builder({key: {**getattr(self.setup, key), **pieces}}, self.setup.objects)(key)

    @cached_property
    def _departure(self) -> InvalidSettingError | None:
        """Why the mean-field solution does not hold, if it does not."""
        setup, known = self.setup, self._records
        for key, name, record in (
            ("network.activation", setup.network["activation"], known["activation"]),
            ("loss.name", setup.loss["name"], known["loss"]),
        ):
            if record is None:
                what = key.partition(".")[2].replace("name", "loss")
                wanted = (
                    f"the mean-field solution knows nothing of this {what}; give it a twin as its `theory`, or {_USE}"
                )
                return InvalidSettingError(key, name, wanted)
        if not activation_record(known["activation"]).odd_part_is_linear:
            wanted = f"has an odd part that is not linear, and so no mean-field solution; {_USE}"
            return InvalidSettingError("network.activation", setup.network["activation"], wanted)
        if setup.mean_field["inputs"] == "latent" and setup.data.get("rule") != "sign":
            wanted = f"has no mean-field solution; {_USE}"
            return InvalidSettingError("data.rule", setup.data.get("rule"), wanted)
        return None

    @cached_property
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
        return getattr(self._own(key, name), "theory", None)

    def _own(self, key: str, name: str) -> Any:
        return self.setup.objects.get(key) or resolve(key, name)

    @property
    def _activation(self) -> NetworkActivation:
        """The network's activation."""
        from mfnet.network import activation_of
        from mfnet.network.activations import ACTIVATIONS

        name = self.setup.network["activation"]
        own = "network.activation" in self.setup.objects or name not in ACTIVATIONS
        return activation_of(self._own("network.activation", name) if own else name)

    @property
    def _loss(self) -> MarginLoss:
        """The network's loss, one of the user's own."""
        from mfnet.network import loss_of

        return loss_of(self._own("loss.name", self.setup.loss["name"]), self.setup.h)

    @cached_property
    def solution(self) -> MeanField:
        """The same, of the actual training set where the data have no law."""
        return self.mean_field.of_draw(self.draw)

    @cached_property
    def unit(self) -> float:
        """The theory's unit of time, to one digit.

        Where the mean-field solution does not hold it is that of the linear part of σ on labels of one hyperplane,
        which starts the motion; without a theory of the loss, the hinge's.

        Raises:
            InvalidSettingError: If σ has no linear part, so that times have to be given.
        """
        if self._departure is None:
            return self._unit_of(lambda: self.solution)
        slope = self._activation.linear_part(self.setup.network["w_std"])
        if slope < 1e-3:
            name = self.setup.network["activation"]
            times = "give schedule.t_min and schedule.t_max, or schedule=listed, and flow.dt if it has one"
            raise InvalidSettingError(
                "network.activation", name, f"has no linear part, and so no unit of time; {times}"
            )
        records = {"activation": Activation("linear part", slope), "loss": self._records["loss"] or "hinge"}
        return self._unit_of(lambda: self._solution_of(records).of_draw(self.draw))

    def _unit_of(self, solution: Callable[[], MeanField]) -> float:
        try:
            unit = round_to_digit(solution().time_scale)
        except (ValueError, ArithmeticError) as error:
            raise InvalidSettingError("mean_field", self.setup.mean_field["inputs"], said(error)) from error
        if not 0.0 < unit < np.inf:
            raise InvalidSettingError(
                "mean_field", f"{unit:g}", "is the unit of time of these settings; it must be finite and above 0"
            )
        return unit

    @cached_property
    def times(self) -> Float[np.ndarray, " K"]:
        """The observation times.

        Raises:
            InvalidSettingError: If they are not such that a run, and its theory, can go from one to the next.
        """
        times = self._build("schedule", time_scale=self.unit)
        self._check_times(times)
        return times

    def _check_times(self, times: Any) -> None:
        schedule = self.setup.schedule
        key, value = ("schedule.times", schedule["times"]) if "times" in schedule else ("schedule", dict(schedule))
        try:
            increasing = (
                len(times) > 1 and times[0] == 0.0 and bool((np.diff(times) > 0.0).all() and times[-1] < np.inf)
            )
        except (TypeError, ValueError, IndexError):
            increasing = False
        if not increasing:
            raise InvalidSettingError(key, value, "must give finite times that increase, the first of which is 0")
        if len(times) > MOST_OBSERVATIONS + 2:
            raise InvalidSettingError(key, f"{len(times)} times", f"there may be at most {MOST_OBSERVATIONS}")
        close = np.flatnonzero(np.diff(times) < CLOSEST * times[1:])
        if len(close):
            two = f"{times[close[0]]} and {times[close[0] + 1]} are closer than {CLOSEST:g} of themselves"
            raise InvalidSettingError(key, value, f"{two}; leave one out")
        dt = self.setup.mean_field.get("dt")
        if dt is not None and dt > times[-1]:
            raise InvalidSettingError("mean_field.dt", dt, f"is longer than the run, which ends at t={times[-1]:g}")
        if dt is not None and (n_steps := steps_between(times, dt)) > MOST_STEPS:
            raise InvalidSettingError(
                "mean_field.dt", dt, f"would be {n_steps:.2g} steps, and {MOST_STEPS:.0e} are most"
            )

    @property
    def names(self) -> list[str]:
        """Names of the theories that are laid over the run, the first of which is ``theory``."""
        return ["theory", *self.setup.overlay]

    def named(self, name: str) -> Theory:
        """The theory of that name, before it is given a draw; where it is to be chosen, the choice.

        Raises:
            InvalidSettingError: If it is none, or refuses its settings.
        """
        key = _key(name)
        if self._departure is not None and self._build.target(key) is Auto:
            theory, self.reasons[name] = self._beyond_the_solution()
            return theory
        theory = self._build(key)
        if not isinstance(theory, Theory):
            wanted = "must be a class derived from mfnet.theory's Theory"
            raise InvalidSettingError(f"{key}._target_", name_of(theory), wanted)
        if isinstance(theory, Auto):
            n_test = self.setup.data.get("n_test", 0)
            try:
                theory, self.reasons[name] = theory.choose(self.setup.N, n_test, self.average)
            except ValueError as error:
                raise InvalidSettingError(f"{key}._target_", "mfnet.theory.Auto", str(error)) from error
        return theory

    def _beyond_the_solution(self) -> Choice:
        """The best theory of a run that has no mean-field solution in closed form."""
        try:
            return Choice(self.hydrodynamic, "the run has no mean-field solution in closed form")
        except InvalidSettingError as error:
            return Choice(Theory(), f"no theory of averages knows the run: {error}")

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
            if not own and not isinstance(error, ValueError | ArithmeticError):
                raise
            key = _key(name)
            raise InvalidSettingError(f"{key}._target_", name_of(theory), said(error)) from error
        return prediction

    def trusted(self, times: Float[np.ndarray, " K"]) -> list[Trust]:
        """Until when each prediction is trustworthy, between the first and last of the times; unknown for real data.

        Of data that are new at each step N is infinite.
        """
        if self._departure is not None or self.mean_field.needs_draw:
            return []
        looked = np.union1d(times, np.geomspace(times[1], times[-1], 100)[1:-1]) if len(times) > 2 else times
        N = np.inf if self.online else self.setup.N
        return trust(self.mean_field, self.setup.M, N, looked, self.setup.network["init"])

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
            nothing = type(theory) is Theory
            result[name] = {"theory": "none" if nothing else known or name_of(theory)}
            if name in self.reasons:
                result[name]["because"] = self.reasons[name]
            if known in until:
                others = "mean_field" if known in ("finite_width", "realised_width") else known
                ends = {"errors": until[known], "nodes": until["mean_field"], "others": until[others]}
                result[name]["trusted_until"] = ends
        return result


def _key(name: str) -> str:
    """Where the settings of a theory stand."""
    return name if name == "theory" else f"overlay.{name}"
