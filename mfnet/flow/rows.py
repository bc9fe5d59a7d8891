"""Some of each replica's examples, as many for all: what is missing is padded with zeros."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor


def per_replica(values: Sequence[float], like: Tensor) -> float | Tensor:
    """A number for each replica, to multiply or divide ``like`` (R, …) by.

    That of a single replica stays on the host: a tensor of it would keep a GPU waiting.
    """
    if len(values) == 1:
        return values[0]
    return like.new_tensor(values).view(-1, *[1] * (like.ndim - 1))


class PaddedRows:
    """The rows that a mask marks in each replica, in their order.

    Args:
        mask: Which rows of which replica.
        counts: How many, where the host knows; reading them waits for the device.

    Attributes:
        counts: Number of rows of each replica.
        n: Largest of them, the number of rows that `take` gives.
    """

    def __init__(self, mask: Bool[Tensor, "R N"], counts: Sequence[int] | None = None):
        self.R, N = mask.shape
        self.counts = mask.sum(dim=1).tolist() if counts is None else counts
        self.n = max(self.counts)
        self._from = torch.nonzero_static(mask.view(-1), size=sum(self.counts)).squeeze(1)
        self._to: Tensor | None = None
        if len(self._from) < self.R * self.n:
            replica = self._from // N
            of_each = torch.tensor(self.counts, device=mask.device)
            first = of_each.cumsum(0) - of_each  # number of marked rows in the replicas before
            self._to = replica * self.n + torch.arange(len(self._from), device=mask.device) - first[replica]

    def take(self, values: Tensor) -> Tensor:
        """The rows of ``values`` (R, N, …), shape (R, n, …), zero where a replica has fewer."""
        marked = values.flatten(0, 1).index_select(0, self._from)
        if self._to is not None:
            marked = values.new_zeros(self.R * self.n, *marked.shape[1:]).index_copy_(0, self._to, marked)
        return marked.view(self.R, self.n, *marked.shape[1:])

    def marks(self, like: Tensor) -> Tensor:
        """1 for a row and 0 for padding, (R, n)."""
        if self._to is None:
            return like.new_ones(self.R, self.n)
        return like.new_zeros(self.R * self.n).index_fill_(0, self._to, 1.0).view(self.R, self.n)

    def put(self, rows: Tensor, values: Tensor) -> None:
        """Writes ``rows`` (R, n) to where `take` would have them from, in ``values`` (R, N)."""
        flat = rows.flatten()
        values.view(-1)[self._from] = flat if self._to is None else flat[self._to]
