"""The tangent kernel along the mean-field solution: how lazy a wide network on many examples is, predicted.

On the hyperbolas of eq. 10 the parameters a and w∥ of a node stay normal, and so do (a, z, z') at two inputs. With
σ(z) = cz + β|z| (ReLU, leaky ReLU, linear) the average over nodes is in closed form:

    K_γ(x, x') = c² (⟨zz'⟩ + ⟨a²⟩ x·x'/d) + β² (⟨|z||z'|⟩ + ⟨a² sign z sign z'⟩ x·x'/d),
    ⟨|z||z'|⟩ = (2/π) s s' (√(1 − ρ²) + ρ asin ρ),
    ⟨a² sign z sign z'⟩ = (2/π) [⟨a²⟩ asin ρ + (2kk' − ρ(k² + k'²))/√(1 − ρ²)],

where s² = ⟨z²⟩, ρ = ⟨zz'⟩/(ss') and k = ⟨az⟩/s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from mfnet.theory.arrays import Array
from mfnet.theory.mean_field import MeanField
from mfnet.theory.overlay import Curve, Draw, Theory


@dataclass(frozen=True, eq=False)
class MovingKernel(Theory):
    """‖K_t − K₀‖/‖K₀‖ and the alignment of K_t with K₀ on the first ``n`` training examples, for N, M → ∞.

    The series 'kernel_change' and 'kernel_alignment' of `mfnet.training.KernelLog` with the same ``n``. The rich regime
    is its place: the change is of second order in γ, and for a lazy network below the fluctuation among M nodes.

    Raises ValueError for an activation that is not positively homogeneous.

    Args:
        mean_field: The mean-field solution.
        n: Number of examples.
        draw: What the run has drawn (`of_draw`).
    """

    mean_field: MeanField
    n: int = 200
    draw: Draw | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n={self.n!r} must be at least 1")
        activation = self.mean_field.nonlinearity
        if activation.kink is None:
            raise ValueError(
                f"MovingKernel needs a homogeneous activation, and {activation.name!r} has no 'kink' (its even part is "
                "not known to be β|z|)"
            )

    def of_draw(self, draw: Callable[[], Draw]) -> MovingKernel:
        return replace(self, mean_field=self.mean_field.of_draw(draw), draw=draw())

    def series(self, t: Float[Array, " T"]) -> dict[str, Curve]:
        """Both series.

        Raises:
            ValueError: Before `of_draw`.
        """
        if self.draw is None:
            raise ValueError("MovingKernel speaks of actual examples: give it some with of_draw")
        solution = self.mean_field.solve(t)
        x, x_par = self.draw.x[: self.n], self.draw.x[: self.n] @ self.draw.direction
        initial = moved_kernel(self.mean_field, x, x_par, 1.0, 0.0)
        change, alignment = np.empty(t.shape), np.empty(t.shape)
        for k, (cosh, sinh) in enumerate(zip(solution.cosh.tolist(), solution.sinh.tolist(), strict=True)):
            kernel = moved_kernel(self.mean_field, x, x_par, cosh, sinh)
            change[k] = np.linalg.norm(kernel - initial) / np.linalg.norm(initial)
            alignment[k] = np.sum(kernel * initial) / (np.linalg.norm(kernel) * np.linalg.norm(initial))
        return {"kernel_change": Curve(change), "kernel_alignment": Curve(alignment)}


def moved_kernel(
    model: MeanField, x: Float[Array, "n d"], x_par: Float[Array, " n"], cosh: float, sinh: float
) -> Float[Array, "n n"]:
    """K_γ among inputs ``x`` with projections ``x_par``, for nodes at a = C a₀ + S w∥₀, w∥ = C w∥₀ + S a₀."""
    activation, d = model.nonlinearity, x.shape[1]
    assert activation.kink is not None
    var_a, var_w = model.a_std**2, model.w_std**2
    a_sq, w_par_sq = var_a * cosh**2 + var_w * sinh**2, var_w * cosh**2 + var_a * sinh**2
    gram = x @ x.T / d
    zz = var_w * gram + (w_par_sq - var_w) * np.multiply.outer(x_par, x_par) / d
    s = np.sqrt(np.diagonal(zz))
    k = (var_a + var_w) * cosh * sinh * x_par / (math.sqrt(d) * s)
    rho = np.clip(zz / np.multiply.outer(s, s), -1.0, 1.0)
    angle, across = np.arcsin(rho), np.sqrt(1.0 - rho**2)
    # 0/0 where inputs are parallel, in the limit 0
    shift = 2.0 * np.multiply.outer(k, k) - rho * np.add.outer(k**2, k**2)
    turned = a_sq * angle + np.where(across > 1e-7, shift / np.where(across > 1e-7, across, 1.0), 0.0)
    modulus = np.multiply.outer(s, s) * (across + rho * angle)
    return activation.odd_slope**2 * (zz + a_sq * gram) + activation.kink**2 * (2.0 / math.pi) * (
        modulus + turned * gram
    )
