"""Normal inputs whose labels depend on a few latent directions."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.compute.seeding import generator
from mfnet.data.datamodule import ObservedData
from mfnet.data.examples import Examples
from mfnet.data.spherical import draw_direction, flip_labels
from mfnet.data.task import Task
from mfnet.setup.pieces import resolve
from mfnet.theory import latent_law


class LatentData(ObservedData):
    """x = U u + x⊥, with y a function of the k latent components u, and x⊥ normal of unit variance in each dimension.

    Args:
        n_train: Number N of training examples.
        n_test: Number of test examples.
        d: Input dimension, above k.
        seed: Keys every draw, with its purpose.
        schedule: Observation times (`ObservedData`).
        rule: 'sign', 'threshold', 'shell', 'xor', 'parity', 'committee' or 'clusters' (`mfnet.theory.latent`), or the
            dotted name of a function, or the function: of u (n, k), in numpy, that gives labels ±1 (n,).
        k: Number of latent directions where the rule is a function, 1 to 3.
        at: Where threshold and shell have their jump; None for 0.3 and 0.674.
        separation: Distance of the centres of the clusters from the origin; None for 2.
        flip: Fraction of training labels that are reversed; test labels are true.
        direction: 'random', random orthonormal directions, or 'axis', the first k coordinate axes.
        inputs: 'latent': what the theory takes their law to be.
    """

    law_known = True

    def __init__(
        self,
        n_train: int,
        n_test: int,
        d: int,
        seed: int,
        schedule: Float[np.ndarray, " K"],
        rule: Any = "xor",
        k: int | None = None,
        at: float | None = None,
        separation: float | None = None,
        flip: float = 0.0,
        direction: str = "random",
        inputs: Literal["latent"] = "latent",
    ):
        super().__init__(schedule)
        self.n_train, self.n_test, self.d, self.seed = n_train, n_test, d, seed
        own = isinstance(rule, str) and "." in rule
        self.law = latent_law(resolve("data.rule", rule) if own else rule, k, at, separation)
        self.flip, self.direction_name, self.inputs = flip, direction, inputs
        if d <= self.law.k:
            raise ValueError(f"d={d} must be above the number of latent directions, {self.law.k}")

    def draw(self) -> Task:
        train = self._sample(self.n_train, "train")
        flipped = flip_labels(train.y, self.flip, generator(self.seed, "flip"))
        test = self._sample(self.n_test, "test")
        return Task(Examples(train.x, flipped), test, self.latent[0], self.latent)

    @property
    def latent(self) -> Float[Tensor, "k d"]:
        """The latent directions, orthonormal rows; the first is ŵ*."""
        k = self.law.k
        if self.direction_name == "axis":
            return torch.eye(k, self.d, dtype=torch.float64)
        others = torch.randn(k - 1, self.d, generator=generator(self.seed, "latent"), dtype=torch.float64)
        rows = torch.cat([draw_direction(self.d, self.seed)[None], others])
        q, r = torch.linalg.qr(rows.T)
        return (q * r.diagonal().sign()).T.contiguous()

    def _sample(self, n: int, purpose: str, step: int = 0) -> Examples:
        """Examples with true labels."""
        source, law, latent = generator(self.seed, purpose, step), self.law, self.latent
        x = torch.randn(n, self.d, generator=source, dtype=torch.float64)
        part = torch.randint(len(law.centres), (n,), generator=source)
        x += torch.from_numpy(law.centres)[part] @ latent
        if law.rule is None:
            assert law.labels is not None
            return Examples(x, torch.from_numpy(law.labels)[part])
        return Examples(x, torch.from_numpy(np.asarray(law.rule((x @ latent.T).numpy()), dtype=float)))


class OnlineLatentData(LatentData):
    """New examples at each step of the flow, of the law of `LatentData`: gradient flow on the population loss.

    The training set of the task, which is observed, has ``n_test`` examples, and training labels. A label is reversed
    with probability ``flip``.

    Args:
        n_train: Number of examples of each step.
        n_test: Number of observed training examples, and of test examples.
        others: As for `LatentData`.
    """

    law_known = True

    def draw(self) -> Task:
        return Task(self._seen(self.n_test, "seen"), self._sample(self.n_test, "test"), self.latent[0], self.latent)

    def examples_at(self, step: int) -> Examples:
        return self._seen(self.n_train, "train", step)

    def _seen(self, n: int, purpose: str, step: int = 0) -> Examples:
        """Examples with training labels."""
        x, y = self._sample(n, purpose, step)
        flipped = torch.rand(n, generator=generator(self.seed, f"{purpose} labels", step)) < self.flip
        return Examples(x, torch.where(flipped, -y, y))
