"""Two normal classes, of which the mean-field solution is known exactly though they overlap."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.compute.seeding import generator
from mfnet.data.datamodule import ObservedData
from mfnet.data.examples import Examples
from mfnet.data.spherical import draw_direction, flip_labels
from mfnet.data.task import Task


class GaussianMixture(ObservedData):
    """x = y μ ŵ* + noise of unit variance in each dimension, y = ±1 with equal probability.

    Args:
        n_train: Number N of training examples.
        n_test: Number of test examples.
        d: Input dimension.
        seed: Keys every draw, with its purpose.
        schedule: Observation times (`ObservedData`).
        separation: Distance μ of the two centres from the origin.
        flip: Fraction of training labels that are reversed; test labels are those of the class.
        inputs: 'mixture': what the theory takes its law to be.
    """

    law_known = True

    def __init__(
        self,
        n_train: int,
        n_test: int,
        d: int,
        seed: int,
        schedule: Float[np.ndarray, " K"],
        separation: float = 1.0,
        flip: float = 0.0,
        inputs: Literal["mixture"] = "mixture",
    ):
        super().__init__(schedule)
        self.n_train, self.n_test, self.d, self.seed = n_train, n_test, d, seed
        self.separation, self.flip, self.inputs = separation, flip, inputs

    def draw(self) -> Task:
        direction = draw_direction(self.d, self.seed)
        train = self._examples(self.n_train, direction, "train")
        flipped = flip_labels(train.y, self.flip, generator(self.seed, "flip"))
        return Task(Examples(train.x, flipped), self._examples(self.n_test, direction, "test"), direction)

    def _examples(self, n: int, direction: Float[Tensor, " d"], purpose: str) -> Examples:
        source = generator(self.seed, purpose)
        x = torch.randn(n, self.d, generator=source, dtype=torch.float64)
        y = 2.0 * torch.randint(2, (n,), generator=source).double() - 1.0
        return Examples(x + self.separation * torch.outer(y, direction), y)
