"""The one ordinary differential equation of the mean-field solution: γ̇ = rate(γ), γ(0) = 0.

It is integrated by SciPy both ways, γ(t) and t(γ), each to about ten digits; a rate that is constant between the
γ at which single examples are satisfied, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

Array = np.ndarray
Rate = Callable[[float], float]

RTOL = 1e-11


def gamma_at(rate: Rate, t: Float[Array, " T"]) -> Float[Array, " T"]:
    """γ at the times ``t`` (any order, ≥ 0, inf for the fixed point; inf where there is none).

    Time is measured in units of 1/rate(0), so that γ ≈ t early on whatever α is. LSODA switches to
    an implicit method where the flow relaxes to a fixed point (label noise, square loss).
    """
    start = rate(0.0)
    finite = np.isfinite(t)
    gamma = np.full(t.shape, np.inf)
    if not finite.all():
        gamma[~finite] = fixed_point(rate)
    times, inverse = np.unique(t[finite] * start, return_inverse=True)
    if times.size and times[-1] > 0.0:
        solution = solve_ivp(
            lambda _, y: [rate(y[0]) / start],
            (0.0, times[-1]),
            [0.0],
            method="LSODA",
            t_eval=times,
            rtol=RTOL,
            atol=1e-15 + RTOL * min(1.0, float(times[times > 0.0][0])),
        )
        if not solution.success:
            raise RuntimeError(
                f"the equation of γ could not be integrated to t={times[-1] / start:g}: {solution.message}"
            )
        gamma[finite] = solution.y[0][inverse]
    else:
        gamma[finite] = 0.0
    return gamma


def time_at(rate: Rate, gamma: Float[Array, " n"]) -> Float[Array, " n"]:
    """The time at which γ passes each of the values ``gamma`` (any order, ≥ 0); inf where it never does.

    Within 10⁻⁸ of a fixed point the time is not determined by γ in floating point, and is given as inf.
    """
    result = np.full(gamma.shape, np.inf)
    reached = gamma < fixed_point(rate) * (1.0 - 1e-8)
    values, inverse = np.unique(gamma[reached], return_inverse=True)
    if values.size == 0 or values[-1] == 0.0:
        result[reached] = 0.0
        return result
    start = rate(0.0)
    solution = solve_ivp(
        lambda g, _: [start / rate(g)],
        (0.0, values[-1]),
        [0.0],
        method="DOP853",
        t_eval=values,
        rtol=RTOL,
        atol=1e-300,
        first_step=values[-1] * 1e-6,
    )
    if not solution.success:
        raise RuntimeError(f"the time of γ={values[-1]:g} could not be computed: {solution.message}")
    result[reached] = solution.y[0][inverse] / start
    return result


def fixed_point(rate: Rate) -> float:
    """γ* with rate(γ*) = 0, where the flow stops; inf if it goes on for ever."""
    upper = 1e-12
    while rate(upper) > 0.0:
        upper *= 2.0
        if upper > 300.0:
            return np.inf
    if rate(upper) == 0.0 and rate(upper * 0.999) == 0.0:
        return np.inf  # underflow of a force that is positive at every γ
    return float(brentq(rate, 0.0, upper, xtol=1e-15, rtol=1e-14))


@dataclass(frozen=True)
class SteppedClock:
    """A clock whose rate jumps at ``knots`` and is constant between them, so that γ(t) is a broken line.

    Attributes:
        t: Times at which γ passes ``gamma``; both start at 0.
        gamma: The knots, up to the one behind which γ does not go: γ*.
    """

    t: Float[Array, " k"]
    gamma: Float[Array, " k"]

    @classmethod
    def of(cls, rates: Callable[[Array], Array], knots: Float[Array, " n"]) -> SteppedClock:
        """The clock of a rate, as a function of many γ at once, with jumps at ``knots`` > 0 (any order)."""
        gamma = np.concatenate([[0.0], np.unique(knots)])
        rate = rates((gamma[:-1] + gamma[1:]) / 2.0)
        stopped = np.flatnonzero(rate <= 0.0)
        n_steps = int(stopped[0]) if len(stopped) else len(rate)
        t = np.cumsum(np.diff(gamma[: n_steps + 1]) / rate[:n_steps])
        return cls(np.concatenate([[0.0], t]), gamma[: n_steps + 1])

    @property
    def end(self) -> float:
        """γ*, reached at a finite time."""
        return float(self.gamma[-1])

    def gamma_at(self, t: Float[Array, " T"]) -> Float[Array, " T"]:
        """γ at the times ``t``."""
        return np.interp(t, self.t, self.gamma)

    def time_at(self, gamma: Float[Array, " n"]) -> Float[Array, " n"]:
        """The time at which γ passes each value; inf where it never does."""
        return np.interp(gamma, self.gamma, self.t, right=np.inf)


def derivative(rate: Rate, gamma: float) -> float:
    """d rate/dγ at ``gamma`` > 0, to about ten digits: central differences, extrapolated to step zero."""
    steps = 0.05 * min(gamma, 1.0) * 0.5 ** np.arange(4)
    values = np.array([(rate(gamma + step) - rate(gamma - step)) / (2.0 * step) for step in steps])
    for power in (4.0, 16.0, 64.0):  # the error is a series in even powers of the step
        values = (power * values[1:] - values[:-1]) / (power - 1.0)
    return float(values[0])
