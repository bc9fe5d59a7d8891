"""How one run is divided among several processes: by examples, by nodes, or not at all.

Divided by rows (data-parallel), every process has all nodes and its share of the examples; drives and averages
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
    """This process among those of the run; every method but `share` and `take_…` is called by all at the same point.

    Attributes:
        divide: What is shared out, 'rows' or 'nodes'; None for a single process.
        rank: Number of this process, from 0.
        size: Number of processes.
    """

    divide: Literal["rows", "nodes"] | None = None
    rank: int = 0
    size: int = 1

    def share(self, n: int) -> slice:
        """The items of this process out of ``n``; shares are in the order of ranks and differ by at most one."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def take_rows(self, whole: Tensor, dim: int = 0) -> Tensor:
        """This process's part of a tensor of all examples, which are counted along ``dim``."""
        return self._take(whole, "rows", dim)

    def take_nodes(self, whole: Tensor, dim: int = 0) -> Tensor:
        """This process's part of a tensor of all nodes."""
        return self._take(whole, "nodes", dim)

    def gather_rows(self, part: Tensor, dim: int = 0) -> Tensor:
        """The tensor of all examples, on every process, from the part that `take_rows` gave to each."""
        return self._gather(part, "rows", dim)

    def gather_nodes(self, part: Tensor, dim: int = 0) -> Tensor:
        """The tensor of all nodes, on every process, from the part that `take_nodes` gave to each."""
        return self._gather(part, "nodes", dim)

    def sum_rows(self, part: Tensor) -> Tensor:
        """The sum over all examples from each process's sum over its own, in place."""
        return self._sum(part, "rows")

    def sum_nodes(self, part: Tensor) -> Tensor:
        """The sum over all nodes from each process's sum over its own, in place."""
        return self._sum(part, "nodes")

    def count_rows(self, n: int) -> int:
        """The number of all examples from the number of this process's own."""
        return self._count(n) if self.divide == "rows" else n

    def agree(self, flag: bool) -> bool:
        """The first process's flag: for what each would decide for itself, such as whether the time is over."""
        if self.divide is None:
            return flag
        decision = torch.tensor(int(flag), device=_device())
        dist.broadcast(decision, src=0)
        return bool(decision)

    def _sum(self, part: Tensor, divided: str) -> Tensor:
        if self.divide == divided:
            dist.all_reduce(part)
        return part

    def _take(self, whole: Tensor, divided: str, dim: int) -> Tensor:
        if self.divide != divided:
            return whole
        share = self.share(whole.shape[dim])
        return whole.narrow(dim, share.start, share.stop - share.start)

    def _gather(self, part: Tensor, divided: str, dim: int) -> Tensor:
        if self.divide != divided:
            return part
        n = self._count(part.shape[dim])
        shape = list(part.shape)
        shape[dim] = n
        whole = part.new_zeros(shape)  # a sum, not all_gather: gloo's wants parts of one size
        self._take(whole, divided, dim).copy_(part)
        dist.all_reduce(whole)
        return whole

    def _count(self, n: int) -> int:
        total = torch.tensor(n, device=_device())
        dist.all_reduce(total)
        return int(total)


def _device() -> torch.device:
    """Where the backend wants its tensors: nccl knows only those of this process's GPU."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


#: A single process.
ALONE = Processes()
