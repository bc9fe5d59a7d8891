"""Networks that claims are held against: trained by the package's flows, without Lightning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.compute.seeding import generator
from mfnet.data import SphericalData, label, sample_inputs
from mfnet.data.spherical import elongate
from mfnet.flow import Averaged, Batch, Flow, Objective, StoppingRules, StopReason
from mfnet.network import MeanFieldNetwork
from mfnet.network.losses import loss_of
from mfnet.network.observables import ObservedSeries
from mfnet.record.series import GAMMA, MEAN_FORCE, TEST_ERROR, UNSATISFIED
from mfnet.theory import Draw

#: Makes the flow of an objective.
Method = Callable[[Objective], Flow[Any]]


@dataclass(frozen=True)
class Setup:
    """A network and its data: ŵ* along the first axis.

    Attributes:
        M: Nodes.
        d: Input dimension.
        N: Training examples, the same at each step; for `population` those that are drawn anew at each step.
        alpha: Scale α.
        activation: A name in `mfnet.network.activations`.
        loss: A name in `mfnet.network.losses`; its margin is h = 1.
        flip: Fraction ε of reversed training labels.
        n_test: Test examples, with true labels.
        seed: Keys every draw.
        double: float64 instead of float32; needed where α is large.
        a_std: Initial standard deviation A of every a.
        w_std: Initial standard deviation B of every component of every w.
        inputs: Law of the inputs, as `SphericalData` names it.
        radius: For radial inputs, the law of |x|.
        stretch: For elongated inputs, the standard deviation along ŵ*.
    """

    M: int
    d: int
    N: int
    alpha: float = 1.0
    activation: str = "relu"
    loss: str = "hinge"
    flip: float = 0.0
    n_test: int = 0
    seed: int = 0
    double: bool = False
    a_std: float = 1.0
    w_std: float = 1.0
    inputs: str = "normal"
    radius: Mapping[str, object] | None = None
    stretch: float = 1.0

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of everything."""
        return torch.float64 if self.double else torch.float32

    def network(self) -> MeanFieldNetwork:
        """The initial network."""
        return MeanFieldNetwork(
            self.M,
            self.d,
            self.activation,
            generator=generator(self.seed, "network"),
            a_std=self.a_std,
            w_std=self.w_std,
            dtype=self.dtype,
        )

    def seeds(self, n: int) -> list[Setup]:
        """The same with the seeds 0 … n − 1."""
        return [replace(self, seed=seed) for seed in range(n)]


@dataclass(frozen=True)
class Record:
    """A run as it was seen at K times; after all examples are satisfied nothing changes any more.

    Attributes:
        t: Times.
        gamma: γ as measured on the nodes (`order_parameter`).
        overlap: ⟨a w∥⟩ over the nodes.
        unsatisfied: Fraction n_u of the training examples; without a fixed training set, of the test examples.
        mean_force: ⟨φ̄⟩ over the training examples since the last time, where the flow averages forces; else n_u.
        test_error: Fraction of wrong signs on true labels.
        excess: F at the probes.
        n_steps: Steps of the flow.
        n_evaluations: Its drive evaluations.
        t_end: Where it ended.
    """

    t: Float[np.ndarray, " K"]
    gamma: Float[np.ndarray, " K"]
    overlap: Float[np.ndarray, " K"]
    unsatisfied: Float[np.ndarray, " K"]
    mean_force: Float[np.ndarray, " K"]
    test_error: Float[np.ndarray, " K"]
    excess: Float[np.ndarray, "K p"]
    n_steps: int
    n_evaluations: float
    t_end: float


def stack(records: Sequence[Record], name: str) -> np.ndarray:
    """One series of several runs, the runs along the first axis."""
    return np.array([getattr(record, name) for record in records])


def train(
    setup: Setup,
    times: Sequence[float] | Float[np.ndarray, " K"],
    method: Method = Averaged,
    probes: Float[np.ndarray, "p d"] | None = None,
) -> Record:
    """Trains on N fixed examples.

    Args:
        setup: The network and its data.
        times: When to look, increasing.
        method: Makes the flow: a class of `mfnet.flow`, or `functools.partial` of one.
        probes: Inputs at which F is recorded.

    Raises:
        RuntimeError: If the flow ends for any reason but that all examples are satisfied.
    """
    objective, test = _fixed(setup)
    return _follow(method(objective), setup, times, probes, objective, test)


def final_nodes(setup: Setup, t: float, method: Method) -> Float[np.ndarray, "M p"]:
    """(a, w) of every node, in a row, after training on N fixed examples to time ``t``; arguments as for `train`."""
    return nodes_at(setup, [t], method)[0]


def nodes_at(
    setup: Setup, times: Sequence[float] | Float[np.ndarray, " K"], method: Method
) -> Float[np.ndarray, "K M p"]:
    """`final_nodes` at several increasing times of one run."""
    objective, _ = _fixed(setup)
    flow, network, seen = method(objective), objective.networks, []
    for t in times:
        flow.step(until=float(t))
        seen.append(torch.cat([network.a.detach()[:, None], network.w.detach()], dim=1).double().numpy())
    return np.array(seen)


def draw_of(setup: Setup) -> Draw:
    """What `train` draws for this setup, for a theory that speaks of actual runs."""
    objective, test = _fixed(setup)
    network, (train_set,), (test_set,) = objective.networks, objective.batches(0), test.batches(0)
    tensors = (network.a0, network.w0, train_set.x, train_set.y, test_set.x, test_set.y)
    a0, w0, x, y, x_test, y_test = (tensor.double().numpy() for tensor in tensors)
    return Draw(a0, w0, x, y, x_test, y_test, np.eye(setup.d)[0])


def population(
    setup: Setup,
    times: Sequence[float] | Float[np.ndarray, " K"],
    method: Method,
    probes: Float[np.ndarray, "p d"] | None = None,
) -> Record:
    """Trains on N fresh examples at each step: the flow on infinitely many, but for its sampling noise.

    Args:
        setup: The network and its data.
        times: When to look, increasing.
        method: Makes the flow, one of fixed steps.
        probes: Inputs at which F is recorded.

    Raises:
        RuntimeError: If the flow ends before the last time.
    """
    network = setup.network()
    direction = torch.zeros(setup.d, dtype=torch.float64)
    direction[0] = 1.0

    def fresh(purpose: str, n: int, flip: float, step: int = 0) -> Batch:
        source = generator(setup.seed, purpose, step)
        if setup.inputs == "elongated":
            x = elongate(sample_inputs(n, setup.d, "normal", source), direction, setup.stretch)
        else:
            x = sample_inputs(n, setup.d, setup.inputs, source, setup.radius)
        flipped = torch.rand(n, generator=source) < flip
        return _batch(network, x, torch.where(flipped, -1.0, 1.0) * label(x, direction))

    def source(step: int) -> Batch:
        return fresh("train", setup.N, setup.flip, step)

    objective = Objective(network, loss_of(setup.loss), setup.alpha, source, fixed=False)
    seen = _of_set(setup, network, fresh("seen", setup.n_test, setup.flip))
    test = _of_set(setup, network, fresh("test", setup.n_test, 0.0))
    return _follow(method(objective), setup, times, probes, seen, test)


def _fixed(setup: Setup) -> tuple[Objective, Objective]:
    """The loss on a fixed training set, and on test examples."""
    data = SphericalData(
        setup.N,
        setup.n_test,
        setup.d,
        setup.seed,
        np.zeros(1),
        inputs=setup.inputs,
        radius=setup.radius,
        flip=setup.flip,
        direction="axis",
        stretch=setup.stretch,
    ).draw()
    network = setup.network()
    train_set, test_set = (_batch(network, *examples) for examples in (data.train, data.test))
    return _of_set(setup, network, train_set), _of_set(setup, network, test_set)


def _of_set(setup: Setup, network: MeanFieldNetwork, batch: Batch) -> Objective:
    return Objective(network, loss_of(setup.loss), setup.alpha, lambda _: batch, fixed=True)


def _batch(network: MeanFieldNetwork, x: Tensor, y: Tensor) -> Batch:
    dtype = network.w0.dtype
    return Batch(x.to(dtype), y.to(dtype))


def _follow(
    flow: Flow[Any],
    setup: Setup,
    times: Sequence[float] | Float[np.ndarray, " K"],
    probes: Float[np.ndarray, "p d"] | None,
    seen: Objective,
    test: Objective,
) -> Record:
    network = flow.objective.networks
    assert isinstance(network, MeanFieldNetwork)
    flow.rules = StoppingRules()
    inputs = torch.as_tensor(np.empty((0, setup.d)) if probes is None else probes, dtype=setup.dtype)
    initial = network.output(inputs, initial=True)
    series = ObservedSeries(network, seen.margin_loss, seen.alpha, torch.eye(setup.d, dtype=setup.dtype)[:1])
    rows: list[dict[str, Any]] = []
    for t in times:
        if flow.stop_reason is None:
            flow.step(until=float(t))
            rows.append(_observe(flow, series, seen, test))
            rows[-1]["excess"] = (network.output(inputs) - initial).double().numpy()
        elif flow.stop_reason is StopReason.ALL_SATISFIED:
            rows.append({**rows[-1], "mean_force": 0.0})
        else:
            raise RuntimeError(f"{setup} ended at t={flow.t:g}: {flow.stop_reason}")
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return Record(
        np.asarray(times, dtype=float),
        **columns,
        n_steps=flow.n_steps,
        n_evaluations=flow.n_evaluations,
        t_end=flow.t,
    )


@torch.no_grad()
def _observe(flow: Flow[Any], series: ObservedSeries, seen: Objective, test: Objective) -> dict[str, float]:
    nodes = series.nodes()
    values = series(nodes, seen.margins(), test.margins())
    values |= {MEAN_FORCE: values[UNSATISFIED.name]} | flow.observed
    found = {name: float(values[name][0]) for name in (GAMMA.name, UNSATISFIED.name, MEAN_FORCE, TEST_ERROR.name)}
    return {**found, "overlap": float(nodes.a[0].double() @ nodes.w_par[0].double()) / len(nodes.a[0])}
