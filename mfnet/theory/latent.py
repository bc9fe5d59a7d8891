"""Labels that depend on a few latent directions: the law of (u, y), and how to average over it.

An input is x = U u + x⊥, with u ∈ R^k its components in the latent directions and x⊥ normal in the others. The law of
u is a mixture of normal ones of unit variance, most often a single one at 0, and the label is a function of u, or
belongs to the part of the mixture that u is drawn from.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from mfnet.theory.arrays import Array

#: Labels ±1 of latent inputs.
Rule = Callable[[Float[Array, "n k"]], Float[Array, " n"]]

#: Distance from the centres within which u is averaged over.
_REACH = 7.0


@dataclass(frozen=True)
class LatentLaw:
    """The law of (u, y).

    Args:
        name: What messages call it.
        k: Number of latent directions, 1 to 3.
        rule: The label of u; None where it is that of the centre.
        centres: Centres of the mixture.
        labels: Label of each centre, where there is no rule.
    """

    name: str
    k: int
    rule: Rule | None
    centres: Float[Array, "c k"] = field(default_factory=lambda: np.zeros((1, 0)))
    labels: Float[Array, " c"] | None = None

    def __post_init__(self) -> None:
        if self.k not in (1, 2, 3):
            raise ValueError(f"k={self.k!r} must be 1, 2 or 3")
        if self.centres.shape[1] == 0:
            object.__setattr__(self, "centres", np.zeros((1, self.k)))

    def density(self, u: Float[Array, "n k"]) -> Float[Array, " n"]:
        """Density of u."""
        return self._parts(u).mean(axis=1)

    def mean_label(self, u: Float[Array, "n k"]) -> Float[Array, " n"]:
        """E[y | u], from −1 to 1."""
        if self.rule is not None:
            return self.rule(u)
        assert self.labels is not None
        parts = self._parts(u)
        return parts @ self.labels / np.maximum(parts.sum(axis=1), 1e-300)

    def _parts(self, u: Float[Array, "n k"]) -> Float[Array, "n c"]:
        """Density of u in each part of the mixture."""
        squares = ((u[:, None, :] - self.centres) ** 2).sum(axis=2)
        return np.exp(-0.5 * squares) / (2.0 * math.pi) ** (self.k / 2.0)

    @property
    def reach(self) -> float:
        """Radius within which u is averaged over."""
        return _REACH + float(np.linalg.norm(self.centres, axis=1).max())


def _sign(values: Array) -> Array:
    return np.where(values >= 0.0, 1.0, -1.0)


def sign() -> LatentLaw:
    """y = sign(u): the side of a hyperplane."""
    return LatentLaw("sign", 1, lambda u: _sign(u[:, 0]))


def threshold(at: float = 0.3) -> LatentLaw:
    """y = sign(u − at): the side of a hyperplane that does not go through the origin."""
    return LatentLaw("threshold", 1, lambda u: _sign(u[:, 0] - at))


def shell(at: float = 0.6744897501960817) -> LatentLaw:
    """y = sign(|u| − at): inside or outside of a slab; by default half of the inputs are inside."""
    return LatentLaw("shell", 1, lambda u: _sign(np.abs(u[:, 0]) - at))


def xor() -> LatentLaw:
    """y = sign(u₁u₂)."""
    return LatentLaw("xor", 2, lambda u: _sign(u[:, 0]) * _sign(u[:, 1]))


def parity() -> LatentLaw:
    """y = sign(u₁u₂u₃)."""
    return LatentLaw("parity", 3, lambda u: _sign(u).prod(axis=1))


def committee() -> LatentLaw:
    """y = sign(Σᵢ sign(uᵢ)), i = 1, 2, 3: a majority of three."""
    return LatentLaw("committee", 3, lambda u: _sign(_sign(u).sum(axis=1)))


def clusters(separation: float = 2.0) -> LatentLaw:
    """Four normal clusters of unit variance at ±μe₁, y = 1, and ±μe₂, y = −1, with μ = ``separation``.

    This is the XOR-like mixture of Refinetti et al., *Classifying high-dimensional Gaussian mixtures* (2021).
    """
    centres = separation * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    return LatentLaw("clusters", 2, None, centres, np.array([1.0, 1.0, -1.0, -1.0]))


def mixture(separation: float = 1.0) -> LatentLaw:
    """Two normal classes of unit variance around ±μ, y = ±1, with μ = ``separation``."""
    return LatentLaw("mixture", 1, None, np.array([[separation], [-separation]]), np.array([1.0, -1.0]))


#: Laws by name.
LAWS: dict[str, Callable[..., LatentLaw]] = {
    law.__name__: law for law in (sign, threshold, shell, xor, parity, committee, clusters, mixture)
}


def latent_law(
    rule: str | Rule | LatentLaw, k: int | None = None, at: float | None = None, separation: float | None = None
) -> LatentLaw:
    """The law that a name of `LAWS`, a function of u (n, k) that gives labels ±1 (n,), or a law stands for.

    Args:
        rule: The name, the function or the law.
        k: Number of latent directions of a function.
        at, separation: What the law of that name takes; None is what it has by default.

    Raises:
        ValueError: For what is none of these, and for arguments that it does not take.
    """
    given = {name: value for name, value in (("at", at), ("separation", separation)) if value is not None}
    if isinstance(rule, str):
        if rule not in LAWS:
            raise ValueError(f"rule={rule!r} must be one of {', '.join(LAWS)}, or a function of your own")
        for name in given:
            if name not in inspect.signature(LAWS[rule]).parameters:
                raise ValueError(f"{name}={given[name]!r}: the rule {rule!r} does not take it")
        law = LAWS[rule](**given)
        if k not in (None, law.k):
            raise ValueError(f"k={k!r}: the rule {rule!r} has {law.k}")
        return law
    for name in given:
        raise ValueError(f"{name}={given[name]!r}: a rule of your own does not take it")
    if isinstance(rule, LatentLaw):
        return rule
    if k is None:
        raise ValueError("k=None: a rule of your own needs the number of latent directions, 1 to 3")
    law = LatentLaw(getattr(rule, "__name__", type(rule).__name__), k, rule)
    u = np.random.default_rng(0).normal(size=(64, k))
    labels = np.asarray(rule(u))
    if labels.shape != (64,) or not np.isin(labels, (-1.0, 1.0)).all():
        raise ValueError(f"the rule {law.name!r} must give labels −1 or 1, one for each row of u (n, {k})")
    return law
