"""The kernel flow from a later kernel: how much of the rest of a run is lazy on what the network has learned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from mfnet.compute.seeding import generator
from mfnet.flow.averaged import Averaged
from mfnet.flow.evaluator import Batch
from mfnet.flow.objective import Objective
from mfnet.network import ACTIVATIONS, LOSSES, MeanFieldNetwork, activation_of, loss_of
from mfnet.network.networks import precision_for
from mfnet.setup.pieces import resolved
from mfnet.theory import Curve, KernelFlow
from mfnet.theory.arrays import Array
from mfnet.theory.tangent_kernel import ActualKernel, TangentKernel


class _Then(NamedTuple):
    """The network at the time at which its kernel is frozen: nodes, margins, and αF of the test examples."""

    a: Float[Array, " M"]
    w: Float[Array, "M d"]
    margins: Float[Array, " N"]
    test_output: Float[Array, " K"]


@dataclass(frozen=True, eq=False)
class LaterKernel(KernelFlow):
    """The flow of the kernel that the network has at a time t₁, frozen, from what its output is there.

    The kernel of the nodes at t₁ is made of the features that the network has learned until then. From there on it is
    frozen, which is the network linearised at t₁:

        dG(x)/dt = (1/N) Σ_n K_{t₁}(x, x_n) φ(y_n G(x_n)) y_n,   G = αF at t₁.

    Where a run stays on its curves, the rest of the training is lazy on learned features; where it leaves them, the
    network goes on learning features (Fort et al. 2020). For t₁ = 0 it is `mfnet.theory.KernelFlow` of the actual
    kernel. Before t₁ its curves are nan.

    It trains the run's own nodes to t₁ by the flow that a run has by default, then costs what `KernelFlow` does with a
    kernel in O(N²M).

    Args:
        mean_field: What theory knows of the run.
        rtol: As of `KernelFlow`.
        draw: What the run has drawn (`of_draw`).
        activation: The network's: a name, a dotted name, or what `mfnet.network.activation_of` takes.
        loss: Likewise, `mfnet.network.loss_of`.
        start: The time t₁; None for `mfnet.theory.MeanField.time_scale`, where the average example is satisfied.

    Raises:
        ValueError: For what `KernelFlow` does not allow, and for a time that is negative or not finite.
    """

    activation: Any = "relu"
    loss: Any = "hinge"
    start: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start is not None and not 0.0 <= self.start < math.inf:
            raise ValueError(f"start={self.start!r} must be a time, finite and at least 0, or None")

    @property
    def trusted_as(self) -> str | None:
        return None

    @property
    def t1(self) -> float:
        """The time at which the kernel is frozen."""
        if self.start is not None:
            return self.start
        return float(self.mean_field.of_draw(lambda: self._drawn).time_scale)

    def series(self, t: Float[Array, " T"]) -> dict[str, Curve]:
        """As of `KernelFlow`, but for the clock; nan before t₁."""
        since = t >= self.t1
        found = super().series(t[since] - self.t1)
        curves = {}
        for name, curve in found.items():
            if name != "gamma":
                values = np.full(len(t), np.nan)
                values[since] = curve.value
                curves[name] = Curve(values)
        return curves

    def output(self, t: Float[Array, " T"], x: Float[Array, "n d"]) -> Float[Array, "T n"]:
        """G(x) = αF(x) on any inputs.

        Raises:
            NotImplementedError: Always: it is followed on the training and the test set alone.
        """
        raise NotImplementedError("the flow of a later kernel is followed on the training and the test set alone")

    @cached_property
    def _kernel(self) -> TangentKernel:
        return ActualKernel(self.mean_field.nonlinearity, self._then.a, self._then.w)

    @cached_property
    def _margins(self) -> Float[Array, " N"]:
        return self._then.margins

    @cached_property
    def _test_output(self) -> Float[Array, " K"]:
        return self._then.test_output

    @cached_property
    def _then(self) -> _Then:
        draw, alpha = self._drawn, self.mean_field.alpha
        dtype = torch.float64 if precision_for(alpha) == "float64" else torch.float32
        activation = activation_of(resolved("network.activation", self.activation, ACTIVATIONS))
        M, d = draw.w0.shape
        network = MeanFieldNetwork(M, d, activation, generator=generator(0, "replaced"), dtype=dtype)
        a, w, x, y, x_test = (torch.as_tensor(each).to(dtype) for each in draw[:5])
        network.load_state_dict({"a": a, "w": w, "a0": a, "w0": w})
        loss = loss_of(resolved("loss.name", self.loss, LOSSES), self.mean_field.h)
        flow = Averaged(Objective(network, loss, alpha, lambda _: Batch(x, y), fixed=True))
        margins = flow.margins()[0]
        if self.t1 > 0.0:
            flow.step(until=self.t1)
            margins = flow.margins()[0]
        test = alpha * (network.output(x_test) - network.output(x_test, initial=True))
        return _Then(*(each.detach().double().numpy() for each in (network.a, network.w, margins, test)))
