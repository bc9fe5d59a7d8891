"""The hydrodynamic equation itself (eq. 5), for any activation and for labels of up to three latent directions.

The mean-field solution in closed form needs an activation whose odd part is linear, and labels that are odd in x. Eq. 5
needs neither (Section 2 of the paper). `Hydrodynamic` moves the density of nodes along its characteristics
(`mfnet.theory.characteristics`): for N → ∞ and M → ∞ it is exact up to terms of order 1/d^{3/2}.

>>> from mfnet.theory import Hydrodynamic, MeanField
>>> solution = Hydrodynamic(d=100, alpha=1.0, rtol=1e-6).solve([100.0])
>>> bool(abs(solution.gamma[0] - MeanField(d=100, alpha=1.0).solve(100.0).gamma[0]) < 1e-6)
True
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from mfnet.theory.activations import Activation, activation_of
from mfnet.theory.arrays import Array, Numbers
from mfnet.theory.characteristics import Flow, RunawayError, carried
from mfnet.theory.equation import Equation
from mfnet.theory.hydrodynamic_solution import OUTERMOST, HydrodynamicSolution, observe
from mfnet.theory.latent import LatentLaw, Rule, latent_law
from mfnet.theory.losses import Loss, check_slope, loss_of
from mfnet.theory.overlay import Curve, Draw, Nodes, Theory, drawn_nodes
from mfnet.theory.rays import Rays, typical_lengths

#: Gauss–Hermite points in each component of (a, v), by the number of latent directions.
_POINTS = {1: 16, 2: 8, 3: 6}

#: Share of the output at which they decide, so that curves end: these would be those of the points of the quadrature.
LARGEST_TAIL = 0.05

#: Points of the quadrature in all components together, with which eq. 5 can still be solved.
MOST_POINTS = 10**6

#: Rule of each law of the inputs, where none is given.
_RULES = {"normal": "sign", "mixture": "mixture", "latent": "sign"}


class Density(NamedTuple):
    """Density of the nodes in the plane of (a, v), on the mesh into which a square of initial values has moved."""

    a: Float[Array, "T p p"]
    v: Float[Array, "T p p"]
    value: Float[Array, "T p p"]


@dataclass(frozen=True)
class Hydrodynamic(Theory):
    """Eq. 5 for labels of a few latent directions; it speaks of infinitely many nodes and examples.

    Args:
        d: Input dimension.
        alpha, h: Scale of the loss, and its margin.
        activation: A name or an `Activation`.
        a_std, w_std: Initial standard deviations A of a and B of each component of w.
        loss: A name or a `Loss`, whose force must not jump, but for the hinge's.
        inputs: 'latent', normal inputs with labels of the ``rule``; 'normal', the rule 'sign'; 'mixture', two classes.
        rule: A name of `mfnet.theory.latent.LAWS`, a function of u (n, k) that gives labels ±1 (n,), or a law.
        k: Number of latent directions, where the rule is a function.
        at: Where threshold and shell have their jump; None for what they have by default.
        separation: Distance of the centres of the clusters from the origin, likewise.
        flip: Fraction of training labels that are reversed.
        rtol: Error of a time step, relative to how far nodes have moved.
        points: Quadrature points in each component of (a, v); None for 16, 8 and 6 for k = 1, 2 and 3.
        draw: Gives the run's draw; the paths of its nodes need it, if there are several latent directions.
    """

    d: int
    alpha: float = 1.0
    h: float = 1.0
    activation: str | Activation = "relu"
    a_std: float = 1.0
    w_std: float = 1.0
    loss: str | Loss = "hinge"
    inputs: str = "normal"
    rule: str | Rule | LatentLaw | None = None
    k: int | None = None
    at: float | None = None
    separation: float | None = None
    flip: float = 0.0
    rtol: float = 3e-4
    points: int | None = None
    draw: Callable[[], Draw] | None = None
    _solved: list[HydrodynamicSolution] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        law = self.law
        for name, valid, allowed in (
            ("d", self.d > law.k, f"above the number of latent directions, {law.k}"),
            ("alpha", 0.0 < self.alpha < math.inf, "finite and above 0"),
            ("h", 0.0 < self.h < math.inf, "finite and above 0"),
            ("a_std", 0.0 < self.a_std < math.inf, "finite and above 0"),
            ("w_std", 0.0 < self.w_std < math.inf, "finite and above 0"),
            ("flip", 0.0 <= self.flip < 0.5, "at least 0 and below 1/2"),
            ("rtol", 0.0 < self.rtol <= 0.1, "above 0 and at most 0.1"),
            ("points", self.points is None or self.points >= 2, "at least 2"),
            ("points", (self.points or 2) ** (law.k + 1) <= MOST_POINTS, f"at most {MOST_POINTS} in all components"),
        ):
            if not valid:
                raise ValueError(f"{name}={getattr(self, name)!r} must be {allowed}")
        activation_of(self.activation).need("value", type(self).__name__)
        check_slope(loss_of(self.loss), type(self).__name__)

    @property
    def law(self) -> LatentLaw:
        """The law of (u, y).

        Raises:
            ValueError: For what is none.
        """
        if self.inputs not in _RULES:
            raise ValueError(
                f"inputs={self.inputs!r} must be one of {', '.join(_RULES)}: eq. 5 takes them to be normal"
            )
        rule = self.rule if self.rule is not None else _RULES[self.inputs]
        return latent_law(rule, self.k, self.at, self.separation)

    @property
    def trusted_as(self) -> str:
        return "hydrodynamic"

    @property
    def needs_draw(self) -> bool:
        return False  # but for the paths of nodes

    def of_draw(self, draw: Callable[[], Draw]) -> Hydrodynamic:
        return replace(self, draw=draw)

    def equation(self, measure: Float[Array, " n"]) -> Equation:
        """Eq. 5 for nodes of these weights."""
        return Equation(
            self.d,
            self.alpha,
            self.h,
            activation_of(self.activation),
            loss_of(self.loss),
            Rays(self.law, typical_lengths(self.d - self.law.k)),
            self.flip,
            measure,
        )

    def initial(self) -> tuple[Float[Array, "n D"], Float[Array, " n"], Bool[Array, " n"]]:
        """(a, v, r) of the nodes at t = 0, their weights, and whether each is one of the outermost."""
        k, count = self.law.k, self.points or _POINTS[self.law.k]
        x, w = np.polynomial.hermite_e.hermegauss(count)
        grid = np.stack(np.meshgrid(*[x] * (k + 1), indexing="ij"), axis=-1).reshape(-1, k + 1)
        weights = np.stack(np.meshgrid(*[w / w.sum()] * (k + 1), indexing="ij"), axis=-1).reshape(-1, k + 1)
        scaled = grid * np.array([self.a_std, *[self.w_std] * k])
        lengths = self.w_std * typical_lengths(self.d - k)
        theta = np.column_stack([np.repeat(scaled, len(lengths), axis=0), np.tile(lengths, len(grid))])
        outermost = (np.abs(grid) > OUTERMOST).any(axis=1)
        return theta, np.repeat(weights.prod(axis=1) / len(lengths), len(lengths)), np.repeat(outermost, len(lengths))

    def solve(self, t: Numbers) -> HydrodynamicSolution:
        """The density at increasing finite times ``t`` ≥ 0; times that were asked for before are not solved again.

        Raises:
            ValueError: For times that decrease, are negative or not finite.
        """
        times = np.atleast_1d(np.asarray(t, dtype=float))
        if not (np.isfinite(times).all() and (np.diff(times, prepend=0.0) >= 0.0).all()):
            raise ValueError(f"times must be finite, not negative, and increase, and are {times}")
        for solution in self._solved:
            if np.isin(times, solution.t).all():
                return solution.at(np.searchsorted(solution.t, times))
        self._solved.append(self._solve(times))
        return self._solved[-1]

    def carried(self, t: Numbers, start: Float[Array, "m D"]) -> Float[Array, "T m D"]:
        """(a, v, r) at the times ``t`` of nodes that start at ``start`` and feel what all others do."""
        solution = self.solve(t)
        return carried(solution.equation, solution.steps, start, solution.t)

    def _solve(self, times: Float[Array, " T"]) -> HydrodynamicSolution:
        theta, measure, outermost = self.initial()
        flow = Flow(self.equation(measure), theta, self.rtol)
        states, observed, now = [], [], observe(flow, outermost)
        for time in times:
            if now["tail"] <= LARGEST_TAIL:
                try:
                    flow.advance_to(float(time))
                    now = observe(flow, outermost)
                except RunawayError:
                    now = {**now, "tail": math.inf}
            states.append(flow.theta)
            observed.append(now)
        columns = {name: np.array([values[name] for values in observed]) for name in observed[0]}
        nodes, lost = np.array(states), columns["tail"] > LARGEST_TAIL
        for values in (nodes, *(values for name, values in columns.items() if name != "tail")):
            values[lost] = np.nan
        return HydrodynamicSolution(flow.equation, times, nodes, flow.steps, **columns)

    def series(self, t: Float[Array, " T"]) -> dict[str, Curve]:
        solution = self.solve(t)
        names = ("gamma", "unsatisfied", "loss", "train_error", "test_error", "displacement")
        return {name: Curve(getattr(solution, name)) for name in names}

    def nodes(
        self, t: Float[Array, " T"], a0: Float[Array, " n"], w_par0: Float[Array, " n"], w_perp0: Float[Array, " n"]
    ) -> Nodes | None:
        v0 = w_par0[:, None] if self.law.k == 1 else self._latent_components(a0, w_par0)
        if v0 is None:
            return None  # nodes of another draw: their latent components are not known
        r0 = np.sqrt(np.maximum(w_par0**2 + w_perp0**2 - (v0**2).sum(axis=1), 0.0))
        paths = self.carried(t, np.column_stack([a0, v0, r0]))
        others = (paths[..., 2:] ** 2).sum(axis=2)
        return Nodes(paths[..., 0], paths[..., 1], np.sqrt(others))

    def density(self, t: Numbers, reach: float = 3.5, points: int = 31) -> Density:
        """Density of (a, v) for one latent direction and nodes of average length: ρ_t(θ(t)) = ρ₀(θ₀)/|∂θ(t)/∂θ₀|.

        Args:
            t: Increasing times.
            reach: Half the side of the square of initial values, in their standard deviations.
            points: Points along it.

        Raises:
            ValueError: For several latent directions.
        """
        if self.law.k != 1:
            raise ValueError(
                f"the density in the plane of (a, v) is that of one latent direction, and there are {self.law.k}"
            )
        x = np.linspace(-reach, reach, points)
        a0, v0 = np.meshgrid(self.a_std * x, self.w_std * x, indexing="ij")
        length = self.w_std * typical_lengths(self.d - 1).mean()
        theta = self.carried(t, np.column_stack([a0.ravel(), v0.ravel(), np.full(a0.size, length)]))
        a, v = theta[..., 0].reshape(-1, points, points), theta[..., 1].reshape(-1, points, points)
        (a_a, a_v), (v_a, v_v) = (np.gradient(moved, a0[:, 0], v0[0], axis=(1, 2)) for moved in (a, v))
        start = np.exp(-0.5 * (x[:, None] ** 2 + x**2)) / (2.0 * math.pi * self.a_std * self.w_std)
        return Density(a, v, start / np.abs(a_a * v_v - a_v * v_a))

    def _latent_components(self, a0: Float[Array, " n"], w_par0: Float[Array, " n"]) -> Float[Array, "n k"] | None:
        """v of the run's nodes that have these a and w∥ at t = 0."""
        draw = self.draw and self.draw()
        if draw is None or draw.latent is None:
            return None
        found = drawn_nodes(draw, a0, w_par0)
        return None if found is None else draw.w0[found] @ draw.latent.T

    def latent_output(self, t: Float[Array, " T"], u: Float[Array, "q k"]) -> Float[Array, "T q"]:
        return self.solve(t).output(u)

    def satisfaction(self, t: Float[Array, " T"]) -> Curve | None:
        return Curve(self.solve(t).margin_at) if self.law.name == "sign" else None
