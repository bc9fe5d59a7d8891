"""A cheap stand-in for the tangent kernel, and the forces it predicts over a step (theory.md, 1).

Under the flow margins obey ``N dm_n/dt = Σ_k y_n K_nk y_k φ_k`` with the tangent kernel
``K_nk = ⟨σ(z_n)σ(z_k)⟩ + ⟨a²σ′(z_n)σ′(z_k)⟩ x_n·x_k/d``, averages over the nodes. Its stiff part is of low rank:
nodes with normal weights of covariance S = ⟨wwᵀ⟩ have

    K̂_nk = c² x_n·(S + ⟨a²⟩) x_k / d + e_n e_k + κ_n δ_nk

where cz is the odd part of σ, e_n = E σ(s_n ξ) its mean, s_n² = x_n·S x_n/d, and the self-term κ_n makes the diagonal
right: what is left out are the parts of the kernel of second and higher order in x_n·x_k, off the diagonal.
One application costs two products of a vector with the N × d inputs, whatever M is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mfnet.activations import Activation
from mfnet.network import MeanFieldNetwork
from mfnet.processes import Processes

#: Nodes and weights of the average over a standard normal variable; kinks limit it to three digits, which do here.
_XI, _WEIGHT = np.polynomial.hermite_e.hermegauss(64)

#: Rows of a tile of inputs.
ROWS = 4096


def normal_moments(activation: Activation, s: Float[Tensor, "*R"]) -> tuple[Float[Tensor, "*R"], ...]:
    """E σ, E zσ/s², E σ² and E σ′² for normal z of standard deviations ``s``, in float64."""
    s = s[..., None]
    z = s * torch.from_numpy(_XI).to(s.device)
    weight = torch.from_numpy(_WEIGHT / math.sqrt(2.0 * math.pi)).to(s.device)
    value, derivative = activation.value(z), activation.derivative(z)
    integrands = (value, z * value / s.square(), value.square(), derivative.square())
    return tuple(integrand @ weight for integrand in integrands)


class Inputs(NamedTuple):
    """What of the examples never changes."""

    x: Float[Tensor, "N d"]
    y: Float[Tensor, " N"]
    lengths: Float[Tensor, " N"]  # |x|²/d
    N: int  # of all processes
    mean_length: float  # of all processes

    @classmethod
    def of(cls, x: Float[Tensor, "N d"], y: Float[Tensor, " N"], processes: Processes) -> Inputs:
        """The inputs and labels of this process; their type, float32 say, is the type of all that is computed."""
        lengths = torch.linalg.vector_norm(x, dim=1).square_().div_(x.shape[1])
        N = processes.count_rows(len(y))
        return cls(x, y, lengths, N, float(processes.sum_rows(lengths.sum())) / N)


def quadratic_forms(x: Float[Tensor, "N d"], matrix: Float[Tensor, "d d"]) -> Float[Tensor, " N"]:
    """x_n·A x_n, in tiles that stay in the cache (measured: 3.5 times faster than at once for N = 10⁵)."""
    forms = x.new_empty(len(x))
    for part, form in zip(x.split(ROWS), forms.split(ROWS), strict=True):
        torch.sum((part @ matrix).mul_(part), dim=1, out=form)
    return forms


class Surrogate:
    """K̂ of the present nodes on a training set.

    Args:
        network: The network.
        inputs: The examples of this process.
    """

    @torch.no_grad()
    def __init__(self, network: MeanFieldNetwork, inputs: Inputs):
        self.x, self.y, self.N = inputs.x, inputs.y, inputs.N
        self.processes, d, type_ = network.processes, network.d, inputs.x.dtype
        covariance = (self.processes.sum_nodes(network.w.T @ network.w) / network.M).to(type_)
        a_squared = float(self.processes.sum_nodes(network.a.square().sum())) / network.M
        mean_s = max(math.sqrt(float(covariance.trace()) * inputs.mean_length / d), 1e-12)
        moments = normal_moments(network.activation, torch.tensor(mean_s, dtype=torch.float64))
        mean, c, second, slope = map(float, moments)
        self.linear = (covariance + a_squared * torch.eye(d, dtype=type_, device=covariance.device)) * (c**2 / d)
        s_squared = quadratic_forms(inputs.x, covariance).clamp_min_(0.0).div_(d)
        self.e = s_squared.sqrt() * (mean / mean_s)
        own = s_squared.mul_(second / mean_s**2 - c**2).sub_(self.e.square())
        self.kappa = own.add_(inputs.lengths, alpha=a_squared * (slope - c**2))

    def rows(self, rows: Int[Tensor, " n"]) -> SomeRows:
        """The same kernel on some rows of this process."""
        n, d = len(rows), self.x.shape[1]
        features, kernel = self.x.new_empty(n, d + 1), self.x.new_zeros(d + 1, d + 1)
        features[:, :d], features[:, d] = self.x[rows], self.e[rows]
        kernel[:d, :d], kernel[d, d] = self.linear, 1.0
        return SomeRows(features.mul_(self.y[rows, None]), kernel.div_(self.N), self.kappa[rows] / self.N)

    def features(self, force: Float[Tensor, " n"]) -> Float[Tensor, " k"]:
        """Σ φy(x, e) over the rows of this process."""
        return _features(force.to(self.kappa.dtype) * self.y, self.x, self.e)

    def features_of_change(self, change: Float[Tensor, " n"]) -> Float[Tensor, " k"]:
        """`features` of forces most of which are 0."""
        rows = change.nonzero().squeeze(1)
        if 4 * len(rows) > len(change):
            return self.features(change)
        return _features(change[rows].to(self.kappa.dtype) * self.y[rows], self.x[rows], self.e[rows])

    def speed(self, force: Float[Tensor, " n"], features: Float[Tensor, " k"]) -> Float[Tensor, " n"]:
        """dm/dt of the rows from their own forces and the features of all examples."""
        collective = torch.addmv(self.e * features[-1], self.x, self.linear @ features[:-1])
        return collective.mul_(self.y).addcmul_(self.kappa, force).div_(self.N)


class SomeRows(NamedTuple):
    """K̂/N on some rows, whose sub-steps are many and small, and cost as much as there are operations in them.

    Attributes:
        features: y(x, e) of each row.
        kernel: What the features meet in: c²(S + ⟨a²⟩)/d and 1, over N.
        kappa: Diagonal κ/N.
    """

    features: Float[Tensor, "n k"]
    kernel: Float[Tensor, "k k"]
    kappa: Float[Tensor, " n"]

    def sums(self, force: Float[Tensor, " n"]) -> Float[Tensor, " k"]:
        """Σ φy(x, e) over the rows."""
        return force @ self.features

    def speed(
        self, force: Float[Tensor, " n"], sums: Float[Tensor, " k"], drift: Float[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """dm/dt of the rows from their own forces and the sums over all examples, and a given drift beside it."""
        return torch.addcmul(drift, self.kappa, force).addmv_(self.features, self.kernel @ sums)


def _features(signed: Float[Tensor, " n"], x: Float[Tensor, "n d"], e: Float[Tensor, " n"]) -> Float[Tensor, " k"]:
    return torch.cat([signed @ x, (signed @ e)[None]])
