"""Which theory applies, and until when: what finite M and finite N add to the signal, from M, N, d, α, ε and the data.

The mean-field solution knows neither M nor N. At first order two terms stand against its signal:

- **finite M**: σ_M/μ, the spread of F over initial draws relative to F itself at the average projection
  (`FiniteWidth.output_std`): √(d/2M)/m₁ at the start, √(5/M) at most late in the rich regime, and of balanced nodes 0
  from M = 4d on; the part of it across ŵ*, which decides errors, is what it is at x∥ = 0, and falls as nodes align;
- **finite N**: the drive of a node has the component J along ŵ*, and across it the sum of N random vectors φ y x⊥,
  √(⟨φ²⟩⟨|x⊥|²⟩/N), where ⟨φ²⟩ = n_u for the hinge. Their ratio grows as examples are satisfied. Where it is 1 Sec. 3.3
  expects the onset of overfitting; but the flow corrects this noise, and the onset is not set by it
  (`mfnet.theory.finite_samples`).

As forces come to differ among examples the flow corrects the fluctuation of F, whatever the loss
(`mfnet.theory.response`): the share of its variance that is left says how far theories of nodes on their hyperbolas,
and of the response itself, can be trusted.

Each prediction is trusted while the terms that it leaves out are below a limit. The limits are rules of thumb, and the
validation page (`mfnet validate`) says how well each prediction does where it is trusted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from mfnet.theory.arrays import Array
from mfnet.theory.finite_samples import FiniteSamples
from mfnet.theory.finite_width import FiniteWidth
from mfnet.theory.mean_field import MeanField
from mfnet.theory.mean_field_solution import MeanFieldSolution
from mfnet.theory.remembered import remembered

#: Largest finite-M and finite-N term, relative to the signal, at which nodes are said to follow the mean field.
LARGEST_TERM = 0.7

#: Share of the variance of F across ŵ* that the flow must have left where nodes are taken to keep to their hyperbolas.
UNCORRECTED = 0.9

#: The same where the correction is known to first order: what is left then is what the response does not reach.
CORRECTED = 0.1

#: n_u in units of √(d/N) down to which ε_g, about 0.3 √(d/N), is below a tenth of it: `FiniteSamples` is good to 10 %.
SAMPLES_SEEN = 3.0

#: Relative variance of the forces over examples up to which examples leave no memory: 98 % unsatisfied, for the hinge.
FORCE_SPREAD = 0.02

#: Growth of the kernel along ŵ*, cosh 2γ − 1, up to which it is said to be that of t = 0.
KERNEL_GROWTH = 0.1


class Trust(NamedTuple):
    """Until when a prediction is trustworthy: 0 if it never is, inf if it is to the last of the times asked for."""

    prediction: str
    until: float
    because: str

    def __str__(self) -> str:
        when = (
            "at all times" if self.until == np.inf else f"until t = {self.until:.4g}" if self.until > 0.0 else "never"
        )
        return f"{self.prediction:<14} {when:<20} {self.because}"


def finite_width_term(
    mean_field: MeanField, M: int, solution: MeanFieldSolution, init: str = "independent"
) -> Float[Array, " T"]:
    """σ_M/μ at the average projection; its limit at t = 0."""
    x_par = np.asarray(mean_field.law.m1)
    sinh = np.maximum(solution.sinh, 1e-9)
    cosh = np.sqrt(1.0 + sinh**2)
    return FiniteWidth(mean_field, M, init).output_std(x_par, cosh, sinh) / (mean_field.slope(cosh, sinh) * x_par)


def across_term(
    mean_field: MeanField, M: int, solution: MeanFieldSolution, init: str = "independent"
) -> Float[Array, " T"]:
    """σ_M at x∥ = 0 relative to the signal at the average projection, for nodes on their hyperbolas."""
    sinh = np.maximum(solution.sinh, 1e-9)
    cosh = np.sqrt(1.0 + sinh**2)
    std = FiniteWidth(mean_field, M, init).output_std(0.0, cosh, sinh)
    return std / (mean_field.slope(cosh, sinh) * mean_field.law.m1)


def variance_left(mean_field: MeanField, solution: MeanFieldSolution) -> Float[Array, " T"]:
    """Share of the variance of F across ŵ* (at x∥ = 0) that the flow has not corrected; 1 at t = 0."""
    theory, sinh = FiniteWidth(mean_field, 1), np.maximum(solution.sinh, 1e-9)
    free = theory.output_std(0.0, np.sqrt(1.0 + sinh**2), sinh)
    left = (theory.spread(np.zeros(1), solution)[0] / free) ** 2
    return np.where(solution.sinh > 0.0, left, 1.0)


def force_spread(solution: MeanFieldSolution) -> Float[Array, " T"]:
    """Relative variance of the forces over training examples, ⟨φ²⟩/⟨φ⟩² − 1: 1/n_u − 1 for the hinge."""
    return solution.force_square / np.maximum(solution.mean_force**2, 1e-300) - 1.0


def finite_samples_term(mean_field: MeanField, N: float, solution: MeanFieldSolution) -> Float[Array, " T"]:
    """√(⟨φ²⟩⟨|x⊥|²⟩/N)/J: drive across ŵ* relative to that along it; inf where the flow has come to rest."""
    across = float(mean_field.law.perp_sq(np.asarray(mean_field.law.m1)))
    force = np.array([mean_field.force(slope) for slope in solution.slope])
    with np.errstate(divide="ignore"):
        return np.sqrt(solution.force_square * across / N) / np.maximum(force, 0.0)


@remembered
def trust(mean_field: MeanField, M: int, N: float, t: Float[Array, " T"], init: str = "independent") -> list[Trust]:
    """Until when each prediction is trustworthy.

    Args:
        mean_field: The mean-field solution; its flow, ``dt`` makes no difference here.
        M: Nodes.
        N: Training examples; inf where they are new at each step.
        t: Increasing times at which to look.
        init: How the nodes are drawn.

    Returns:
        One entry for each of mean_field, finite_width, realised_width, finite_samples, linear_closure, kernel_closure
        and kernel_flow; those of the width are left out for an activation without its even part, finite_samples where
        it cannot be solved, and it and those of one run for N = ∞.
    """
    solution = mean_field.solve(t)
    samples = finite_samples_term(mean_field, N, solution)
    small_samples, alike = samples < LARGEST_TERM, force_spread(solution) <= FORCE_SPREAD
    closed = mean_field.alpha >= 1.0 and mean_field.flip == 0.0
    lazy = np.cosh(2.0 * solution.gamma) - 1.0 < KERNEL_GROWTH
    if mean_field.nonlinearity.even is None:
        limit = [Trust("mean_field", _until(t, small_samples), f"finite N {samples[0]:.2g} of the signal at t = 0")]
    else:
        width, left = finite_width_term(mean_field, M, solution, init), variance_left(mean_field, solution)
        wide = samples < 0.5 * across_term(mean_field, M, solution, init)
        at_start = f"finite M {width[0]:.2g}, finite N {samples[0]:.2g} of the signal at t = 0"
        below = "finite N is below half of finite M, and the flow has left"
        limit = [
            Trust("mean_field", _until(t, (width < LARGEST_TERM) & small_samples), at_start),
            Trust(
                "finite_width",
                _until(t, wide & (left >= CORRECTED)),
                f"its mean errors: while {below} {CORRECTED:.0%} of it",
            ),
            Trust(
                "realised_width",
                _until(t, wide & (left >= UNCORRECTED)),
                f"its errors: while {below} {UNCORRECTED:.0%} of it",
            ),
        ]
    if math.isinf(N):
        return limit[:2]
    if FiniteSamples.refusal(mean_field) is None:
        ratio = math.sqrt(mean_field.d / N)
        small = solution.unsatisfied > SAMPLES_SEEN * ratio
        few = f"its errors: while n_u is above {SAMPLES_SEEN:g} √(d/N) = {SAMPLES_SEEN * ratio:.2g}"
        limit.append(Trust("finite_samples", _until(t, small & (width < LARGEST_TERM)), few))
    return [
        *limit,
        Trust(
            "linear_closure",
            _until(t, alike),
            f"while forces vary by {FORCE_SPREAD:.0%}, squared: examples leave no memory",
        ),
        Trust(
            "kernel_closure",
            np.inf if closed else _until(t, small_samples),
            "α ≥ 1 without label noise" if closed else "α < 1 or label noise: until overfitting",
        ),
        Trust("kernel_flow", _until(t, lazy), f"while the kernel has grown by less than {KERNEL_GROWTH:.0%}"),
    ]


def _until(t: Float[Array, " T"], holds: Bool[Array, " T"]) -> float:
    """The last time before ``holds`` fails; inf if it does not."""
    if holds.all():
        return np.inf
    first = int(np.argmin(holds))
    return float(t[first - 1]) if first > 0 else 0.0
