"""The equations behind `mfnet.theory.closures`: second moments of the nodes, and the margins that drive them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mfnet.theory.arrays import Array
from mfnet.theory.losses import HINGE
from mfnet.theory.mean_field import MeanField
from mfnet.theory.node_kernel import KernelParts, curvature_weight, kernel_parts
from mfnet.theory.overlay import Draw
from mfnet.theory.sliding import HINGE_WIDTH, Kernel, implicit_step

#: Turn of the nodes, as an angle, after which the parts of the kernel are computed anew.
_REFRESH = 0.05


class Observed(NamedTuple):
    """What a closure says at one time; the fields of `mfnet.theory.closures.ClosureSolution`."""

    gamma: float
    unsatisfied: float
    loss: float
    train_error: float
    test_error: float
    displacement: float
    outside: float
    a_row: Float[Array, " D"]
    w_par_row: Float[Array, " D"]


class Nodes:
    """The nodes under the linear flow ȧ = w·q, ẇ = a q: θ(t) = P θ(0), θ = (a, w) ∈ R^{d+1}.

    Args:
        theta: Initial nodes whose moments are taken; None for infinitely many.
        model: Dimension, and the variances of infinitely many nodes.
    """

    def __init__(self, theta: Float[Array, "M D"] | None, model: MeanField):
        d = model.d
        self.propagator = np.eye(d + 1)
        self.theta = theta
        variances = np.diag([model.a_std**2, *[model.w_std**2] * d])
        self.start = variances if theta is None else theta.T @ theta / len(theta)
        self.mean0 = np.zeros(d + 1) if theta is None else theta.mean(axis=0)
        self.sigma = self.start

    @property
    def mean(self) -> Float[Array, " D"]:
        """E[θ]."""
        return self.propagator @ self.mean0

    def sigma_ahead(self, q: Float[Array, " d"], dt: float) -> Float[Array, "D D"]:
        """E[θθᵀ] after a time ``dt`` under ``q``."""
        turn = _Turn(q, dt)
        return turn(turn(self.sigma).T)

    def move(self, q: Float[Array, " d"], dt: float) -> None:
        """Moves the nodes for a time ``dt`` under ``q``; a² − |w|² of each is conserved."""
        turn = _Turn(q, dt)
        self.sigma = turn(turn(self.sigma).T)
        self.propagator = turn(self.propagator)
        if self.theta is not None:
            self.theta = turn(self.theta.T).T

    def gamma(self, direction: Float[Array, " d"]) -> float:
        """The clock as `mfnet.network.observables.order_parameter` measures it: least squares on initial values."""
        factors = []
        for sign in (1.0, -1.0):
            reading = np.concatenate([[1.0], sign * direction])
            initial = self.start @ reading
            factors.append(float(reading @ self.propagator @ initial) / float(reading @ initial))
        return math.asinh((factors[0] - factors[1]) / 2.0)

    def outside(self, direction: Float[Array, " d"]) -> float:
        """Share of ⟨|w − w₀|²⟩ that is not along ``direction``; 0 before any motion."""
        moved = self.propagator[1:].copy()
        moved[:, 1:] -= np.eye(len(direction))
        total = float(np.einsum("ij,jk,ik->", moved, self.start, moved))
        along = direction @ moved
        return 1.0 - float(along @ self.start @ along) / total if total > 0.0 else 0.0

    def displacement(self) -> float:
        """|θ − θ₀|/|θ₀|, as root mean squares over the nodes."""
        moved = self.propagator - np.eye(len(self.propagator))
        return math.sqrt(float(np.einsum("ij,jk,ik->", moved, self.start, moved)) / float(np.trace(self.start)))

    def skew_ahead(self, u: Float[Array, " d"], q: Float[Array, " d"], dt: float) -> Float[Array, "d d"] | None:
        """Traceless part of ⟨a w⊥w⊥ᵀ⟩ after a time ``dt`` under ``q``, w⊥ being the part of w across ``u``.

        It is zero in the mean, and of order 1/√M for actual nodes.
        """
        if self.theta is None:
            return None
        theta = _Turn(q, dt)(self.theta.T)
        w = (theta[1:] - np.outer(u, u @ theta[1:])).T
        third = w.T @ (w * (theta[0, :, None] / len(w)))
        return third - np.eye(len(u)) * (np.trace(third) / len(u))


class _Turn:
    """exp(Δt H), H = [[0, qᵀ], [q, 0]]: a rotation in hyperbolic angle |q|Δt in the plane of (a, q̂)."""

    def __init__(self, q: Float[Array, " d"], dt: float):
        norm = math.sqrt(float(q @ q))
        self.still = norm == 0.0
        self.e = q if self.still else q / norm
        self.c1, self.s = math.cosh(norm * dt) - 1.0, math.sinh(norm * dt)

    def __call__(self, rows: Float[Array, "D n"]) -> Float[Array, "D n"]:
        """It times ``rows``."""
        if self.still:
            return rows
        first, along = rows[0], self.e @ rows[1:]
        turned = rows.copy()
        turned[0] += first * self.c1 + along * self.s
        turned[1:] += self.e[:, None] * (along * self.c1 + first * self.s)
        return turned


class ClosureFlow:
    """Margins of one training set and moments of its nodes, from t = 0.

    Args:
        mean_field: α, h, activation and loss.
        run: The actual training and test set.
        theta: Initial nodes (a, w), or None for infinitely many.
        memory: Whether the kernel has its constant and quadratic parts and the memory of single examples, or is linear.
        resolution: Longest step, relative to t, and as a hyperbolic angle of the nodes.
    """

    def __init__(
        self, mean_field: MeanField, run: Draw, theta: Float[Array, "M D"] | None, memory: bool, resolution: float
    ):
        self.model, self.run, self.memory, self.resolution = mean_field, run, memory, resolution
        self.N, self.d = run.x.shape
        self.activation, self.loss = mean_field.nonlinearity, mean_field.margin_loss
        self.nodes = Nodes(theta, mean_field)
        self.t, self.margins = 0.0, np.zeros(self.N)
        self.force = self.loss.force(self.margins, mean_field.h)
        self.features = run.y[:, None] * run.x
        self.own = np.zeros(self.N)
        self.q = self._drive(self.features.T @ self.force)
        # αF on the test set, and what has been added to it since the last refresh in units of the present features
        self.test_output, self.x_test = np.zeros(len(run.y_test)), run.x_test.astype(np.float32)
        self.test_parts: KernelParts | None = None
        if memory:
            self.features = np.column_stack([self.features, np.zeros(self.N)])
            self._refresh()
        self.impulse = self.features.T @ self.force
        self.pending = np.zeros(self.features.shape[1])
        speed = self.features @ (self._blend(self.nodes.sigma) @ self.impulse) / self.N
        fastest = max(math.sqrt(float(self.q @ self.q)), float(np.abs(speed).max()) / mean_field.h, 1e-300)
        self.shortest = resolution / fastest

    def _drive(self, impulse: Float[Array, " k"]) -> Float[Array, " d"]:
        """q = (c/(α√d)) ⟨φ y x⟩."""
        return impulse[: self.d] * (self.model.odd_slope / (self.model.alpha * math.sqrt(self.d) * self.N))

    # ------------------------------------------------------------ the kernel

    def _blend(self, sigma: Float[Array, "D D"]) -> Float[Array, "k k"]:
        """B of the kernel: its linear part, the constant one, and between them the mean of actual nodes."""
        d, c = self.d, self.model.odd_slope
        blend = np.eye(self.features.shape[1])
        blend[:d, :d] = (sigma[1:, 1:] + sigma[0, 0] * np.eye(d)) * (c**2 / d)
        if self.memory:
            blend[:d, d] = blend[d, :d] = self.mean[1:] * (c / math.sqrt(d))
        return blend

    def _refresh(self) -> None:
        """Computes the parts of the kernel anew, for the present nodes."""
        x, nodes = self.run.x, self.nodes
        grown = nodes.sigma[0, 1:] - nodes.start[0, 1:]
        u = grown if grown.any() else self.q
        norm = float(np.linalg.norm(u))
        self.u = u / norm if norm > 0.0 else self.run.direction
        self.mean, self.sigma_then, self.turned = nodes.mean, nodes.sigma, 0.0
        parts = kernel_parts(self.activation, x, nodes.sigma, self.model.w_std)
        self.features[:, self.d] = self.run.y * parts.even
        self.own, self.curved = parts.own, parts.curved
        self.across, self.test_parts = self._across(x), None
        self.quadratic_own = parts.curved**2 * (np.einsum("nd,nd->n", self.across, self.across) / self.d) ** 2
        self.skew = nodes.skew_ahead(self.u, self.q, 0.0)
        self.quadratic = np.zeros((self.d, self.d), dtype=np.float32)

    def _across(self, x: Float[Array, "n d"]) -> Array:
        """Rows across the direction in which weights have grown; in float32, which is enough for the quadratic part."""
        return (x - np.outer(x @ self.u, self.u)).astype(np.float32)

    def _settle(self) -> None:
        """Adds to the test outputs what has been gathered since the last refresh."""
        x = self.run.x_test
        self.test_output += x @ self.pending[: self.d]
        if self.memory:
            if self.test_parts is None:  # since the last refresh
                self.test_parts = kernel_parts(self.activation, x, self.sigma_then, self.model.w_std)
            form = np.einsum("nd,nd->n", self.x_test @ self._across(self._across(self.quadratic).T), self.x_test)
            form /= self.d**2
            self.test_output += self.test_parts.even * self.pending[self.d] + self.test_parts.curved * form
            self.quadratic[:] = 0.0
        self.pending[:] = 0.0

    def _push_quadratic(self, dt: float) -> None:
        """The quadratic part of the kernel over a step, explicitly: with the forces of the step before.

        Its features are d² and its eigenvalues small. The self-term is in κ, and is left out. Actual nodes add what
        the even part of F gains, αE σ″ x⊥·Δ⟨a w⊥w⊥ᵀ⟩x⊥/2d: the noise of finite M.
        """
        tau = dt / self.N
        forced = np.flatnonzero(self.force)
        across = self.across[forced]
        signed = (tau * self.force * self.run.y * self.curved)[forced].astype(np.float32)
        form = across.T @ (across * signed[:, None])
        skew = self.nodes.skew_ahead(self.u, self.q, dt)
        if skew is not None:
            weight = curvature_weight(float(self.sigma_then[0, 0]), self.model.w_std)
            unit = self.model.alpha * self.d / (2.0 * weight)
            form += (unit * (skew - self.skew)).astype(np.float32)
            self.skew = skew
        value = np.einsum("nd,nd->n", self.across @ form, self.across) / self.d**2
        self.margins += self.run.y * self.curved * value - tau * self.quadratic_own * self.force
        self.quadratic += form

    # ------------------------------------------------------------ time

    def advance_to(self, until: float) -> None:
        """Evolves margins and nodes to the time ``until``."""
        while self.t < until:
            if not self.force.any():  # every example is satisfied: nothing moves any more
                self.t = until
                return
            speed = math.sqrt(float(self.q @ self.q))
            longest = min(self.resolution * self.t, 2.0 * self.resolution / max(speed, 1e-300))
            n_steps = math.ceil((until - self.t) / max(self.shortest, longest) - 1e-9)
            self._step((until - self.t) / n_steps)
            if n_steps == 1:
                self.t = until

    def _step(self, dt: float) -> None:
        if self.memory:
            if self.turned > _REFRESH:
                self._settle()
                self._refresh()
            self._push_quadratic(dt)
        tau = dt / self.N
        blend = self._blend(self.nodes.sigma_ahead(self.q, dt / 2.0))
        kernel = Kernel(self.features, blend, self.own)
        step = implicit_step(kernel, self.loss, self.model.h, self.margins, tau, self.impulse)
        self.force, self.impulse = step.force, step.features
        gained = tau * (blend @ self.impulse)
        self.margins += self.features @ gained + tau * self.own * self.force
        self.pending += gained
        self.q = self._drive(self.impulse)
        self.nodes.move(self.q, dt)
        self.t += dt
        if self.memory:
            self.turned += math.sqrt(float(self.q @ self.q)) * dt

    def observe(self) -> Observed:
        """Predictions at the present time; an example that slides along the margin is satisfied."""
        self._settle()
        h, direction = self.model.h, self.run.direction
        margin = h * (1.0 - HINGE_WIDTH) if self.loss == HINGE else h
        return Observed(
            self.nodes.gamma(direction),
            float(np.mean(self.margins < margin)),
            float(np.mean(self.loss.value(self.margins, h))) / self.model.alpha**2,
            _error(self.margins),
            _error(self.run.y_test * self.test_output),
            self.nodes.displacement(),
            self.nodes.outside(direction),
            self.nodes.propagator[0].copy(),
            direction @ self.nodes.propagator[1:],
        )


def _error(margins: Float[Array, " n"]) -> float:
    """Share of the wrong side; F = 0 counts one half."""
    return float(np.mean(margins < 0.0) + 0.5 * np.mean(margins == 0.0))
