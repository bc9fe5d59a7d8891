"""Tangent kernels at t = 0: of the infinite network and of an actual one (theory.md 4, the lazy limit).

With z = w·x/√d, a of mean zero and variance A² and every component of w of variance B², both averages over nodes,

    K(x, x') = ⟨σ(z)σ(z')⟩ + ⟨a²σ'(z)σ'(z')⟩ x·x'/d.

For the infinite network (z, z') are normal with standard deviations s = B|x|/√d and correlation ρ = cos θ. With
σ(z) = cz + e(z), e even, odd and even parts do not mix, and

    K = c²(A² + B²) x·x'/d + ⟨e e'⟩ + A² ⟨ė ė'⟩ x·x'/d.

Where e = β|z| (ReLU, leaky ReLU, linear) the averages are the arc-cosine formulas of Cho and Saul (2009). Otherwise
they are expanded in normalised Hermite polynomials (Mehler's formula), with h_k(s) = E[e(sξ) He_k(ξ)]/√k!:

    ⟨e e'⟩ + A² ⟨ė ė'⟩ x·x'/d = Σ_k (1 + kA²/B²) h_k(s) h_k(s') ρ^k,   k even,

because √k h_k(s)/s are the coefficients of ė.

>>> x = np.eye(2)
>>> LimitKernel("relu")(x, x).round(6).tolist()  # ½(1 + 1)/d on the diagonal, 1/(2πd) where inputs are orthogonal
[[0.5, 0.079577], [0.079577, 0.5]]
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Integer

from mfnet.theory.activations import Activation, activation_of
from mfnet.theory.arrays import Array

#: Rows of a kernel that are computed at a time: temporaries are arrays of so many rows and one column an example.
ROWS = 1024

#: Nodes of an actual network that are summed over at a time.
NODES = 1024

#: Largest Gram matrix that is held, in bytes (16000 examples). Beyond it, blocks are computed whenever they are needed.
STORED_BYTES = 2**31

#: The series of a smooth activation ends where its rest is below this share of K(x, x) for the longest input.
SERIES_RTOL = 1e-10
_LONGEST_SERIES = 300  # terms; h_k falls as exp(−√k π/s) for SiLU and softplus

#: Quadrature for h_k by the trapezoidal rule on ξ ≥ 0, which is exponentially accurate; twice the weight of ξ > 0.
_XI = np.linspace(0.0, 14.0, 701)
_WEIGHT = np.exp(-(_XI**2) / 2.0) * (_XI[1] - _XI[0]) * math.sqrt(2.0 / math.pi) * np.where(_XI == 0.0, 0.5, 1.0)

_NAME = "the tangent kernel"  # in messages


class TangentKernel:
    """A kernel K(x, x') of pairs of inputs; a subclass computes some rows of it, and what its nodes do."""

    @abstractmethod
    def rows(self, x: Float[Array, "n d"], x2: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """K(x, x2), with temporaries of n × m numbers."""

    @abstractmethod
    def clock(self, x: Float[Array, "n d"], direction: Float[Array, " d"]) -> Float[Array, " n"]:
        """What sinh γ gains by a pull yφ/(αN) at x, as `mfnet.network.observables.order_parameter` measures it.

        First order in 1/α: nodes move by δa = σ(z)δ, δw = a₀σ′(z)xδ/√d for every pull δ.
        """

    def __call__(self, x: Float[Array, "n d"], x2: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """K(x, x2): of training with training inputs, or of test with training inputs."""
        result = np.empty((len(x), len(x2)))
        for block in _blocks(len(x), ROWS):
            result[block] = self.rows(x[block], x2)
        return result

    def product(self, x: Float[Array, "n d"], x2: Float[Array, "m d"], v: Float[Array, "m k"]) -> Float[Array, "n k"]:
        """K(x, x2) v, without holding K."""
        return np.concatenate([self.rows(x[block], x2) @ v for block in _blocks(len(x), ROWS)])


@dataclass(frozen=True)
class LimitKernel(TangentKernel):
    """The kernel of infinitely many nodes (M → ∞), in closed form or by a series to ten digits.

    A block of n × m elements costs O(nmd), and for a smooth activation two passes over it for each of about 20 terms.

    Args:
        activation: A name in `mfnet.theory.activations`, or an `Activation`.
        a_std: Standard deviation A of a.
        w_std: Standard deviation B of every component of w.
    """

    activation: str | Activation
    a_std: float = 1.0
    w_std: float = 1.0

    def rows(self, x: Float[Array, "n d"], x2: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """K(x, x2).

        Raises:
            ValueError: If inputs are too long for the series of a smooth activation (|x|/√d above about 5).
        """
        activation, d = activation_of(self.activation), x.shape[1]
        var_a, var_w = self.a_std**2, self.w_std**2
        gram = x @ x2.T / d
        s, s2 = (self.w_std * np.linalg.norm(inputs, axis=1) / math.sqrt(d) for inputs in (x, x2))
        lengths = np.multiply.outer(s, s2)
        rho = np.clip(var_w * gram / np.where(lengths > 0.0, lengths, 1.0), -1.0, 1.0)
        result = activation.odd_slope**2 * (var_a + var_w) * gram
        if activation.kink is not None:
            angle = np.arcsin(rho)
            modulus = lengths * (np.sqrt(1.0 - rho**2) + rho * angle)  # (π/2) ⟨|z||z'|⟩
            return result + activation.kink**2 * (2.0 / math.pi) * (modulus + var_a * gram * angle)
        coefficients = _even_coefficients(activation, var_a / var_w, np.concatenate([s, s2]))
        rho_sq, series = rho**2, np.zeros_like(rho)
        for h, h2 in zip(coefficients[::-1, : len(s)], coefficients[::-1, len(s) :], strict=True):
            series *= rho_sq
            series += np.multiply.outer(h, h2)
        return result + series

    def clock(self, x: Float[Array, "n d"], direction: Float[Array, " d"]) -> Float[Array, " n"]:
        return activation_of(self.activation).odd_slope * (x @ direction) / math.sqrt(x.shape[1])


@dataclass(frozen=True, eq=False)
class ActualKernel(TangentKernel):
    """The kernel of the actual nodes ``a``, ``w``: a block of n × m elements costs O(nmM + (n + m)dM)."""

    activation: str | Activation
    a: Float[Array, " M"]
    w: Float[Array, "M d"]

    def rows(self, x: Float[Array, "n d"], x2: Float[Array, "m d"]) -> Float[Array, "n m"]:
        activation, d, M = activation_of(self.activation), x.shape[1], len(self.a)
        values, slopes = np.zeros((len(x), len(x2))), np.zeros((len(x), len(x2)))
        for nodes in _blocks(M, NODES):
            z, z2 = (inputs @ self.w[nodes].T / math.sqrt(d) for inputs in (x, x2))
            values += _value(activation, z) @ _value(activation, z2).T
            slopes += (_slope(activation, z) * self.a[nodes] ** 2) @ _slope(activation, z2).T
        return (values + slopes * (x @ x2.T / d)) / M

    def clock(self, x: Float[Array, "n d"], direction: Float[Array, " d"]) -> Float[Array, " n"]:
        activation, d = activation_of(self.activation), x.shape[1]
        u, v = self.a + self.w @ direction, self.a - self.w @ direction
        grow, shrink = u / (u @ u), v / (v @ v)  # sinh γ = (δu·grow − δv·shrink)/2
        x_par, result = x @ direction / math.sqrt(d), np.zeros(len(x))
        for nodes in _blocks(len(self.a), NODES):
            z = x @ self.w[nodes].T / math.sqrt(d)
            result += _value(activation, z) @ (grow - shrink)[nodes] / 2.0
            result += x_par * (_slope(activation, z) @ (self.a * (grow + shrink))[nodes]) / 2.0
        return result


class Gram:
    """The kernel among the N training inputs, with labels: Q_nk = y_n K(x_n, x_k) y_k.

    Held as one matrix up to `STORED_BYTES`; beyond, every product computes it again, in blocks: 5·10⁻⁸ N² seconds on
    one core for ReLU and d = 100 instead of 10⁻⁹ N² (N = 20000: 20 s; a flow needs a thousand products).
    """

    def __init__(self, kernel: TangentKernel, x: Float[Array, "N d"], y: Float[Array, " N"]):
        self._kernel, self._x, self.y = kernel, x, y
        #: Q_nn = K(x_n, x_n).
        self.diagonal = np.concatenate([np.diagonal(kernel(x[rows], x[rows])) for rows in _blocks(len(x), 64)])
        self._matrix: Array | None = None
        if 8 * len(x) ** 2 <= STORED_BYTES:
            self._matrix = kernel(x, x)
            self._matrix *= y[:, None]
            self._matrix *= y

    def __len__(self) -> int:
        return len(self.y)

    def product(self, v: Float[Array, " N"]) -> Float[Array, " N"]:
        """Q v."""
        if self._matrix is not None:
            return self._matrix @ v
        return self.y * self._kernel.product(self._x, self._x, (self.y * v)[:, None])[:, 0]

    def columns_product(self, chosen: Integer[Array, " s"], v: Float[Array, " s"]) -> Float[Array, " N"]:
        """Q v of a v that is zero but for some examples."""
        if len(chosen) == len(self):
            return self.product(v)
        result = np.zeros(len(self))
        for block in _blocks(len(chosen), ROWS):
            which = chosen[block]
            if self._matrix is not None:
                result += v[block] @ self._matrix[which]
            else:
                result += self.y * ((self.y[which] * v[block]) @ self._kernel.rows(self._x[which], self._x))
        return result

    def among(self, chosen: Integer[Array, " s"]) -> Float[Array, "s s"]:
        """The part of Q between some examples; a copy."""
        if self._matrix is not None:
            return self._matrix[np.ix_(chosen, chosen)]
        x, y = self._x[chosen], self.y[chosen]
        return self._kernel(x, x) * np.multiply.outer(y, y)


def _blocks(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


def _value(activation: Activation, z: Array) -> Array:
    return activation.odd_slope * z + activation.need("even", _NAME)(z)


def _slope(activation: Activation, z: Array) -> Array:
    """σ'(z); of no consequence at the kink, where it is taken to be c."""
    return activation.odd_slope + activation.need("even_slope", _NAME)(z)


def _even_coefficients(activation: Activation, ratio: float, s: Float[Array, " n"]) -> Float[Array, "k n"]:
    """√(1 + k·ratio) h_k(s) for k = 0, 2, 4, …, as many as it takes, where ratio is A²/B².

    What is left out is largest at ρ = 1, where the whole sum is known (Parseval), and for the longest input.
    """
    even_of, slope_of = (activation.need("even", _NAME), activation.need("even_slope", _NAME))
    weights = _hermite_weights() * np.sqrt(1.0 + ratio * np.arange(0, 2 * _LONGEST_SERIES, 2))[:, None]
    longest = s.max() * _XI
    even, slope = even_of(longest), s.max() * slope_of(longest)
    total = float((even**2 + ratio * slope**2) @ _WEIGHT)
    rest = total - np.cumsum((weights @ even) ** 2)
    enough = np.flatnonzero(rest <= SERIES_RTOL * (total + activation.odd_slope**2 * (1.0 + ratio) * s.max() ** 2))
    if len(enough) == 0:
        raise ValueError(
            f"the kernel of {activation.name} is not accurate for inputs as long as w_std·|x|/√d = {s.max():.3g}; "
            "scale the inputs down, or take a homogeneous activation"
        )
    return weights[: enough[0] + 1] @ even_of(np.multiply.outer(_XI, s))


@cache
def _hermite_weights() -> Float[Array, "k q"]:
    """Quadrature weights of h_k, k = 0, 2, 4, …"""
    before, now, rows = np.zeros_like(_XI), np.ones_like(_XI), []
    for k in range(2 * _LONGEST_SERIES):
        if k % 2 == 0:
            rows.append(now * _WEIGHT)
        before, now = now, (_XI * now - math.sqrt(k) * before) / math.sqrt(k + 1)
    return np.array(rows)
