"""How one run is divided among several processes: by examples, by nodes, or not at all.

Divided by rows (data-parallel), every process has all nodes and its share of the training examples; drives and averages
over examples are summed. Divided by nodes (node-parallel), every process has all examples and its share of the
nodes; outputs are summed, and nothing else, because in the mean-field limit nodes interact through nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """This process among those of the run; every method is called by all of them at the same point.

    Attributes:
        divide: What is shared out, 'rows' or 'nodes'; None for a single process.
        rank: Number of this process, from 0.
        size: Number of processes.
    """

    divide: Literal["rows", "nodes"] | None = None
    rank: int = 0
    size: int = 1

    def share(self, n: int) -> slice:
        """The items of this process out of ``n``; shares differ by at most one."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def sum_rows(self, part: Tensor) -> Tensor:
        """The sum over all examples from each process's sum over its own, in place."""
        return self._reduce(part, "rows", dist.ReduceOp.SUM)

    def sum_nodes(self, part: Tensor) -> Tensor:
        """The sum over all nodes from each process's sum over its own, in place."""
        return self._reduce(part, "nodes", dist.ReduceOp.SUM)

    def min_rows(self, part: Tensor) -> Tensor:
        """The minimum over all examples from each process's own, in place."""
        return self._reduce(part, "rows", dist.ReduceOp.MIN)

    def count_rows(self, n: int) -> int:
        """The number of all examples from the number of this process's own."""
        return int(self.sum_rows(torch.tensor(n))) if self.divide == "rows" else n

    def _reduce(self, part: Tensor, divided: str, operation: dist.ReduceOp.RedOpType) -> Tensor:
        if self.divide == divided:
            dist.all_reduce(part, op=operation)
        return part


#: A single process.
ALONE = Processes()
