"""The flow of a kernel on N examples for the square loss, in closed form: forces decay as exp(−Qt/N).

With ℓ = (h − m)²/2 the force φ = h − m obeys φ̇ = −Qφ/N, so that from φ₀ = h − m₀ at t = 0

    φ(t) = exp(−Qt/N) φ₀,    c(t) = (1/N) ∫ φ dt = Q⁻¹ (1 − exp(−Qt/N)) φ₀,    m = h − φ.

**Method.** Functions of Q times one vector need no eigenvectors of Q. The Lanczos process makes an orthonormal basis V
of the space of φ₀, Qφ₀, …, Q^{m−1}φ₀, in which Q is tridiagonal, T, and f(Q)φ₀ = |φ₀| V f(T) e₁ (Saad 1992). One
basis serves all times. It grows until the error of φ is below `TOLERANCE`, of which there is a bound: what V leaves out
drives φ by −(β_m/N)(e_mᵀ exp(−Tt/N) e₁)|φ₀|, of one sign at all times, and exp(−Qt/N) is a contraction, so that

    |error of φ| ≤ |φ₀| β_m |e_mᵀ T⁻¹ (1 − exp(−Tt/N)) e₁|.

A kernel on normal inputs needs some 20 to 100 products with Q, instead of the 9N³ operations of all its eigenvectors.
The basis is made orthogonal again at every step, and with N vectors it would be exact.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh_tridiagonal

from mfnet.theory.arrays import Array
from mfnet.theory.kernel_steps import State
from mfnet.theory.tangent_kernel import Gram

#: Largest error of the forces, root mean square over examples, relative to that of the forces at t = 0.
TOLERANCE = 1e-10

#: A next vector of the basis that is shorter than this, relative to Q, is rounding: the space is all that Q reaches.
_ROUNDING = 1e-13


class Exponential:
    """The flow of the square loss.

    Args:
        gram: Q.
        h: Margin of the loss.
        margins: m at t = 0.
    """

    def __init__(self, gram: Gram, h: float, margins: Float[Array, " N"]):
        self.gram, self.h, self._start = gram, h, margins
        self._scale = float(np.linalg.norm(h - margins))
        self._basis = np.empty((min(len(gram), 64), len(gram)))
        self._basis[0] = (h - margins) / (self._scale or 1.0)
        self._diagonal: list[float] = []
        self._beside: list[float] = []
        self._rates, self._vectors = np.empty(0), np.empty((0, 0))

    def at(self, t: float) -> State:
        """The flow at time ``t``."""
        if t == 0.0:
            return State(t, np.zeros(len(self.gram)), self._start, self.h - self._start)
        self._extend_until(t)
        basis, first = self._basis[: len(self._rates)], self._vectors[0]
        force = self._scale * (self._vectors @ (np.exp(-self._rates * t / len(self.gram)) * first)) @ basis
        impulse = self._scale * (self._vectors @ (self._gains(t) * first)) @ basis
        return State(t, impulse, self.h - force, force)

    def _gains(self, t: float) -> Float[Array, " m"]:
        """(1 − exp(−λt/N))/λ of the eigenvalues λ of T."""
        N, rates = len(self.gram), self._rates
        still = rates <= 1e-300
        return np.where(still, t / N, -np.expm1(-rates * t / N) / np.where(still, 1.0, rates))

    def _extend_until(self, t: float) -> None:
        """Adds vectors to the basis until it serves up to time ``t``."""
        while self._error(t) > TOLERANCE:
            for _ in range(max(4, len(self._diagonal) // 8)):
                if not self._complete:
                    self._add()
            size = len(self._diagonal)
            rates, self._vectors = eigh_tridiagonal(self._diagonal, self._beside[: size - 1])
            self._rates = np.maximum(rates, 0.0)  # a kernel is positive, but for rounding

    def _error(self, t: float) -> float:
        """Bound on the error of the forces, relative to those at t = 0."""
        if not len(self._rates):
            return math.inf
        if self._complete:
            return 0.0
        return self._beside[-1] * abs(float(self._vectors[-1] @ (self._gains(t) * self._vectors[0])))

    @property
    def _complete(self) -> bool:
        """Whether the basis has all that Q makes of the first vector."""
        size = len(self._diagonal)
        return size == len(self.gram) or (size > 0 and self._beside[-1] <= _ROUNDING * max(self._diagonal))

    def _add(self) -> None:
        """Takes the next vector into account, and finds the one after it."""
        size = len(self._diagonal)
        if size + 1 >= len(self._basis) < len(self.gram):
            more = min(len(self._basis), len(self.gram) - len(self._basis))
            self._basis = np.concatenate([self._basis, np.empty((more, len(self.gram)))])
        basis = self._basis[: size + 1]
        new = self.gram.product(basis[-1])
        self._diagonal.append(float(basis[-1] @ new))
        for _ in range(2):
            new -= (basis @ new) @ basis
        length = float(np.linalg.norm(new))
        self._beside.append(length)
        if not self._complete:
            self._basis[size + 1] = new / length
