"""Some of each replica's examples, as many for all: what is missing is padded with zeros."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor


class PaddedRows:
    """The rows that a mask marks in each replica, in their order.

    Args:
        mask: Which rows of which replica.

    Attributes:
        counts: Number of rows of each replica, on the host.
        n: Largest of them, the number of rows that `take` gives.
    """

    def __init__(self, mask: Bool[Tensor, "R N"]):
        self.shape = mask.shape
        counts = mask.sum(dim=1)
        self.counts = counts.cpu()
        self.n = int(self.counts.max())
        self._from = mask.flatten().nonzero().squeeze(1)
        replica = self._from // mask.shape[1]
        first = counts.cumsum(0) - counts  # number of marked rows in the replicas before
        rank = torch.arange(len(self._from), device=mask.device) - first[replica]
        self._to = replica * self.n + rank

    def take(self, values: Tensor) -> Tensor:
        """The rows of ``values`` (R, N, …), shape (R, n, …), zero where a replica has fewer."""
        R, n = self.shape[0], self.n
        marked = values.flatten(0, 1).index_select(0, self._from)
        if len(marked) < R * n:
            marked = values.new_zeros(R * n, *marked.shape[1:]).index_copy_(0, self._to, marked)
        return marked.view(R, n, *marked.shape[1:])

    def put(self, rows: Tensor, values: Tensor) -> None:
        """Writes ``rows`` (R, n) to where `take` would have them from, in ``values`` (R, N)."""
        values.view(-1)[self._from] = rows.flatten()[self._to]
