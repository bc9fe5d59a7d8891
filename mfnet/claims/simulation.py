"""Networks that claims are held against: setups in the claims' own defaults, and what is recorded of their runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from mfnet.flow import Averaged, Flow, StopReason
from mfnet.network import MeanFieldNetwork
from mfnet.record.series import GAMMA, MEAN_FORCE, SERIES, TEST_ERROR, UNSATISFIED
from mfnet.setup.setup import Setup
from mfnet.theory import Draw
from mfnet.training import Observation, Observer, Run, Training
from mfnet.training.build import Pieces

#: Makes the flow of an objective: a class of `mfnet.flow`, or `functools.partial` of one.
Method = Callable[..., Flow[Any]]


def setup_of(
    M: int,
    d: int,
    N: int,
    alpha: float = 1.0,
    *,
    n_test: int = 1,
    double: bool = False,
    fresh: bool = False,
    **settings: Any,
) -> Setup:
    """A network and its data, with ŵ* along the first axis, on the CPU and without a theory.

    Args:
        M: Nodes.
        d: Input dimension.
        N: Training examples, the same at each step; if ``fresh``, those that are drawn anew at each step.
        alpha: Scale α.
        n_test: Test examples, with true labels; if ``fresh``, also observed examples with training labels.
        double: float64 instead of float32; needed where α is large.
        fresh: Whether each step sees new examples (`mfnet.data.OnlineSphericalData`).
        settings: What else differs from the defaults, as `Setup.of` takes it.
    """
    return Setup.of(
        **{"M": M, "d": d, "N": N, "alpha": alpha, "data": "online" if fresh else "normal"},
        **{"data.n_test": n_test, "data.direction": "axis", "schedule": "listed", "theory": None, "logger": []},
        **{"trainer.accelerator": "cpu", "trainer.precision": "float64" if double else "float32"},
        **{"trainer.progress": False, **settings},
    )


def seeds(setup: Setup, n: int) -> list[Setup]:
    """The same with the seeds 0 … n − 1."""
    return [setup.but(seed=seed) for seed in range(n)]


@dataclass(frozen=True)
class Record:
    """A run as it was seen at K times; after all examples are satisfied nothing changes any more.

    Attributes:
        t: Times.
        gamma: γ as measured on the nodes (`order_parameter`).
        overlap: ⟨a w∥⟩ over the nodes.
        unsatisfied: Fraction n_u of the observed training examples.
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


class Collector(Observer):
    """Keeps an array of each observation, in memory alone.

    Args:
        function: Takes an `Observation` and returns the array.

    Attributes:
        seen: What it has returned, observation by observation.
    """

    def __init__(self, function: Callable[[Observation], np.ndarray]):
        self.function = function
        self.seen: list[np.ndarray] = []

    def observe(self, observation: Observation) -> dict[str, float]:
        self.seen.append(self.function(observation))
        return {}


def overlap(observation: Observation) -> float:
    """⟨a w∥⟩ over the nodes."""
    a, w_par = observation.a[0].double(), observation.w_par[0].double()
    return float(a @ w_par) / len(a)


def excess(probes: Float[np.ndarray, "p d"], observation: Observation) -> Float[np.ndarray, " p"]:
    """F at the probes."""
    network = observation.networks
    assert isinstance(network, MeanFieldNetwork)
    x = torch.as_tensor(probes, dtype=network.w.dtype)
    with torch.no_grad():
        return (network.output(x) - network.output(x, initial=True)).double().numpy()


def nodes(observation: Observation) -> Float[np.ndarray, "M p"]:
    """(a, w) of every node, in a row."""
    return torch.cat([observation.a[0][:, None], observation.w[0]], dim=1).detach().double().numpy()


def train(
    setup: Setup,
    times: Sequence[float] | Float[np.ndarray, " K"],
    method: Method = Averaged,
    probes: Float[np.ndarray, "p d"] | None = None,
) -> Record:
    """Trains what a setup describes.

    Args:
        setup: The network and its data.
        times: When to look, increasing.
        method: Makes the flow.
        probes: Inputs at which F is recorded.

    Raises:
        RuntimeError: If the flow ends for any reason but that all examples are satisfied.
    """
    followed = Collector(partial(excess, np.empty((0, setup.d)) if probes is None else probes))
    run = _run(setup, times, method, followed, overlap)
    names = {"mean_force": MEAN_FORCE if f"{MEAN_FORCE}_network" in run.history else UNSATISFIED.name}
    names |= {name: name for name in (GAMMA.name, "overlap", UNSATISFIED.name, TEST_ERROR.name)}
    columns = {name: kept(run.history[f"{column}_network"].to_numpy(), len(times)) for name, column in names.items()}
    columns["mean_force"][len(run.history) - 1 :] = 0.0  # after the end
    return Record(
        np.asarray(times, dtype=float),
        **columns,
        excess=kept(followed.seen, len(times)),
        n_steps=run.summary["steps"],
        n_evaluations=run.summary["drive_evaluations"],
        t_end=run.summary["t_end"],
    )


def final_nodes(setup: Setup, t: float, method: Method) -> Float[np.ndarray, "M p"]:
    """(a, w) of every node, in a row, after training to time ``t``; arguments as for `train`."""
    return nodes_at(setup, [t], method)[0]


def nodes_at(
    setup: Setup, times: Sequence[float] | Float[np.ndarray, " K"], method: Method
) -> Float[np.ndarray, "K M p"]:
    """`final_nodes` at several increasing times of one run."""
    return nodes_and_series(setup, times, method)[0]


def nodes_and_series(
    setup: Setup, times: Sequence[float] | Float[np.ndarray, " K"], method: Method
) -> tuple[Float[np.ndarray, "K M p"], dict[str, Float[np.ndarray, " K"]]]:
    """`nodes_at`, and the series of the same run by name."""
    followed = Collector(nodes)
    run = _run(setup, times, method, followed)
    series = {name: kept(run.history[f"{name}_network"].to_numpy(), len(times)) for name in SERIES}
    return kept(followed.seen, len(times)), series


def draw_of(setup: Setup) -> Draw:
    """What `train` draws for this setup, for a theory that speaks of actual runs."""
    return Pieces(setup).draw()


def kept(values: Sequence[Any] | np.ndarray, K: int) -> np.ndarray:
    """The values at K times, of those at t = 0 and up to the end of a run, which are kept from then on."""
    after = np.asarray(values)[1:]
    return np.concatenate([after, np.repeat(after[-1:], K - len(after), axis=0)])


def _run(setup: Setup, times: Sequence[float] | Float[np.ndarray, " K"], method: Method, *callbacks: Any) -> Run:
    """A run to the last time, or until all examples are satisfied.

    Raises:
        RuntimeError: If it ends for any other reason, or a callback has failed.
    """
    described = setup.but(
        flow=method, callbacks=callbacks, **{"schedule.times": np.asarray(times, dtype=float).tolist()}
    )
    run = Training(described).run()
    if run.summary["stop_reason"] not in (StopReason.T_MAX, StopReason.ALL_SATISFIED) or "left_out" in run.summary:
        raise RuntimeError(f"{run}: {run.summary.get('left_out', 'it is lost')}")
    return run
