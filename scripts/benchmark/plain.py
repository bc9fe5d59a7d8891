"""(a) and (a′): the network as one would write it in PyTorch, and its loop of SGD, as it is or compiled."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache

import torch
from torch import Tensor, nn

from benchmark.problems import Problem
from benchmark.timing import Contestant, repeated
from mfnet.network import Nodes

#: N × M arrays that autograd holds at once, about; (a), (a′), (b) and (d) are left out where these do not fit.
COPIES = 4

#: What `torch.compile` compiles with.
BACKEND: str | Callable[..., object] = "inductor"

#: L(a, w) on inputs, labels and initial outputs, at a scale α.
PlainLoss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float], Tensor]


def output(a: Tensor, w: Tensor, x: Tensor) -> Tensor:
    """f(x)."""
    return torch.relu(x @ w.T / math.sqrt(x.shape[1])) @ a / len(a)


def plain_loss(a: Tensor, w: Tensor, x: Tensor, y: Tensor, f0: Tensor, alpha: float) -> Tensor:
    """L, eq. 8."""
    return torch.relu(1.0 - alpha * y * (output(a, w, x) - f0)).mean() / alpha**2


@cache
def compiles(device: torch.device) -> bool:
    """Whether `torch.compile` works here; it needs a C++ compiler, or Triton on a GPU."""
    a, w, x, y = (torch.ones(size, device=device) for size in ((2,), (2, 3), (4, 3), (4,)))
    try:
        _compiled(plain_loss)(a.requires_grad_(), w, x, y, y, 1.0).backward()
    except Exception:  # whatever it is, there is nothing to compare with
        return False
    return True


def compiled_note(device: torch.device) -> str:
    """A sentence for a table where (a′) is missing."""
    return "" if compiles(device) else " `torch.compile` finds no compiler that works here, so that there is no (a′)."


def _compiled(loss: PlainLoss) -> PlainLoss:
    torch.compiler.reset()  # it gives up on a function of many sizes
    return torch.compile(loss, dynamic=False, backend=BACKEND)


@lru_cache(maxsize=1)
def _compiled_for(*size: object) -> PlainLoss:
    """What is compiled for one size, type and scale."""
    return _compiled(plain_loss)


class PlainNetwork(nn.Module):
    """The network and its loss on the training examples of a problem; compiled, it has been run once."""

    def __init__(self, problem: Problem, alpha: float, *, compiled: bool = False):
        super().__init__()
        a0, w0 = problem.networks.initial_nodes
        self.a, self.w = nn.Parameter(a0[0].clone()), nn.Parameter(w0[0].clone())
        self.x, self.y = problem.train[0]
        self.alpha = alpha
        self.function: PlainLoss = plain_loss
        with torch.no_grad():
            self.f0 = output(self.a, self.w, self.x)
        if compiled:
            self.function = _compiled_for(*self.x.shape, len(self.a), self.x.dtype, self.x.device, alpha)
            torch.autograd.grad(self(), list(self.parameters()))

    def forward(self) -> Tensor:
        """L at the present nodes."""
        return self.function(self.a, self.w, self.x, self.y, self.f0, self.alpha)

    @property
    def nodes(self) -> Nodes:
        """The present nodes, as a stack of one."""
        return Nodes(self.a.detach()[None], self.w.detach()[None])


class PlainLoop:
    """(a), or (a′) if ``compiled``: steps of learning rate M·Δt, which lead nowhere with the default of 0."""

    def __init__(self, problem: Problem, alpha: float = 1.0, dt: float = 0.0, *, compiled: bool = False):
        self.network = PlainNetwork(problem, alpha, compiled=compiled)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=len(self.network.a) * dt)
        self.dt, self.t, self.n_steps = dt, 0.0, 0

    def step(self) -> Tensor:
        """One step; the loss before it."""
        self.optimizer.zero_grad()
        loss = self.network()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def advance(self, until: float) -> bool:
        """Steps to the time ``until``, or until all examples are satisfied."""
        for _ in range(math.ceil((until - self.t) / self.dt - 1e-9)):
            if float(self.step()) == 0.0:
                break
            self.n_steps += 1
        self.t = until
        return True

    @property
    def nodes(self) -> Nodes:
        """The present nodes."""
        return self.network.nodes


def autograd_loop(problem: Problem, alpha: float = 1.0, dt: float = 0.0, *, compiled: bool = False) -> Contestant:
    """The loop for a number of steps."""
    return repeated(PlainLoop(problem, alpha, dt, compiled=compiled).step, problem.device)


def fits(N: int, M: int, device: torch.device) -> bool:
    """Whether autograd's float32 arrays fit the memory: half of the GPU's, or 6 GiB."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2 > COPIES * 4 * N * M
    return N * M <= 6 * 2**30 / (4 * COPIES)
