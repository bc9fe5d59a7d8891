"""The small interface that lets any prediction be laid over a run.

To overlay a theory of your own, subclass `Theory`, write `series` (and `nodes` or `satisfaction` if it
has something to say about them) and name the class in the config; see the README.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer

Array = np.ndarray


class Curve(NamedTuple):
    """A predicted value, with the band of one standard deviation where the theory has one."""

    value: Float[Array, " T"]
    lower: Float[Array, " T"] | None = None
    upper: Float[Array, " T"] | None = None


class Nodes(NamedTuple):
    """Parameters of n nodes: a, w∥ = ŵ*·w and |w⊥|."""

    a: Float[Array, "T n"]
    w_par: Float[Array, "T n"]
    w_perp: Float[Array, "T n"]


class Draw(NamedTuple):
    """What one run has drawn: initial nodes, training and test examples, and the reference direction ŵ*.

    Labels of several latent directions have these in ``latent``, orthonormal rows, the first of which is ŵ*.
    """

    a0: Float[Array, " M"]
    w0: Float[Array, "M d"]
    x: Float[Array, "N d"]
    y: Float[Array, " N"]
    x_test: Float[Array, "K d"]
    y_test: Float[Array, " K"]
    direction: Float[Array, " d"]
    latent: Float[Array, "k d"] | None = None


class Theory:
    """What can be overlaid on a run. This one predicts nothing; `t` is mean-field time, increasing from 0."""

    @property
    def stepwise(self) -> bool:
        """Whether it is solved from one time to the next, and a run is to ask for its observations one by one."""
        return False

    @property
    def trusted_as(self) -> str | None:
        """The name under which `mfnet.theory.trust` says until when it holds; None if it does not."""
        return None

    @property
    def needs_draw(self) -> bool:
        """Whether this theory speaks of one actual run, and predicts nothing before it has the draw."""
        return type(self).of_draw is not Theory.of_draw

    def of_draw(self, draw: Callable[[], Draw]) -> Theory:
        """The same theory of one actual run; itself, if it speaks of the average over all draws.

        Args:
            draw: Gives the run's draw, in float64; a theory that needs none does not call it.
        """
        return self

    def series(self, t: Float[Array, " T"]) -> Mapping[str, Curve]:
        """Predictions by series name: those of `mfnet.record.series.SERIES` that it knows, and others of its own."""
        return {}

    def nodes(
        self, t: Float[Array, " T"], a0: Float[Array, " n"], w_par0: Float[Array, " n"], w_perp0: Float[Array, " n"]
    ) -> Nodes | None:
        """Trajectories of the nodes that start at (a0, w_par0, w_perp0), or None."""
        return None

    def latent_output(self, t: Float[Array, " T"], u: Float[Array, "q k"]) -> Float[Array, "T q"] | None:
        """F at inputs with these components in the latent directions, or None."""
        return None

    def satisfaction(self, t: Float[Array, " T"]) -> Curve | None:
        """The projection |ŵ*·x| that becomes satisfied at t (Fig. 1d), or None; inf where none is yet."""
        return None


def drawn_nodes(draw: Draw, a0: Float[Array, " n"], w_par0: Float[Array, " n"]) -> Integer[Array, " n"] | None:
    """Which nodes of a draw start at (a0, w_par0); None if some are of another draw.

    Balanced nodes have their a in common with others: of these the one is meant whose w∥ is nearest.
    """
    w_par = draw.w0 @ draw.direction
    order = np.argsort(draw.a0, kind="stable")
    first, last = (np.searchsorted(draw.a0, a0, side, sorter=order) for side in ("left", "right"))
    if (first == last).any():
        return None
    same = (order[i:j] for i, j in zip(first, last, strict=True))
    return np.array([some[np.abs(w_par[some] - w).argmin()] for some, w in zip(same, w_par0, strict=True)])


def checked_series(theory: Theory, t: Float[Array, " T"]) -> dict[str, Curve]:
    """``theory.series(t)``, plain arrays as curves without a band.

    Raises:
        ValueError: If it is not a mapping of names to curves of the shape of ``t``.
    """
    what = f"{type(theory).__name__}.series"
    found: Any = theory.series(t)
    if not isinstance(found, Mapping):
        raise ValueError(f"{what} must be a mapping of names to Curves, and is of type {type(found).__name__}")
    for name in found:
        if not isinstance(name, str):
            raise ValueError(f"{what} must have names for keys, and has {name!r}")
    return {name: _checked_curve(curve, f"{what}: {name!r}", t.shape) for name, curve in found.items()}


def checked_satisfaction(theory: Theory, t: Float[Array, " T"]) -> Curve | None:
    """``theory.satisfaction(t)``, a plain array as a curve without a band.

    Raises:
        ValueError: If it is neither None nor a curve of the shape of ``t``.
    """
    found: Any = theory.satisfaction(t)
    return None if found is None else _checked_curve(found, f"{type(theory).__name__}.satisfaction", t.shape)


def checked_nodes(
    theory: Theory,
    t: Float[Array, " T"],
    a0: Float[Array, " n"],
    w_par0: Float[Array, " n"],
    w_perp0: Float[Array, " n"],
) -> Nodes | None:
    """``theory.nodes(t, a0, w_par0, w_perp0)``.

    Raises:
        ValueError: If it is neither None nor `Nodes`, a row for each of ``t`` and a column for each of ``a0``.
    """
    what = f"{type(theory).__name__}.nodes"
    found: Any = theory.nodes(t, a0, w_par0, w_perp0)
    if found is None:
        return None
    if not isinstance(found, Nodes):
        raise ValueError(f"{what} must be Nodes or None, and is of type {type(found).__name__}")
    shape = (*t.shape, *a0.shape)
    parts = zip(Nodes._fields, found, strict=True)
    return Nodes(*(_checked_numbers(values, f"{what}: {name!r}", shape) for name, values in parts))


def _checked_curve(curve: Any, what: str, shape: tuple[int, ...]) -> Curve:
    if not isinstance(curve, Curve):
        return Curve(_checked_numbers(curve, what, shape))
    lower, upper = (
        None if edge is None else _checked_numbers(edge, f"{what}, {name} edge of the band", shape)
        for name, edge in (("lower", curve.lower), ("upper", curve.upper))
    )
    return Curve(_checked_numbers(curve.value, what, shape), lower, upper)


def _checked_numbers(values: Any, what: str, shape: tuple[int, ...]) -> Array:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        kind = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else f"of type {type(values).__name__}"
        raise ValueError(f"{what} must be an array of real numbers, and is {kind}")
    if values.shape != shape:
        raise ValueError(f"{what} has the shape {values.shape}, and must have {shape}")
    return values.astype(float, copy=False)
