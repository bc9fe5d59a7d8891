"""The mean-field solution for separable data, N → ∞ and M → ∞ (Sec. 3.1).

It asks of the inputs that x and −x, and x∥ŵ* + x⊥ and x∥ŵ* − x⊥, are equally likely: then every node is driven
along ŵ* by the same J(t), and one clock γ moves them all (the derivation is with `mfnet.theory.projections`).

What fails with a general covariance C, normal inputs say: F = v·x stays linear, and the drive q ∝ ⟨φ y x⟩ is still
the same for all nodes, but it starts along Cŵ*, not ŵ*, so that w⊥ moves at the same order as w∥; and because φ
depends on v, q turns with time in the plane of Cŵ* and Cv. Nodes then follow ȧ = w·q(t), ẇ = a q(t), whose
propagators at different times do not commute: no single clock, no hyperbolas. Only where Cŵ* ∝ ŵ* (x∥ independent of
x⊥, which need not be isotropic) are these equations those of eq. 10. Measured with a correlation of 0.6 of x∥ and
one other component (d = 20, α = 1, tests/theory/test_other_data.py): w⊥ at first moves 0.6 times as far as w∥, q
turns by 54°, and the single clock misses a third to a half of the motion of a, and later a third of that of w∥.

>>> from mfnet.theory import MeanField
>>> solution = MeanField(d=100, alpha=1.0).solve([1.0, 100.0])
>>> [round(float(g), 6) for g in solution.gamma]
[0.039894, 2.215737]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float

from mfnet.theory import clock
from mfnet.theory.activations import Activation, activation_of
from mfnet.theory.arrays import Array, Numbers, Values
from mfnet.theory.losses import HINGE, Loss, check_slope, loss_of
from mfnet.theory.mean_field_solution import MeanFieldSolution
from mfnet.theory.overlap import Empirical
from mfnet.theory.overlay import Curve, Draw, Nodes, Theory
from mfnet.theory.projections import ProjectionLaw, projection_law


@dataclass(frozen=True)
class MeanField(Theory):
    """A network of infinitely many nodes that learns infinitely many examples.

    Initial parameters are independent and normal, of mean zero. All times are mean-field time t
    (a step of SGD with learning rate η advances t by η/M).

    Of the initial variances A² and B² only their mean V enters the clock, and as a change of units:
    γ(t; α, A, B) = γ(Vt; αV, 1, 1).

    Raises ValueError for a parameter outside its range.

    Args:
        d: Input dimension.
        alpha: Scale α of the loss (eq. 8): small is rich, large is lazy.
        h: Margin below which an example is unsatisfied.
        activation: Name of an activation whose odd part is linear (`mfnet.theory.activations`), or an `Activation`.
        loss: Name of a margin loss (`mfnet.theory.losses`), or a `Loss`.
        inputs: 'normal' (eq. 13), 'sphere' (eq. 14), 'radial', 'elongated', 'mixture', or a law of projections;
            'empirical' are those of one run, which `of_draw` gives.
        radius: For radial inputs, the law of |x|: ``{"name": scipy.stats law, **parameters}``.
        stretch: For elongated inputs, the standard deviation along ŵ*; it is 1 across.
        separation: For a mixture, the distance of the two centres from the origin.
        flip: Fraction ε of training labels that are reversed (Sec. 3.4); empirical inputs have theirs.
        dt: None solves the flow; a number solves gradient descent with steps of Δt = dt exactly.
        scheme: With ``dt``, the step that is taken: 'euler' (gradient descent) or 'rotation'.
        a_std: Initial standard deviation A of every a.
        w_std: Initial standard deviation B of every component of every w.
    """

    d: int
    alpha: float = 1.0
    h: float = 1.0
    activation: str | Activation = "relu"
    loss: str | Loss = "hinge"
    inputs: str | ProjectionLaw = "normal"
    radius: Mapping[str, object] | None = None
    flip: float = 0.0
    dt: float | None = None
    scheme: Literal["euler", "rotation"] = "euler"
    stretch: float = 1.0
    a_std: float = 1.0
    w_std: float = 1.0
    separation: float = 0.0

    def __post_init__(self) -> None:
        for name, valid, allowed in (
            ("d", self.d >= 2, "at least 2"),
            ("alpha", 0.0 < self.alpha < math.inf, "finite and above 0"),
            ("h", 0.0 < self.h < math.inf, "finite and above 0"),
            ("flip", 0.0 <= self.flip < 0.5, "at least 0 and below 1/2"),
            ("dt", self.dt is None or 0.0 < self.dt < math.inf, "None, or finite and above 0"),
            ("scheme", self.scheme in ("euler", "rotation"), "'euler' or 'rotation'"),
            ("stretch", 0.0 < self.stretch < math.inf, "finite and above 0"),
            ("stretch", self.stretch == 1.0 or self.inputs == "elongated", "1 unless inputs='elongated'"),
            ("separation", 0.0 <= self.separation < math.inf, "finite and at least 0"),
            ("separation", self.separation == 0.0 or self.inputs == "mixture", "0 unless inputs='mixture'"),
            ("a_std", 0.0 < self.a_std < math.inf, "finite and above 0"),
            ("w_std", 0.0 < self.w_std < math.inf, "finite and above 0"),
        ):
            if not valid:
                raise ValueError(f"{name}={getattr(self, name)!r} must be {allowed}")
        if not self.nonlinearity.odd_part_is_linear:
            raise ValueError(
                f"activation={self.nonlinearity.name!r} has an odd part that is not linear, and so no mean-field "
                "solution in closed form: use Hydrodynamic"
            )
        if not 0.0 < self.odd_slope < math.inf:
            raise ValueError(
                f"odd_slope={self.odd_slope!r} of the activation {self.nonlinearity.name!r} must be finite and above 0"
            )
        loss = self.margin_loss
        force = float(loss.force(np.zeros(1), self.h)[0])
        if not 0.0 < force < math.inf:
            raise ValueError(f"the force of the loss {loss.name!r} must be finite and above 0 at m=0, and is {force}")
        if self.inputs == "empirical" or isinstance(self.inputs, Empirical):
            check_slope(loss, "MeanField with inputs='empirical'")

    @property
    def nonlinearity(self) -> Activation:
        """σ."""
        return activation_of(self.activation)

    @property
    def margin_loss(self) -> Loss:
        """ℓ and its force φ."""
        return loss_of(self.loss)

    @cached_property
    def law(self) -> ProjectionLaw:
        """Law of the signed projections ζ = y ŵ*·x of the training set."""
        return projection_law(self.inputs, self.d, self.radius, self.flip, self.stretch, self.separation)

    @property
    def trusted_as(self) -> str:
        return "mean_field"

    @property
    def needs_draw(self) -> bool:
        return self.inputs == "empirical"

    def of_draw(self, draw: Callable[[], Draw]) -> MeanField:
        """With the projections of a run where inputs are 'empirical'; its labels are flipped already."""
        return replace(self, inputs=Empirical.of(draw()), flip=0.0) if self.needs_draw else self

    @property
    def odd_slope(self) -> float:
        """c in σ(z) − σ(−z) = 2cz."""
        return self.nonlinearity.odd_slope

    @property
    def mean_variance(self) -> float:
        """V = (A² + B²)/2, all that the output knows of the initial variances (eq. 11)."""
        return (self.a_std**2 + self.w_std**2) / 2.0

    def threshold(self, slope: Values) -> Values:
        """z_c = h/(αs): examples with ŵ*·x y < z_c are unsatisfied (eq. 12)."""
        with np.errstate(divide="ignore"):
            return self.h / (self.alpha * np.asarray(slope, dtype=float))

    def slope(self, cosh: Values, sinh: Values) -> Values:
        """s = cV sinh 2γ/√d in F(x) = s ŵ*·x (eq. 11), from the coefficients of the nodes' hyperbola."""
        return 2.0 * self.mean_variance * self.odd_slope * cosh * sinh / math.sqrt(self.d)

    def force(self, slope: float) -> float:
        """J = ⟨φ(αyF) y ŵ*·x⟩ when F(x) = slope · ŵ*·x (eq. 13, 14 for the hinge)."""
        z_c = float(self.threshold(np.asarray(slope)))
        loss, scale = self.margin_loss, self.alpha * slope
        if loss == HINGE:
            return float(self.law.mean_below(np.asarray(z_c)))
        return self.law.expect(lambda zeta: loss.force(scale * zeta, self.h) * zeta, z_c)

    def rate(self, gamma: float) -> float:
        """γ̇ = cJ/(α√d)."""
        slope = float(self.slope(np.cosh(gamma), np.sinh(gamma)))
        return self.odd_slope * self.force(slope) / (self.alpha * math.sqrt(self.d))

    @cached_property
    def stepped(self) -> clock.SteppedClock | None:
        """The clock of the hinge on an actual training set, whose rate falls with every example that is satisfied."""
        return self.stepped_clock(self.mean_variance, 0.0)

    def stepped_clock(self, p: float, q: float) -> clock.SteppedClock | None:
        """The same for F = c/√d (p sinh 2γ + 2q sinh²γ) x∥, as of actual nodes (`mfnet.theory.finite_width`)."""
        if self.margin_loss != HINGE or not isinstance(self.law, Empirical):
            return None

        def rates(gamma: Array) -> Array:
            overlap = p * np.sinh(2.0 * gamma) + 2.0 * q * np.sinh(gamma) ** 2
            force = self.law.mean_below(self.threshold(self.odd_slope * overlap / math.sqrt(self.d)))
            return self.odd_slope * force / (self.alpha * math.sqrt(self.d))

        reached = self.law.zeta[self.law.zeta > 0.0]
        wanted = q + self.h * math.sqrt(self.d) / (self.alpha * self.odd_slope * reached)  # = p sinh 2γ + q cosh 2γ
        return clock.SteppedClock.of(rates, 0.5 * np.log((wanted + np.sqrt(wanted**2 + p**2 - q**2)) / (p + q)))

    @property
    def gamma_star(self) -> float:
        """γ at t = ∞: finite with label noise, overlapping classes, a finite set or the square loss, else inf.

        For the hinge ½ asinh(h√d/(αcV z_c)), with z_c = √(2 ln((1−ε)/(1−2ε))) for normal data.
        """
        return self.stepped.end if self.stepped else clock.fixed_point(self.rate)

    @property
    def relaxation_rate(self) -> float:
        """−dγ̇/dγ at γ*: late, γ* − γ(t) falls as exp(−relaxation_rate · t) (Sec. 3.4); 0 where γ* is infinite.

        For the hinge dJ/dz_c = z_c p(z_c), with p the density of ζ, and dz_c/dγ = −2z_c coth 2γ, so the rate is
        2c/(α√d) · z_c² p(z_c) coth 2γ*: for normal data 4cm₁/(α√d) · (1−2ε) ln((1−ε)/(1−2ε)) coth 2γ*, about in
        proportion to ε. Other losses, and laws that do not know their density, are differentiated numerically. On a
        finite training set the hinge reaches γ* at a finite time, and the rate is inf.
        """
        if self.stepped:
            return math.inf
        gamma = self.gamma_star
        if math.isinf(gamma):
            return 0.0
        z_c = self.threshold(self.slope(math.cosh(gamma), math.sinh(gamma)))
        density = self.law.density(z_c) if self.margin_loss == HINGE else None
        if density is None:
            return -clock.derivative(self.rate, gamma)
        force_slope = 2.0 * float(z_c**2 * density) / math.tanh(2.0 * gamma)  # −dJ/dγ
        return self.odd_slope * force_slope / (self.alpha * math.sqrt(self.d))

    @cached_property
    def time_scale(self) -> float:
        """The time at which γ at its speed under unit forces would satisfy an example of average projection.

        It is the natural unit of time of a run: about 50 at α = 1, d = 100, about 0.14 at α = 10⁻³ and
        about 310 in the lazy limit.
        """
        speed = self.odd_slope * self.law.m1 / (self.alpha * math.sqrt(self.d))
        return float(self.gamma_sat(np.asarray(self.law.m1))) / speed

    def gamma_sat(self, x_par: Values) -> Values:
        """γ at which an example with projection |ŵ*·x| = x_par becomes satisfied (eq. 12)."""
        with np.errstate(divide="ignore"):
            ratio = self.h * math.sqrt(self.d) / (self.alpha * self.mean_variance * self.odd_slope * np.abs(x_par))
        return 0.5 * np.arcsinh(ratio)

    def time_of(self, gamma: Numbers) -> Values:
        """The time at which γ(t) passes ``gamma``: the inverse of ``solve(t).gamma``; inf where it never does."""
        values = np.asarray(gamma, dtype=float)
        flat = values.ravel()
        times = self.stepped.time_at(flat) if self.stepped else clock.time_at(self.rate, flat)
        return times.reshape(values.shape)

    def t_sat(self, x_par: Numbers) -> Values:
        """The time at which a rightly labelled example with projection x_par is satisfied (Fig. 1d)."""
        return self.time_of(self.gamma_sat(np.asarray(x_par, dtype=float)))

    def solve(self, t: Numbers) -> MeanFieldSolution:
        """The state at the times ``t``; inf is allowed for a flow.

        With ``dt`` the steps land on every time: an interval is divided into equal steps no longer than dt.

        Raises:
            ValueError: For negative or, with ``dt``, decreasing or infinite times.
        """
        times = np.atleast_1d(np.asarray(t, dtype=float))
        if not (times >= 0.0).all():
            raise ValueError(f"times must not be negative, and are {times}")
        if self.dt is None:
            gamma = self.stepped.gamma_at(times) if self.stepped else clock.gamma_at(self.rate, times)
            with np.errstate(over="ignore"):
                return MeanFieldSolution(self, times, np.cosh(gamma), np.sinh(gamma))
        if not np.isfinite(times).all() or (np.diff(times) < 0.0).any():
            raise ValueError(f"with steps of dt={self.dt} times must be finite and increase, and are {times}")
        return self._solve_steps(times, self.dt)

    def _solve_steps(self, times: Float[Array, " T"], dt: float) -> MeanFieldSolution:
        """Gradient descent: κ = Δt cJ/(α√d) mixes (a, w∥) of every node in the same way at each step."""
        cosh, sinh, now = 1.0, 0.0, 0.0
        states = []
        for time in times:
            n_steps = math.ceil((time - now) / dt - 1e-9)
            for _ in range(n_steps):
                force = self.force(self.slope(cosh, sinh))
                kappa = (time - now) / n_steps * self.odd_slope * force / (self.alpha * math.sqrt(self.d))
                if self.scheme == "euler":
                    cosh, sinh = cosh + kappa * sinh, sinh + kappa * cosh
                else:
                    c, s = math.cosh(kappa), math.sinh(kappa)
                    cosh, sinh = cosh * c + sinh * s, sinh * c + cosh * s
            now = time
            states.append((cosh, sinh))
        c_array, s_array = np.array(states).T
        return MeanFieldSolution(self, times, c_array, s_array)

    def series(self, t: Float[Array, " T"]) -> dict[str, Curve]:
        solution = self.solve(t)
        return {
            "gamma": Curve(solution.gamma),
            "unsatisfied": Curve(solution.unsatisfied),
            "loss": Curve(solution.loss),
            "train_error": Curve(solution.train_error),
            "test_error": Curve(solution.test_error),
            "displacement": Curve(solution.displacement),
        }

    def nodes(
        self, t: Float[Array, " T"], a0: Float[Array, " n"], w_par0: Float[Array, " n"], w_perp0: Float[Array, " n"]
    ) -> Nodes:
        a, w_par = self.solve(t).nodes(a0, w_par0)
        return Nodes(a, w_par, np.broadcast_to(w_perp0, a.shape).copy())

    def satisfaction(self, t: Float[Array, " T"]) -> Curve:
        return Curve(self.solve(t).z_c)
