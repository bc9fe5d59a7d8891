"""The surrogate kernels K̂ of all replicas (`mfnet.flow.surrogate`)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.activations import Activation
from mfnet.ensemble.drive import Nodes
from mfnet.ensemble.problem import Inputs
from mfnet.ensemble.rows import PaddedRows
from mfnet.flow.surrogate import normal_moments


class Surrogates(NamedTuple):
    """K̂/N on some rows of every replica: a low-rank part and a diagonal.

    Attributes:
        features: y(x, e) of each row.
        kernel: What the features meet in: c²(S + ⟨a²⟩)/d and 1, over N.
        kappa: Diagonal κ/N.
    """

    features: Float[Tensor, "R n k"]
    kernel: Float[Tensor, "R k k"]
    kappa: Float[Tensor, "R n"]

    def rows(self, rows: PaddedRows) -> Surrogates:
        """The same kernels on some rows; padded ones feel and do nothing."""
        return Surrogates(rows.take(self.features), self.kernel, rows.take(self.kappa))

    def sums(self, force: Float[Tensor, "R n"]) -> Float[Tensor, "R 1 k"]:
        """Σ φy(x, e) over the rows."""
        return torch.bmm(force[:, None], self.features)

    def speed(self, force: Float[Tensor, "R n"], sums: Float[Tensor, "R 1 k"]) -> Float[Tensor, "R n"]:
        """dm/dt of the rows from their own forces and the sums over all rows."""
        return torch.bmm(self.features, torch.bmm(sums, self.kernel).mT).squeeze(2).addcmul_(self.kappa, force)

    def __call__(self, force: Float[Tensor, "R n"]) -> Float[Tensor, "R n"]:
        """dm/dt of the rows under the forces φ, if they are all there are."""
        force = force.to(self.kappa.dtype)
        return self.speed(force, self.sums(force))


def surrogates(activation: Activation, nodes: Nodes, inputs: Inputs) -> Surrogates:
    """K̂ of the present nodes."""
    xy, y, lengths = inputs
    (R, N, d), M, dtype = xy.shape, nodes.a.shape[1], xy.dtype
    covariance = (torch.bmm(nodes.w.mT, nodes.w) / M).to(dtype)
    a_squared = nodes.a.square().sum(dim=1).div(M).double()
    trace = covariance.diagonal(dim1=1, dim2=2).sum(dim=1).double()
    mean_s = (trace * lengths.double().mean(dim=1) / d).sqrt().clamp_min(1e-12)
    mean, c, second, slope = normal_moments(activation, mean_s)

    kernel = xy.new_zeros(R, d + 1, d + 1)
    kernel[:, :d, :d] = covariance
    kernel[:, :d, :d].diagonal(dim1=1, dim2=2).add_(a_squared.to(dtype)[:, None])
    kernel[:, :d, :d] *= (c.square() / d).to(dtype)[:, None, None]
    kernel[:, d, d] = 1.0
    kernel /= N

    s2 = torch.bmm(xy, covariance).mul_(xy).sum(dim=2).clamp_min_(0.0).div_(d)
    e = s2.sqrt() * (mean / mean_s).to(dtype)[:, None]
    kappa = s2 * (second / mean_s.square() - c.square()).to(dtype)[:, None]
    kappa.addcmul_(lengths, (a_squared * (slope - c.square())).to(dtype)[:, None]).addcmul_(e, e, value=-1.0)
    features = torch.cat([xy, (e * y)[..., None]], dim=2)
    return Surrogates(features, kernel, kappa.div_(N))
