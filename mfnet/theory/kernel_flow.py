"""The lazy limit on a finite training set: the flow of the tangent kernel (theory.md 4).

For α → ∞ nodes hardly move, the tangent kernel K stays what it is at t = 0, and G = αF obeys on any input x

    dG(x)/dt = (1/N) Σ_n K(x, x_n) φ(y_n G(x_n)) y_n,   G = 0 at t = 0.

So G(x) = Σ_n K(x, x_n) y_n c_n with c_n = (1/N) ∫ φ_n dt, and margins are m = Q c, Q_nk = y_n K(x_n, x_k) y_k: a
gradient flow of a convex loss, the only state of which is c.

The square loss has a solution in closed form (`mfnet.theory.kernel_exponential`); for other losses implicit steps are
taken, which follow examples that slide along the margin (`mfnet.theory.kernel_steps`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float

from mfnet.theory.arrays import Array
from mfnet.theory.cost import tell
from mfnet.theory.kernel_exponential import Exponential
from mfnet.theory.kernel_steps import Steps
from mfnet.theory.losses import HINGE, SQUARE, check_convex
from mfnet.theory.mean_field import MeanField
from mfnet.theory.overlay import Curve, Draw, Theory
from mfnet.theory.tangent_kernel import STORED_BYTES, ActualKernel, Gram, LimitKernel, TangentKernel

#: Products with the whole kernel of a flow, about, and Cholesky factors of it for smooth losses, by which its cost is
#: told; those of the hinge are many, with the part of it that slides.
PRODUCTS, FACTORS = {"square": 60, "hinge": 100}, 300


@dataclass(frozen=True, eq=False)
class KernelFlow(Theory):
    """A lazy network (α → ∞) on its actual training and test set; exact at M = ∞ for any N.

    It is built in O(N²d). The square loss needs some 20 to 100 products with an N × N matrix; the hinge 100-200 steps
    of a few products, and Cholesky factors of the few examples that slide at a time; other losses as many steps with
    Cholesky factors of all N, N³/3 operations each.

    Raises ValueError for a loss that is not convex, or whose force jumps and is not the hinge's, and for an activation
    without its even part.

    Args:
        mean_field: Dimension, α, h, activation, loss and initial variances.
        kernel: 'limit', of infinitely many nodes, or 'actual', of the initial nodes of the run.
        rtol: Error of a step in the margins, relative to their root mean square, as an estimate of first order;
            the result is more accurate. The square loss takes no steps.
        draw: What the run has drawn (`of_draw`).
    """

    mean_field: MeanField
    kernel: Literal["limit", "actual"] = "limit"
    rtol: float = 0.003
    draw: Draw | None = None

    def __post_init__(self) -> None:
        if self.kernel not in ("limit", "actual"):
            raise ValueError(f"kernel={self.kernel!r} must be 'limit' or 'actual'")
        if not 1e-12 <= self.rtol <= 0.1:
            raise ValueError(f"rtol={self.rtol!r} must be from 1e-12 to 0.1")
        check_convex(self.mean_field.margin_loss, self.mean_field.h, "KernelFlow")
        self.mean_field.nonlinearity.need("even", "KernelFlow")
        self.mean_field.nonlinearity.need("even_slope", "KernelFlow")

    @property
    def trusted_as(self) -> str | None:
        return "kernel_flow"

    def of_draw(self, draw: Callable[[], Draw]) -> KernelFlow:
        return replace(self, draw=draw())

    def series(self, t: Float[Array, " T"]) -> dict[str, Curve]:
        """Predictions at increasing times; times that were asked for before cost nothing.

        Beside the usual ones 'mean_force', ⟨φ⟩ averaged over the time since the last element of ``t``. An example
        that slides along the margin counts as unsatisfied by its force: the share of time that finite steps spend
        below h.

        Raises:
            ValueError: Before `of_draw`.
        """
        draw, model = self._drawn, self.mean_field
        impulse, force, margins = self.solve(t)
        test_margins = draw.y_test * (self._test_output + self._gained(impulse, draw.x_test))
        below = np.clip(force, 0.0, 1.0) if model.margin_loss == HINGE else margins < model.h
        elapsed = np.diff(t, prepend=0.0)
        impulses = len(draw.y) * np.diff(impulse.mean(axis=1), prepend=0.0)
        sinh = impulse @ (draw.y * self._kernel.clock(draw.x, draw.direction)) / model.alpha
        return {
            "gamma": Curve(np.arcsinh(sinh)),
            "unsatisfied": Curve(below.mean(axis=1)),
            "loss": Curve(model.margin_loss.value(margins, model.h).mean(axis=1) / model.alpha**2),
            "train_error": Curve(_error(margins)),
            "test_error": Curve(_error(test_margins)),
            "mean_force": Curve(
                np.where(elapsed > 0.0, impulses / np.where(elapsed > 0.0, elapsed, 1.0), force.mean(axis=1))
            ),
        }

    def output(self, t: Float[Array, " T"], x: Float[Array, "n d"]) -> Float[Array, "T n"]:
        """G(x) = αF(x) on any inputs.

        Raises:
            ValueError: Before `of_draw`.
        """
        return self._gained(self.solve(t)[0], x)

    def solve(self, t: Float[Array, " T"]) -> tuple[Float[Array, "T N"], Float[Array, "T N"], Float[Array, "T N"]]:
        """(c, φ, m) of every training example: the integral of its force over N, its force, its margin.

        Raises:
            ValueError: Before `of_draw`, or for negative or infinite times.
        """
        if not (np.isfinite(t) & (t >= 0.0)).all():
            raise ValueError(f"times must be finite and not negative, and are {t}")
        known = {time: self._flow.at(time) for time in sorted(set(t.tolist()))}
        states = [known[time] for time in t.tolist()]
        shape = len(t), len(self._drawn.y)
        impulse, force, margins = (
            np.array([getattr(state, name) for state in states]).reshape(shape)
            for name in ("impulse", "force", "margins")
        )
        return impulse, force, margins

    @property
    def _drawn(self) -> Draw:
        if self.draw is None:
            raise ValueError("KernelFlow speaks of an actual training set: give it one with of_draw")
        return self.draw

    @cached_property
    def _kernel(self) -> TangentKernel:
        model = self.mean_field
        if self.kernel == "limit":
            return LimitKernel(model.nonlinearity, model.a_std, model.w_std)
        return ActualKernel(model.nonlinearity, self._drawn.a0, self._drawn.w0)

    @cached_property
    def _flow(self) -> Exponential | Steps:
        self._tell()
        model, gram = self.mean_field, Gram(self._kernel, self._drawn.x, self._drawn.y)
        if model.margin_loss == SQUARE:
            return Exponential(gram, model.h, self._margins)
        return Steps(gram, model.margin_loss, model.h, self.rtol, self._margins)

    @cached_property
    def _margins(self) -> Float[Array, " N"]:
        """Of the training examples where the flow starts."""
        return np.zeros(len(self._drawn.y))

    @cached_property
    def _test_output(self) -> Float[Array, " K"]:
        """αF of the test examples there."""
        return np.zeros(len(self._drawn.y_test))

    def _tell(self) -> None:
        """Says what it costs before it starts, if that is more than seconds, by the time of some rows of the kernel."""
        x, loss = self._drawn.x, self.mean_field.margin_loss
        N, some = len(x), x[:32]
        started = time.monotonic()
        self._kernel.rows(some, x)
        whole = (time.monotonic() - started) * N / len(some)
        stored = 8 * N**2 <= STORED_BYTES
        seconds = whole + PRODUCTS.get(loss.name, 300) * (1e-9 * N**2 if stored else whole)
        if loss not in (SQUARE, HINGE):
            seconds += FACTORS * 1e-11 * N**3
        how = f"held in {8e-9 * N**2:.2g} GB" if stored else "computed again for every product"
        tell(f"kernel_flow has a kernel of N={N} examples, {how}", seconds)

    def _gained(self, impulse: Float[Array, "T N"], x: Float[Array, "n d"]) -> Float[Array, "T n"]:
        """What αF gains at x since the start."""
        draw = self._drawn
        return self._kernel.product(x, draw.x, (draw.y * impulse).T).T


def _error(margins: Float[Array, "T n"]) -> Float[Array, " T"]:
    """Share of examples on the wrong side; F = 0 counts one half."""
    return (margins < 0.0).mean(axis=1) + 0.5 * (margins == 0.0).mean(axis=1)
