"""The first-order prediction for the actual initial nodes: what one run does, not the average over draws (Sec. 3.3).

Nodes keep to their mean-field hyperbolas (eq. 10), on which F is an average over the nodes there are. At first order in
1/√M the clock feels of their draw only ⟨a₀² + w∥₀²⟩ and ⟨a₀w∥₀⟩ (`mfnet.theory.finite_width`). Holds on N ≫ d examples
while most are unsatisfied: later the flow itself corrects what F misses. Of balanced nodes it is the mean field's
own F from M = 4d on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from mfnet.theory.arrays import Array
from mfnet.theory.finite_width import realised_gamma
from mfnet.theory.mean_field import MeanField
from mfnet.theory.overlay import Curve, Draw, Nodes, Theory

#: Elements of the largest temporary, examples × nodes.
_BLOCK = 2**21


@dataclass(frozen=True, eq=False)
class RealisedWidth(Theory):
    """Prediction for the actual initial nodes, on the actual examples; without `of_draw` there is nothing to predict.

    An observation time costs one pass of all examples through the network.

    Raises ValueError for an activation without its even part.

    Args:
        mean_field: The mean-field solution; its flow, ``dt`` is not used.
        draw: The run; `of_draw` gives it.
    """

    mean_field: MeanField
    draw: Draw | None = None

    def __post_init__(self) -> None:
        self.mean_field.nonlinearity.need("even", "RealisedWidth")

    @property
    def trusted_as(self) -> str:
        return "realised_width"

    def of_draw(self, draw: Callable[[], Draw]) -> RealisedWidth:
        return replace(self, mean_field=self.mean_field.of_draw(draw), draw=draw())

    @cached_property
    def _actual(self) -> Draw:
        if self.draw is None:
            raise ValueError("RealisedWidth predicts one run: give it the run's draw, .of_draw(lambda: draw)")
        return self.draw

    def gamma(self, t: Float[Array, " T"]) -> Float[Array, " T"]:
        """The clock, from the actual ⟨a₀² + w∥₀²⟩ and ⟨a₀w∥₀⟩."""
        a0, w_par0 = self._actual.a0, self._actual.w0 @ self._actual.direction
        p, q = float(np.mean(a0**2 + w_par0**2)) / 2.0, float(np.mean(a0 * w_par0))
        return realised_gamma(replace(self.mean_field, dt=None), p, q, t)

    def output(self, x: Float[Array, "n d"], gamma: Float[Array, " T"]) -> Float[Array, "T n"]:
        """F(x) of the nodes on their hyperbolas at each γ."""
        draw, root_d = self._actual, math.sqrt(self.mean_field.d)
        activation = self.mean_field.nonlinearity
        even = activation.need("even", "RealisedWidth")
        w_par0 = draw.w0 @ draw.direction
        result = np.empty((len(gamma), len(x)))
        size = max(1, _BLOCK // len(draw.a0))
        for rows in (slice(start, start + size) for start in range(0, len(x), size)):
            z0 = x[rows] @ draw.w0.T / root_d
            x_par = (x[rows] @ draw.direction / root_d)[:, None]
            for k, (c, s) in enumerate(zip(np.cosh(gamma), np.sinh(gamma), strict=True)):
                z = z0 + x_par * ((c - 1.0) * w_par0 + s * draw.a0)
                a = c * draw.a0 + s * w_par0
                linear = (z @ a - z0 @ draw.a0) * activation.odd_slope
                result[k, rows] = (linear + even(z) @ a - even(z0) @ draw.a0) / len(draw.a0)
        return result

    def _displacement(self, gamma: Float[Array, " T"]) -> Float[Array, " T"]:
        """|θ − θ₀|/|θ₀| of the nodes on their hyperbolas."""
        a0, w0 = self._actual.a0, self._actual.w0
        w_par0 = w0 @ self._actual.direction
        c1, s = (np.cosh(gamma) - 1.0)[:, None], np.sinh(gamma)[:, None]
        moved = np.sum((c1 * a0 + s * w_par0) ** 2 + (c1 * w_par0 + s * a0) ** 2, axis=1)
        return np.sqrt(moved / (np.sum(a0**2) + np.sum(w0**2)))

    def series(self, t: Float[Array, " T"]) -> dict[str, Curve]:
        draw, model, gamma = self._actual, self.mean_field, self.gamma(t)
        train = model.alpha * draw.y * self.output(draw.x, gamma)
        test = draw.y_test * self.output(draw.x_test, gamma)
        return {
            "gamma": Curve(gamma),
            "unsatisfied": Curve((train < model.h).mean(axis=1)),
            "loss": Curve(model.margin_loss.value(train, model.h).mean(axis=1) / model.alpha**2),
            "train_error": Curve(_error(train)),
            "test_error": Curve(_error(test)),
            "displacement": Curve(self._displacement(gamma)),
        }

    def nodes(
        self, t: Float[Array, " T"], a0: Float[Array, " n"], w_par0: Float[Array, " n"], w_perp0: Float[Array, " n"]
    ) -> Nodes:
        gamma = self.gamma(t)[:, None]
        a = np.cosh(gamma) * a0 + np.sinh(gamma) * w_par0
        return Nodes(a, np.cosh(gamma) * w_par0 + np.sinh(gamma) * a0, np.broadcast_to(w_perp0, a.shape).copy())


def _error(margins: Float[Array, "T n"]) -> Float[Array, " T"]:
    """Fraction below 0; one that is exactly 0 counts one half."""
    return np.mean((margins < 0.0) + 0.5 * (margins == 0.0), axis=1)
