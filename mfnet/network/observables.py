"""What a run reports of its networks: functions of nodes and margins, and the series of every run.

Fractions of examples are torchmetrics, so that they reduce over processes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from mfnet.network import Networks
from mfnet.network.losses import MarginLoss
from mfnet.record.series import DISPLACEMENT, GAMMA, LOSS, TEST_ERROR, TRAIN_ERROR, UNSATISFIED


def unsatisfied_count(margins: Float[Tensor, "*R N"], h: float | Float[Tensor, "R 1"]) -> Float[Tensor, "*R"]:
    """Number of examples with margin m = αyF below h, of each replica.

    >>> int(unsatisfied_count(torch.tensor([0.5, 1.0, 2.0]), h=1.0))
    1
    """
    return (margins < h).sum(dim=-1).double()


def error_count(margins: Float[Tensor, "*R N"]) -> Float[Tensor, "*R"]:
    """Number of examples on the wrong side, yF < 0; an undecided one, F = 0 exactly, counts one half.

    >>> float(error_count(torch.tensor([-1.0, 0.0, 3.0])))
    1.5
    """
    return (margins < 0).sum(dim=-1).double() + 0.5 * (margins == 0).sum(dim=-1)


def node_projections(
    w: Float[Tensor, "*R M d"], direction: Float[Tensor, "*R d"]
) -> tuple[Float[Tensor, "*R M"], Float[Tensor, "*R M"]]:
    """(w∥, |w⊥|): components of the weights along the unit vector ``direction`` and across it."""
    w_par = (w @ direction[..., None]).squeeze(-1)
    w_perp = (w - w_par[..., None] * direction[..., None, :]).norm(dim=-1)
    return w_par, w_perp


def order_parameter(
    a: Float[Tensor, "*R M"], w_par: Float[Tensor, "*R M"], a0: Float[Tensor, "*R M"], w_par0: Float[Tensor, "*R M"]
) -> Float[Tensor, "*R"]:
    """γ as measured on actual nodes: sinh γ is how far they have moved along their hyperbolas (eq. 10).

    With u = a + w∥ and v = a − w∥ the theory says u = e^γ u₀ and v = e^{−γ} v₀; both factors are estimated by
    least squares on the initial values, and sinh γ is half their difference. Exact when nodes follow eq. 10
    for any finite M; unbiased by fluctuations of the nodes about it.

    >>> a0, w0 = torch.tensor([1.0, -2.0, 0.3]), torch.tensor([0.5, 1.0, 2.0])
    >>> c, s = torch.cosh(torch.tensor(0.7)), torch.sinh(torch.tensor(0.7))
    >>> round(float(order_parameter(c * a0 + s * w0, c * w0 + s * a0, a0, w0)), 5)
    0.7
    """
    u, v, u0, v0 = (value.double() for value in (a + w_par, a - w_par, a0 + w_par0, a0 - w_par0))
    growth, decay = ((now * then).sum(dim=-1) / then.square().sum(dim=-1) for now, then in ((u, u0), (v, v0)))
    return torch.asinh((growth - decay) / 2.0)


def r_squared(values: Float[np.ndarray, ...], predicted: Float[np.ndarray, ...]) -> float:
    """R² = 1 − Σ(v − v̂)²/Σ(v − ⟨v⟩)²: 1 for a prediction that is right, 0 for one no better than the mean.

    Values that are all the same are explained, 1, if predicted exactly, else not at all, −∞.

    >>> r_squared(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0]))
    0.5
    """
    unexplained, variation = (float(np.sum(np.square(values - mean))) for mean in (predicted, values.mean()))
    if unexplained == 0.0:
        return 1.0
    return 1.0 - unexplained / variation if variation > 0.0 else -np.inf


def share_outside(moved: Float[Tensor, "M d"], basis: Float[Tensor, "k d"]) -> float:
    """Share of Σ|Δw|² that is not in the span of an orthonormal ``basis``; 0 before any motion.

    >>> share_outside(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]]))
    0.64
    """
    total = float(moved.double().square().sum())
    return 1.0 - float((moved @ basis.T).double().square().sum()) / total if total > 0.0 else 0.0


class ExampleFraction(Metric):
    """A fraction of the examples of each replica; a subclass says how many of some margins count."""

    full_state_update = False
    higher_is_better = False

    count: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("count", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def counted(self, margins: Float[Tensor, "*R N"]) -> Float[Tensor, "*R"]:
        """Number of examples that count."""
        raise NotImplementedError

    def update(self, margins: Float[Tensor, "*R N"]) -> None:
        """Adds examples with these margins m = αyF."""
        self.count = self.count + self.counted(margins)
        self.total += margins.shape[-1]

    def compute(self) -> Tensor:
        """The fraction, in [0, 1]; of no examples 0."""
        return self.count / self.total.clamp_min(1.0)


class ErrorRate(ExampleFraction):
    """Fraction of examples on the wrong side; undecided ones (F = 0) count one half.

    >>> metric = ErrorRate()
    >>> metric.update(torch.tensor([-1.0, 0.0, 3.0, 2.0]))
    >>> float(metric.compute())
    0.375
    """

    def counted(self, margins: Float[Tensor, "*R N"]) -> Float[Tensor, "*R"]:
        return error_count(margins)


class UnsatisfiedFraction(ExampleFraction):
    """Fraction n_u of examples with margin below ``h``."""

    def __init__(self, h: float | Float[Tensor, "R 1"]):
        super().__init__()
        self.h = h

    def counted(self, margins: Float[Tensor, "*R N"]) -> Float[Tensor, "*R"]:
        return unsatisfied_count(margins, self.h)


class NodeParameters(NamedTuple):
    """(a, w∥, |w⊥|) of all nodes of every replica."""

    a: Float[Tensor, "R M"]
    w_par: Float[Tensor, "R M"]
    w_perp: Float[Tensor, "R M"]


class ObservedSeries:
    """The series that every run reports of its networks (`mfnet.record.series`); every process calls its methods.

    Args:
        networks: The networks.
        loss: The loss ℓ.
        alpha: Scale α of each.
        directions: The reference direction ŵ* of each.
    """

    def __init__(
        self, networks: Networks, loss: MarginLoss, alpha: Float[Tensor, " R"], directions: Float[Tensor, "R d"]
    ):
        self.networks, self.alpha, self.directions = networks, alpha.to(directions.device), directions
        self.loss = loss.like(directions)
        self.unsatisfied, self.error = UnsatisfiedFraction(self.loss.h), ErrorRate()
        a0, w0 = networks.initial_nodes
        gather = networks.processes.gather_nodes
        self.a0, self.w_par0 = gather(a0, dim=1), gather(node_projections(w0, directions)[0], dim=1)
        self.size0 = self._size(a0, w0)

    def nodes(self) -> NodeParameters:
        """The present nodes."""
        a, w = self.networks.nodes
        parameters = (a.clone(), *node_projections(w, self.directions))
        return NodeParameters(*(self.networks.processes.gather_nodes(values, dim=1) for values in parameters))

    def __call__(
        self, nodes: NodeParameters, train: Float[Tensor, "R n"], test: Float[Tensor, "R m"]
    ) -> dict[str, Float[np.ndarray, " R"]]:
        """The series of the present networks, whose margins on this process's examples these are."""
        processes = self.networks.processes
        (a, w), (a0, w0) = self.networks.nodes, self.networks.initial_nodes
        loss = processes.sum_rows(self.loss(train).double().sum(dim=1)) / processes.count_rows(train.shape[1])
        series = {
            GAMMA.name: order_parameter(nodes.a, nodes.w_par, self.a0, self.w_par0),
            UNSATISFIED.name: _whole(self.unsatisfied, train),
            LOSS.name: loss / self.alpha.square(),
            TRAIN_ERROR.name: _whole(self.error, train),
            TEST_ERROR.name: _whole(self.error, test),
            DISPLACEMENT.name: self._size(a - a0, w - w0) / self.size0,
        }
        stacked = torch.stack([values.double() for values in series.values()])
        return dict(zip(series, stacked.cpu().numpy(), strict=True))

    def _size(self, a: Float[Tensor, "R M"], w: Float[Tensor, "R M d"]) -> Float[Tensor, " R"]:
        """Root mean square over the nodes of |(a, w)|."""
        squares = (a.square().sum(dim=1) + w.square().sum(dim=(1, 2))).double()
        return (self.networks.processes.sum_nodes(squares) / self.networks.M).sqrt()


def _whole(metric: ExampleFraction, margins: Float[Tensor, "R n"]) -> Float[Tensor, " R"]:
    """Value on the examples of all processes, of which these are this one's margins.

    Divided by nodes, every process counts all examples, which leaves the fraction as it is.
    """
    metric.reset()
    metric.to(margins.device).update(margins)
    value: Tensor = metric.compute()
    return value.reshape(margins.shape[:-1])  # torchmetrics takes one replica for none
