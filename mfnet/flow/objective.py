"""What a flow follows: the rescaled loss of networks on examples, and which evaluator computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.compute.products import exact_products
from mfnet.flow.batched import Batched
from mfnet.flow.evaluator import Batch, Evaluator
from mfnet.flow.fused import Fused, fuses
from mfnet.flow.streamed import Streamed
from mfnet.network import MeanFieldNetwork, Networks, Nodes
from mfnet.network.losses import MarginLoss

#: The examples at each step, counted from 0; of each replica, where there are several.
Source = Callable[[int], Batch | Sequence[Batch]]

#: Multiplications N × M × d of one network, at most, for which `Batched` is faster, by kind of device.
BATCHED = {"cpu": 2**25, "cuda": 2**30}


class Objective:
    """L(θ) = ⟨ℓ(αyF)⟩/α² (eq. 8) of one network or of R replicas, on the examples that ``source`` gives for each step.

    Args:
        networks: The network, or `Replicas`.
        loss: The loss ℓ; of replicas, one for all or one for each, which may differ in h.
        alpha: Scale α, likewise.
        source: The examples at each step.
        fixed: Whether every step sees the same, whole training set; only then can it be all satisfied.

    Raises:
        ValueError: If replicas are to see new examples at each step, or have different losses.
    """

    def __init__(
        self,
        networks: Networks,
        loss: MarginLoss | Sequence[MarginLoss],
        alpha: float | Sequence[float] | Float[Tensor, " R"],
        source: Source,
        *,
        fixed: bool,
    ):
        self.networks, self.source, self.fixed = networks, source, fixed
        R = len(networks.nodes.a)
        if R > 1 and not fixed:
            raise ValueError("replicas need fixed training sets: they are not at the same step at the same time")
        self.alpha = torch.as_tensor(alpha, dtype=torch.float64).expand(R)
        if isinstance(loss, MarginLoss):
            self.margin_loss = loss
        else:
            if any(replace(each, h=loss[0].h) != loss[0] for each in loss):
                raise ValueError("the losses of replicas may differ in h alone")
            self.margin_loss = replace(loss[0], h=torch.tensor([[each.h] for each in loss], dtype=torch.float64))
        self._evaluators: list[Evaluator] | None = None
        self._latest: tuple[int, list[Evaluator]] | None = None

    @property
    def evaluators(self) -> list[Evaluator]:
        """What computes the replicas, in their order: all at once if they are small, one by one if they are large."""
        if self._evaluators is None:
            self._evaluators = self._evaluators_at(0)
        return self._evaluators

    def evaluators_at(self, step: int) -> list[Evaluator]:
        """The same on the examples of a step, of which the latest are kept."""
        if self.fixed or step == 0:
            return self.evaluators
        if self._latest is None or self._latest[0] != step:
            self._latest = None  # before the next are made: there may be no room for both
            self._latest = step, self._evaluators_at(step)
        return self._latest[1]

    def batches(self, step: int) -> list[Batch]:
        """The examples of each replica at a step."""
        given = self.source(step)
        return [given] if isinstance(given, Batch) else list(given)

    @exact_products()
    def _evaluators_at(self, step: int) -> list[Evaluator]:
        batches = self.batches(step)
        networks, initial = self.networks, self.networks.initial_nodes
        for x, y in batches:
            if x.ndim != 2 or x.shape[1] != networks.d or y.shape != x.shape[:1]:
                raise ValueError(
                    f"the network takes inputs of the shape (N, {networks.d}) and labels (N,), and these have the "
                    f"shapes {tuple(x.shape)} and {tuple(y.shape)}"
                )
        x = batches[0].x
        size = x.numel() * initial.a.shape[1]
        if size <= BATCHED[x.device.type] and networks.precision == "full" and networks.processes.size == 1:
            parts = [torch.stack(part) if len(part) > 1 else part[0][None] for part in zip(*batches, strict=True)]
            return [Batched(networks, self.margin_loss, self.alpha, initial, *parts)]
        kind = Fused if fuses(networks, x) else Streamed
        return [
            kind(
                networks,
                self._loss_of(r),
                self.alpha[r : r + 1],
                Nodes(*(values[r : r + 1] for values in initial)),
                *(part[None] for part in batch),
            )
            for r, batch in enumerate(batches)
        ]

    def _loss_of(self, r: int) -> MarginLoss:
        """The loss of one replica."""
        return (
            replace(self.margin_loss, h=float(self.margin_loss.h[r]))
            if isinstance(self.margin_loss.h, Tensor)
            else self.margin_loss
        )

    def parts(self) -> list[tuple[Evaluator, Nodes]]:
        """Each evaluator with views of the present nodes of its replicas."""
        a, w = self.networks.nodes
        sizes = [len(evaluator.y) for evaluator in self.evaluators]
        parts = zip(self.evaluators, a.split(sizes), w.split(sizes), strict=True)
        return [(evaluator, Nodes(*nodes)) for evaluator, *nodes in parts]

    @torch.no_grad()
    @exact_products()
    def margins(self) -> Float[Tensor, "R N"]:
        """m = αyF of a fixed set of examples, at the present nodes."""
        found = []
        for evaluator, nodes in self.parts():
            with evaluator.threads():
                found.append(evaluator.margins(nodes))
        return torch.cat(found)

    def loss(
        self, batch: Batch, f0: Float[Tensor, " N"] | None = None
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " N"]]:
        """L of a single network on ``batch``, differentiable, and the margins it was computed from.

        Args:
            batch: Examples.
            f0: The initial output on them, if it is known already.
        """
        network, alpha = self.networks, float(self.alpha[0])
        assert isinstance(network, MeanFieldNetwork)
        margins = alpha * batch.y * (network(batch.x) - (network.output(batch.x, initial=True) if f0 is None else f0))
        return self.margin_loss(margins).mean() / alpha**2, margins.detach()
