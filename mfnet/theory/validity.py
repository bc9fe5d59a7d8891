"""Which theory applies, and until when: what finite M and finite N add to the signal, from M, N, d, α, ε and the data.

The mean-field solution knows neither M nor N. At first order two terms stand against its signal:

- **finite M**: σ_M/μ, the spread of F over initial draws relative to F itself at the average projection
  (`FiniteWidth.output_std`): √(d/2M)/m₁ at the start, √(5/M) at most late in the rich regime;
  of balanced nodes 0 from M = 4d on;
- **finite N**: the drive of a node has the component J along ŵ*, and across it the sum of N random vectors φ y x⊥,
  √(⟨φ²⟩⟨|x⊥|²⟩/N), where ⟨φ²⟩ = n_u for the hinge. Their ratio grows as examples are satisfied, and is 1 at the onset
  of overfitting (Sec. 3.3).

Each prediction is trusted while the terms that it leaves out are below a limit. The limits are rules of thumb, and the
validation page (`mfnet validate`) says how well each prediction does where it is trusted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from mfnet.theory.arrays import Array
from mfnet.theory.finite_width import FiniteWidth
from mfnet.theory.mean_field import MeanField
from mfnet.theory.mean_field_solution import MeanFieldSolution

#: Largest finite-M and finite-N term, relative to the signal, at which nodes are said to follow the mean field.
LARGEST_TERM = 0.7

#: Least unsatisfied fraction at which the flow does not yet correct the fluctuation of F (at 0.95 it does, by a tenth).
#: Nodes then keep to their hyperbolas.
UNSATISFIED = 0.98

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


def finite_samples_term(mean_field: MeanField, N: int, solution: MeanFieldSolution) -> Float[Array, " T"]:
    """√(⟨φ²⟩⟨|x⊥|²⟩/N)/J: drive across ŵ* relative to that along it; inf where the flow has come to rest."""
    across = float(mean_field.law.perp_sq(np.asarray(mean_field.law.m1)))
    force = np.array([mean_field.force(slope) for slope in solution.slope])
    with np.errstate(divide="ignore"):
        return np.sqrt(solution.force_square * across / N) / np.maximum(force, 0.0)


def trust(mean_field: MeanField, M: int, N: int, t: Float[Array, " T"], init: str = "independent") -> list[Trust]:
    """Until when each prediction is trustworthy.

    Args:
        mean_field: The mean-field solution; its flow, ``dt`` makes no difference here.
        M: Nodes.
        N: Training examples.
        t: Increasing times at which to look.
        init: How the nodes are drawn.

    Returns:
        One entry for each of mean_field, finite_width, linear_closure, kernel_closure and kernel_flow.
    """
    solution = mean_field.solve(t)
    width, samples = finite_width_term(mean_field, M, solution, init), finite_samples_term(mean_field, N, solution)
    early, small_samples = solution.unsatisfied >= UNSATISFIED, samples < LARGEST_TERM
    closed = mean_field.alpha >= 1.0 and mean_field.flip == 0.0
    lazy = np.cosh(2.0 * solution.gamma) - 1.0 < KERNEL_GROWTH
    at_start = f"finite M {width[0]:.2g}, finite N {samples[0]:.2g} of the signal at t = 0"
    return [
        Trust("mean_field", _until(t, (width < LARGEST_TERM) & small_samples), at_start),
        Trust(
            "finite_width",
            _until(t, early & (samples < 0.5 * width)),
            f"its errors: while {UNSATISFIED:.0%} are unsatisfied and finite N is below half of finite M",
        ),
        Trust("linear_closure", _until(t, early), f"while {UNSATISFIED:.0%} are unsatisfied: examples leave no memory"),
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
