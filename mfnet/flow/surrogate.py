"""A cheap stand-in for the tangent kernel, and the forces it predicts over a step.

Under the flow margins obey ``N dm_n/dt = Σ_k y_n K_nk y_k φ_k`` with the tangent kernel
``K_nk = ⟨σ(z_n)σ(z_k)⟩ + ⟨a²σ′(z_n)σ′(z_k)⟩ x_n·x_k/d``, averages over the nodes. Its stiff part is of low rank:
nodes with normal weights of covariance S = ⟨wwᵀ⟩ have

    K̂_nk = c² x_n·(S + ⟨a²⟩) x_k / d + e_n e_k + κ_n δ_nk

where cz is the odd part of σ, s_n² = x_n·S x_n/d, and the self-term κ_n makes the diagonal right. What e_n e_k stands
for is the constant that a force adds to F, by a and by w, of which the average over inputs is known:

    e_n² = (E σ(s_n ξ))² + ⟨a²⟩ (E ξσ′(s_n ξ))² |x_n|²/d²

The second part is 1/d of the first at the start, and most of it near the boundary late in the rich regime, where ⟨a²⟩
has grown. What is left out are the parts of the kernel of second and higher order in x_n·x_k, off the diagonal.
One application costs two products of a vector with the N × d inputs, whatever M is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.compute.graphs import Recorded
from mfnet.compute.processes import Processes
from mfnet.flow.evaluator import Evaluator
from mfnet.flow.rows import PaddedRows
from mfnet.network import Nodes
from mfnet.network.activations import Activation
from mfnet.network.losses import MarginLoss

#: Rows of a tile of inputs on a CPU.
ROWS = 4096

#: Rows, at most, on which K̂ is written out, by kind of device; if these are all examples, no force is left out. On a
#: CPU more are worth a look at which forces may change; a GPU takes longer to look than to compute them all.
WRITTEN_OUT = {"cpu": 512, "cuda": 2**17}


def normal_moments(activation: Activation, s: Float[Tensor, "*R"]) -> tuple[Float[Tensor, "*R"], ...]:
    """E σ, E zσ/s², E σ², E σ′² and E zσ′/s for normal z of standard deviations ``s``, in float64."""
    s = s[..., None]
    xi, weight = _quadrature(s.device)
    z = s * xi
    value, derivative = activation.value(z), activation.derivative(z)
    integrands = torch.stack([value, z * value / s.square(), value.square(), derivative.square(), xi * derivative])
    return (integrands @ weight).unbind()


@cache
def _quadrature(device: torch.device) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Nodes and weights of a mean over a standard normal variable; kinks limit it to three digits, which do here."""
    xi, weight = np.polynomial.hermite_e.hermegauss(64)
    return torch.from_numpy(xi).to(device), torch.from_numpy(weight / math.sqrt(2.0 * math.pi)).to(device)


def quadratic_forms(x: Float[Tensor, "R N d"], matrix: Float[Tensor, "R d d"]) -> Float[Tensor, "R N"]:
    """x_n·A x_n; on a CPU in tiles that stay in the cache (measured: 3.5 times faster than at once for N = 10⁵)."""
    if x.device.type != "cpu":
        return torch.bmm(x, matrix).mul_(x).sum(dim=2)
    forms = x.new_empty(x.shape[:2])
    for part, form in zip(x.split(ROWS, dim=1), forms.split(ROWS, dim=1), strict=True):
        form.copy_(torch.bmm(part, matrix).mul_(part).sum(dim=2))
    return forms


class Forces(NamedTuple):
    """Forces of this process's examples, or sums of such over sub-steps, and their features Σ φy(x, e, 0) of all."""

    force: Float[Tensor, "R N"]
    features: Float[Tensor, "R 1 k"]


class Rows(NamedTuple):
    """K̂/N on some rows, or on all, written out.

    Attributes:
        features: y(x, e, 0) of each row; the last entry is for what does not depend on forces.
        kernel: What the features meet in: c²(S + ⟨a²⟩)/d and 1, over N.
        kappa: Diagonal κ/N.
        gain: The kernel times the features, where it is used often enough to be worth it.
        recorded: Of a run, whose examples they all are: sub-steps that were recorded, by their losses.
    """

    features: Float[Tensor, "R n k"]
    kernel: Float[Tensor, "R k k"]
    kappa: Float[Tensor, "R n"]
    gain: Float[Tensor, "R k n"] | None = None
    recorded: dict[MarginLoss, Recorded] | None = None

    def sums(self, force: Float[Tensor, "R n"]) -> Float[Tensor, "R 1 k"]:
        """Σ φy(x, e, 0) over the rows of this process."""
        return torch.bmm(force[:, None], self.features)

    def speed(self, force: Float[Tensor, "R n"], sums: Float[Tensor, "R 1 k"]) -> Float[Tensor, "R n"]:
        """dm/dt of the rows from their own forces and the sums over all examples."""
        if self.gain is None:
            collective = torch.bmm(torch.bmm(sums, self.kernel), self.features.mT)
        else:
            collective = torch.bmm(sums, self.gain)
        return collective.squeeze(1).addcmul_(self.kappa, force)

    def select(self, replicas: Sequence[int]) -> Rows:
        """The rows of some replicas."""
        there = list(replicas)
        gain = None if self.gain is None else self.gain[there]
        return Rows(self.features[there], self.kernel[there], self.kappa[there], gain)


@dataclass(frozen=True)
class Surrogate:
    """K̂ of the present nodes of each replica on its training set.

    Attributes:
        x, y: Inputs and labels.
        e: What each example adds to the constant of F, and feels of it.
        kernel: What the features meet in, over N.
        kappa: Diagonal κ/N.
        processes: How the examples are divided.
        all_rows: The same written out, where it is small.
    """

    x: Float[Tensor, "R N d"]
    y: Float[Tensor, "R N"]
    e: Float[Tensor, "R N"]
    kernel: Float[Tensor, "R k k"]
    kappa: Float[Tensor, "R N"]
    processes: Processes
    all_rows: Rows | None = None

    @classmethod
    def of(cls, evaluator: Evaluator, nodes: Nodes) -> Surrogate:
        """The kernels of ``nodes``."""
        (x, y, lengths), processes, N = evaluator.inputs, evaluator.processes, evaluator.N
        R, _, d = x.shape
        covariance, a_squared = evaluator.second_moments(nodes)
        trace = covariance.diagonal(dim1=1, dim2=2).sum(dim=1)
        mean_s = (trace * (evaluator.mean_length / d)).double().sqrt_().clamp_min_(1e-12)
        mean, c, second, slope, tilt = normal_moments(evaluator.activation, mean_s)
        squares = [
            (mean / mean_s).square(),
            tilt.square() / d,
            second / mean_s.square() - c.square(),
            slope - c.square(),
        ]
        c_squared, of_mean, of_tilt, of_s, of_x = torch.stack([c.square() / d, *squares]).to(x.dtype)[..., None]
        covariance, a_squared = covariance.to(x.dtype), a_squared.to(x.dtype)[:, None]

        kernel = x.new_zeros(R, d + 2, d + 2)
        linear = kernel[:, :d, :d].copy_(covariance)
        linear.diagonal(dim1=1, dim2=2).add_(a_squared)
        linear.mul_(c_squared[..., None])
        kernel[:, d, d] = 1.0
        s_squared = quadratic_forms(x, covariance).clamp_min_(0.0).div_(d)
        e = (s_squared * of_mean).addcmul_(lengths, a_squared * of_tilt).sqrt_()
        kappa = s_squared.mul_(of_s).addcmul_(e, e, value=-1.0).addcmul_(lengths, a_squared * of_x)
        whole = cls(x, y, e, kernel.div_(N), kappa.div_(N), processes)
        if WRITTEN_OUT[x.device.type] < N:
            return whole
        return replace(whole, all_rows=whole.rows(None)._replace(recorded=evaluator.recorded))

    def select(self, replicas: Sequence[int]) -> Surrogate:
        """The kernels of some replicas."""
        if len(replicas) == len(self.y):
            return self
        there = list(replicas)
        some: dict[str, Any] = {name: getattr(self, name)[there] for name in ("x", "y", "e", "kernel", "kappa")}
        return replace(self, **some, all_rows=self.all_rows and self.all_rows.select(there))

    def of_all(self, force: Float[Tensor, "R N"]) -> Forces:
        """Forces with their features."""
        rows = self.all_rows
        features = _features(force, self.x, self.y, self.e) if rows is None else rows.sums(force)
        return Forces(force, self.processes.sum_rows(features))

    def changed(self, before: Forces, force: Float[Tensor, "R N"]) -> Forces:
        """`of_all` by what has changed, which is often little."""
        change = force - before.force
        rows = PaddedRows(change != 0.0)
        if 4 * rows.n <= change.shape[1]:
            features = _features(rows.take(change), *(rows.take(values) for values in (self.x, self.y, self.e)))
        else:
            features = _features(change, self.x, self.y, self.e)
        return Forces(force, before.features + self.processes.sum_rows(features))

    def speed(self, forces: Forces) -> Float[Tensor, "R N"]:
        """dm/dt of the examples."""
        force, features = forces
        if self.all_rows is not None:
            return self.all_rows.speed(force, features)
        meeting = torch.bmm(features, self.kernel)
        of_x = torch.bmm(self.x, meeting[..., :-2].mT).squeeze(2)
        return of_x.addcmul_(self.e, meeting[:, 0, -2:-1]).mul_(self.y).addcmul_(self.kappa, force)

    def rows(self, rows: PaddedRows | None) -> Rows:
        """The same kernels written out on some rows of this process, or all; padded ones feel and do nothing."""
        if rows is None and self.all_rows is not None:
            return self.all_rows
        parts = (self.x, self.y, self.e, self.kappa)
        x, y, e, kappa = parts if rows is None else (rows.take(values) for values in parts)
        R, n, d = x.shape
        features = x.new_zeros(R, n, d + 2)
        torch.mul(x, y[..., None], out=features[..., :d])
        torch.mul(e, y, out=features[..., d])
        small = n <= WRITTEN_OUT[x.device.type]
        return Rows(features, self.kernel, kappa, torch.bmm(self.kernel, features.mT) if small else None)


def _features(force: Tensor, x: Tensor, y: Tensor, e: Tensor) -> Float[Tensor, "R 1 k"]:
    signed = (force * y)[:, None]
    return torch.cat([torch.bmm(signed, x), torch.bmm(signed, e[..., None]), signed.new_zeros(len(x), 1, 1)], dim=2)
