"""Observables of examples as torchmetrics, so that they accumulate over batches and reduce over processes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from mfnet.observables import error_count, unsatisfied_count


class ExampleFraction(Metric):
    """A fraction of examples; a subclass says how many of some margins count."""

    full_state_update = False
    higher_is_better = False

    count: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("count", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def counted(self, margins: Float[Tensor, " N"]) -> Tensor:
        """Number of examples that count."""
        raise NotImplementedError

    def update(self, margins: Float[Tensor, " N"]) -> None:
        """Adds examples with these margins m = αyF."""
        self.count += self.counted(margins)
        self.total += len(margins)

    def compute(self) -> Tensor:
        """The fraction, in [0, 1]."""
        return self.count / self.total


class ErrorRate(ExampleFraction):
    """Fraction of examples on the wrong side; undecided ones (F = 0) count one half.

    >>> metric = ErrorRate()
    >>> metric.update(torch.tensor([-1.0, 0.0, 3.0, 2.0]))
    >>> float(metric.compute())
    0.375
    """

    def counted(self, margins: Float[Tensor, " N"]) -> Tensor:
        return error_count(margins)


class UnsatisfiedFraction(ExampleFraction):
    """Fraction n_u of examples with margin below ``h``."""

    def __init__(self, h: float):
        super().__init__()
        self.h = h

    def counted(self, margins: Float[Tensor, " N"]) -> Tensor:
        return unsatisfied_count(margins, self.h)


def whole_value(metric: ExampleFraction, margins: Float[Tensor, " n"]) -> float:
    """Value on the examples of all processes, of which these are this one's margins.

    Divided by nodes, every process counts all examples, which leaves the fraction as it is.
    """
    metric.reset()
    metric.update(margins)
    return float(metric.compute())
