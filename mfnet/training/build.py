"""What a setup describes, built: networks, data, loss and flow, with the theories of the run."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch

from mfnet.compute.processes import ALONE, Processes
from mfnet.compute.seeding import generator
from mfnet.data import ObservedData, ReplicatedData, Task
from mfnet.flow import Flow, Objective, StoppingRules
from mfnet.network import MarginLoss, MeanFieldNetwork, Replicas, activation_of, loss_of
from mfnet.network.activations import ACTIVATIONS, Activation
from mfnet.network.losses import LOSSES
from mfnet.network.networks import precision_for
from mfnet.setup.errors import InvalidSettingError
from mfnet.setup.pieces import Builder, resolve
from mfnet.setup.setup import Setup
from mfnet.setup.theories import BECAUSE, ON_A_FIXED_SET, Theories, refused
from mfnet.theory import Draw

T = TypeVar("T")


class Pieces:
    """The pieces of a run, each made when it is first asked for.

    Args:
        setup: The run.
        processes: How it is divided.
    """

    def __init__(self, setup: Setup, processes: Processes = ALONE):
        self.setup, self.processes = setup, processes
        self._build = Builder(setup.config, setup.objects)

    @property
    def precision(self) -> str:
        """'float32' or 'float64', or of products on a GPU 'tf32' or 'bf16'."""
        asked: str = self.setup.trainer["precision"]
        return asked if asked != "auto" else precision_for(self.setup.alpha)

    @cached_property
    def loss(self) -> MarginLoss:
        """The margin loss."""
        return loss(self.setup)

    @cached_property
    def networks(self) -> MeanFieldNetwork | Replicas:
        """The network, or the replicas, with their initial nodes."""
        if self.setup.replicas == 1:
            return self._network(self.setup.seed)
        return Replicas([self._network(seed) for seed in self.seeds])

    @property
    def seeds(self) -> range:
        """Seed of each replica."""
        return range(self.setup.seed, self.setup.seed + self.setup.replicas)

    def _network(self, seed: int) -> MeanFieldNetwork:
        setup = self.setup
        return MeanFieldNetwork(
            setup.M,
            setup.d,
            activation(setup),
            generator=generator(seed, "network"),
            init=setup.network["init"],
            a_std=setup.network["a_std"],
            w_std=setup.network["w_std"],
            dtype=torch.float64 if self.precision == "float64" else torch.float32,
            precision="full" if self.precision in ("float32", "float64") else self.precision,
            processes=self.processes,
        )

    @cached_property
    def data(self) -> ObservedData:
        """The examples, drawn; their schedule is still to be set."""
        parts = [self._data(seed) for seed in self.seeds]
        data = parts[0] if len(parts) == 1 else ReplicatedData(parts)
        data.setup("fit")
        data.require_dimension(self.setup.d)
        return data

    def _data(self, seed: int) -> ObservedData:
        """The data of one seed, which the data's own follows where it is the run's."""
        follows = "data.seed" in self.setup.follows and "seed" in self.setup.data
        own = {**self.setup.data, "seed": seed} if follows else self.setup.data
        data: ObservedData = Builder({"data": own}, self.setup.objects)("data", schedule=np.zeros(1))
        return data

    def draw(self) -> Draw:
        """What the run draws, for theories that speak of it."""
        networks = self.networks
        network = networks if isinstance(networks, MeanFieldNetwork) else self._network(self.setup.seed)
        return draw_of(network, self.data.task)

    @cached_property
    def theories(self) -> Theories:
        """What theory says of the run."""
        online = bool(getattr(self._build.target("data"), "online", False))
        why = ON_A_FIXED_SET if online else refused(self.setup)
        return Theories(self.setup, self.draw, BECAUSE[why] if why else None, online=online)

    @property
    def dt(self) -> float | None:
        """Δt of a flow of fixed steps, if it is one; by default a hundredth of the theory's unit of time."""
        if "dt" not in inspect.signature(self._build.target("flow")).parameters:
            return None
        given: float | None = self.setup.flow.get("dt")
        return given if given is not None else self.theories.unit / 100.0

    @property
    def flow(self) -> Callable[[Objective], Flow[Any]]:
        """Makes the flow of an objective."""
        more: Mapping[str, Any] = {} if self.dt is None else {"dt": self.dt}
        config = {"flow": {**self.setup.flow, "_partial_": True, **more}}
        flow: Callable[[Objective], Flow[Any]] = Builder(config, self.setup.objects)("flow")
        return flow

    @property
    def rules(self) -> StoppingRules:
        """When the run ends early; its wall time begins here."""
        rules: StoppingRules = self._build("stop")
        return rules


def activation(setup: Setup) -> Activation:
    """The activation, mfnet's or one of the user's own.

    Raises:
        InvalidSettingError: If it is none.
    """
    return _made(setup, "network.activation", setup.network["activation"], ACTIVATIONS, activation_of)


def loss(setup: Setup) -> MarginLoss:
    """The margin loss, mfnet's or one of the user's own.

    Raises:
        InvalidSettingError: If it is none.
    """
    return _made(setup, "loss.name", setup.loss["name"], LOSSES, lambda given: loss_of(given, setup.h))


def _made(setup: Setup, key: str, name: str, known: Mapping[str, object], make: Callable[[Any], T]) -> T:
    """What a name of mfnet's, a dotted name or an object stands for."""
    given = setup.objects.get(key, name)
    if isinstance(given, str) and given not in known:
        if "." not in given:
            similar = difflib.get_close_matches(given, known, n=1)
            hint = f"; did you mean {similar[0]}?" if similar else ""
            allowed = f"must be one of {', '.join(known)}, or the dotted name of one of your own{hint}"
            raise InvalidSettingError(key, name, allowed)
        given = resolve(key, given)
    try:
        return make(given)
    except ValueError as error:
        raise InvalidSettingError(key, name, str(error)) from None


def draw_of(network: MeanFieldNetwork, task: Task) -> Draw:
    """What a run has drawn, for theories that speak of it: all nodes must be on this process."""
    tensors = (network.a0, network.w0, *task.train, *task.test, task.direction)
    draw = Draw(*(tensor.detach().double().cpu().numpy() for tensor in tensors))
    return draw if task.latent is None else draw._replace(latent=task.latent.numpy())
