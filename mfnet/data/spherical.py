"""Linearly separable data, y = sign(ŵ*·x), with spherical symmetry (Sec. 3) or symmetric about ŵ*."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.compute.seeding import generator
from mfnet.data.datamodule import ObservedData
from mfnet.data.examples import Examples
from mfnet.data.task import Task
from mfnet.theory.projections import radius_law


class SphericalData(ObservedData):
    """Inputs with a spherical law, or one elongated along ŵ*, labelled by the side of a hyperplane.

    Args:
        n_train: Number N of training examples.
        n_test: Number of test examples.
        d: Input dimension.
        seed: Keys every draw, with its purpose; training set, test set and direction are independent.
        inputs: 'normal' (unit variance in each dimension), 'sphere' (uniform, radius 1), 'radial' or 'elongated'.
        radius: For radial inputs, the law of |x|: ``{"name": scipy.stats law, **parameters}``.
        stretch: For elongated inputs, the standard deviation along ŵ* of normal inputs; it is 1 across.
        flip: Fraction of training labels that are reversed; test labels are true.
        direction: 'random', a random unit vector ŵ*, or 'axis', the first coordinate axis.
        schedule: Observation times (`ObservedData`).
    """

    law_known = True

    def __init__(
        self,
        n_train: int,
        n_test: int,
        d: int,
        seed: int,
        schedule: Float[np.ndarray, " K"],
        inputs: Literal["normal", "sphere", "radial", "elongated"] = "normal",
        radius: Mapping[str, object] | None = None,
        flip: float = 0.0,
        direction: str = "random",
        stretch: float = 1.0,
    ):
        super().__init__(schedule)
        self.n_train, self.n_test, self.d, self.seed = n_train, n_test, d, seed
        self.inputs, self.radius, self.flip, self.direction_name = inputs, radius, flip, direction
        self.stretch = stretch

    def draw(self) -> Task:
        train = self._sample(self.n_train, generator(self.seed, "train"))
        flipped = flip_labels(train.y, self.flip, generator(self.seed, "flip"))
        test = self._sample(self.n_test, generator(self.seed, "test"))
        return Task(Examples(train.x, flipped), test, self._direction)

    @cached_property
    def _direction(self) -> Float[Tensor, " d"]:
        """ŵ*."""
        if self.direction_name == "random":
            return draw_direction(self.d, self.seed)
        direction = torch.zeros(self.d, dtype=torch.float64)
        direction[0] = 1.0
        return direction

    def _sample(self, n: int, source: torch.Generator) -> Examples:
        """Examples with true labels."""
        direction = self._direction
        if self.inputs == "elongated":
            x = elongate(sample_inputs(n, self.d, "normal", source), direction, self.stretch)
        else:
            x = sample_inputs(n, self.d, self.inputs, source, self.radius)
        return Examples(x, label(x, direction))


class OnlineSphericalData(SphericalData):
    """New examples at each step of the flow, of the law of `SphericalData`: gradient flow on the population loss.

    The training set of the task, which is observed, has ``n_test`` examples, and training labels. A label is reversed
    with probability ``flip``.

    Args:
        n_train: Number of examples of each step.
        n_test: Number of observed training examples, and of test examples.
        d, seed, schedule, inputs, radius, flip, direction, stretch: As for `SphericalData`.
    """

    law_known = True

    def draw(self) -> Task:
        return Task(
            self._seen(self.n_test, "seen"), self._sample(self.n_test, generator(self.seed, "test")), self._direction
        )

    def examples_at(self, step: int) -> Examples:
        return self._seen(self.n_train, "train", step)

    def _seen(self, n: int, purpose: str, step: int = 0) -> Examples:
        """Examples with training labels."""
        source = generator(self.seed, purpose, step)
        x, y = self._sample(n, source)
        flipped = torch.rand(n, generator=source) < self.flip
        return Examples(x, torch.where(flipped, -y, y))


def draw_direction(d: int, seed: int) -> Float[Tensor, " {d}"]:
    """A uniform unit vector, in float64."""
    direction = torch.randn(d, generator=generator(seed, "direction"), dtype=torch.float64)
    return direction / direction.norm()


def label(x: Float[Tensor, "N d"], direction: Float[Tensor, " d"]) -> Float[Tensor, " N"]:
    """y = sign(ŵ*·x), +1 on the hyperplane itself."""
    return torch.where(x @ direction >= 0.0, 1.0, -1.0).to(x.dtype)


def sample_inputs(
    n: int, d: int, inputs: str, source: torch.Generator, radius: Mapping[str, object] | None = None
) -> Float[Tensor, "{n} {d}"]:
    """``n`` inputs of a spherical law in ``d`` dimensions, in float64; the arguments of `SphericalData`.

    Raises:
        ValueError: For an unknown law.
    """
    x = torch.randn(n, d, generator=source, dtype=torch.float64)
    if inputs == "normal":
        return x
    x /= x.norm(dim=1, keepdim=True)
    if inputs == "sphere":
        return x
    if inputs == "radial" and radius is not None:
        uniform = torch.rand(n, generator=source, dtype=torch.float64)
        return x * torch.as_tensor(radius_law(radius).ppf(uniform.numpy()))[:, None]
    raise ValueError(f"inputs={inputs!r}: allowed are normal, sphere, and radial with a law of the radius")


def elongate(x: Float[Tensor, "N d"], direction: Float[Tensor, " d"], stretch: float) -> Float[Tensor, "N d"]:
    """``x`` with its component along the unit vector ``direction`` multiplied by ``stretch``."""
    return x + (stretch - 1.0) * torch.outer(x @ direction, direction)


def flip_labels(y: Float[Tensor, " N"], flip: float, source: torch.Generator) -> Float[Tensor, " N"]:
    """``y`` with a fraction ``flip`` of the labels, rounded to a whole number of them, reversed at random."""
    rows = torch.randperm(len(y), generator=source)[: round(flip * len(y))]
    flipped = y.clone()
    flipped[rows] *= -1.0
    return flipped
