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
from copy import copy

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.activations import Activation
from mfnet.drive import Batch
from mfnet.network import MeanFieldNetwork

#: Nodes and weights of the average over a standard normal variable; kinks limit it to three digits, which do here.
_XI, _WEIGHT = np.polynomial.hermite_e.hermegauss(64)


def normal_moments(activation: Activation, s: Float[Tensor, "*R"]) -> tuple[Float[Tensor, "*R"], ...]:
    """E σ, E zσ/s², E σ² and E σ′² for normal z of standard deviations ``s``, in float64."""
    s = s[..., None]
    z = s * torch.from_numpy(_XI).to(s.device)
    weight = torch.from_numpy(_WEIGHT / math.sqrt(2.0 * math.pi)).to(s.device)
    value, derivative = activation.value(z), activation.derivative(z)
    integrands = (value, z * value / s.square(), value.square(), derivative.square())
    return tuple(integrand @ weight for integrand in integrands)


class Surrogate:
    """K̂ of the present nodes on a training set.

    Args:
        network: The network.
        batch: The examples of this process; their type, float32 say, is the type of all that is computed.
    """

    def __init__(self, network: MeanFieldNetwork, batch: Batch):
        self.batch, self.processes = batch, network.processes
        self.N, d = self.processes.count_rows(len(batch.y)), network.d
        type_ = batch.x.dtype
        covariance = (self.processes.sum_nodes(network.w.T @ network.w) / network.M).to(type_)
        a_squared = float(self.processes.sum_nodes(network.a.square().sum())) / network.M
        mean_s = max(math.sqrt(float(covariance.trace()) * self._mean_square(batch.x)) / d, 1e-12)
        moments = normal_moments(network.activation, torch.tensor(mean_s, dtype=torch.float64))
        mean, c, second, slope = map(float, moments)
        self.linear = (covariance + a_squared * torch.eye(d, dtype=type_, device=covariance.device)) * (c**2 / d)
        s = ((batch.x @ covariance) * batch.x).sum(dim=1).clamp_min_(0.0).div_(d).sqrt_()
        lengths = batch.x.square().sum(dim=1).div_(d)
        self.e = s * (mean / mean_s)
        self.kappa = s.square() * (second / mean_s**2 - c**2) + lengths * (a_squared * (slope - c**2)) - self.e.square()

    def _mean_square(self, x: Float[Tensor, "N d"]) -> float:
        """⟨|x|²⟩ over all examples."""
        return float(self.processes.sum_rows(x.square().sum())) / self.N

    def rows(self, rows: Tensor) -> Surrogate:
        """The same kernel on some rows of this process; counts and features are still of all examples."""
        part = copy(self)
        part.batch = Batch(*(values[rows] for values in self.batch))
        part.e, part.kappa = self.e[rows], self.kappa[rows]
        return part

    def features(self, force: Float[Tensor, " n"]) -> Float[Tensor, " k"]:
        """Σ φy(x, e) over the rows of this process."""
        signed = force.to(self.kappa.dtype) * self.batch.y
        return torch.cat([signed @ self.batch.x, (signed @ self.e)[None]])

    def features_of_change(self, change: Float[Tensor, " n"]) -> Float[Tensor, " k"]:
        """`features` of forces most of which are 0."""
        rows = change.nonzero().squeeze(1)
        return self.features(change) if 4 * len(rows) > len(change) else self.rows(rows).features(change[rows])

    def speed(self, force: Float[Tensor, " n"], features: Float[Tensor, " k"]) -> Float[Tensor, " n"]:
        """dm/dt of the rows from their own forces and the features of all examples."""
        collective = torch.addmv(self.e * features[-1], self.batch.x, self.linear @ features[:-1])
        return collective.mul_(self.batch.y).addcmul_(self.kappa, force).div_(self.N)

    def __call__(self, force: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """dm/dt of the rows under the forces φ, if they are all there are."""
        force = force.to(self.kappa.dtype)
        return self.speed(force, self.processes.sum_rows(self.features(force)))
