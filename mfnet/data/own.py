"""Data of your own: a function that draws them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from mfnet.data.datamodule import ObservedData
from mfnet.data.task import Task
from mfnet.setup.errors import SettingError
from mfnet.setup.pieces import name_of


class OwnData(ObservedData):
    """What a function of your own draws.

    It gives ``(x, y), (x_test, y_test)``, arrays or tensors, and may add a unit vector ŵ*::

        def draw(N, seed):
            rng = np.random.default_rng(seed)
            x = rng.normal(size=(N + 1000, 20))
            y = np.sign(x[:, 0])
            return (x[:N], y[:N]), (x[N:], y[N:])

    It should give the same for the same arguments: sizes, theory and training may each ask for it.

    Args:
        draw: The function. It gets by name those of N, d and seed that it has as arguments.
        seed: Seed of the run.
        schedule: Observation times (`ObservedData`).
        N: Number of training examples; None where the function says.
        d: Input dimension, likewise.
    """

    def __init__(
        self,
        draw: Callable[..., Any],
        seed: int,
        schedule: Float[np.ndarray, " K"],
        N: int | None = None,
        d: int | None = None,
    ):
        super().__init__(schedule)
        self.function, self.known = draw, {"N": N, "d": d, "seed": seed}

    @property
    def origin(self) -> str:
        return f"data {name_of(self.function.func if isinstance(self.function, partial) else self.function)}"

    def draw(self) -> Any:
        return self.function(**self._arguments())

    def read(self) -> Task:
        task, asked = super().read(), self._arguments()
        for name, size in zip(("N", "d"), task.train.x.shape, strict=True):
            if asked.get(name, size) != size:
                raise SettingError(f"{self.origin} was asked for {name}={asked[name]}, and gives {name}={size}")
        return task

    def _arguments(self) -> dict[str, int]:
        """Those of N, d and seed that the function has, and that are known.

        Raises:
            SettingError: If it needs another one.
        """
        try:
            parameters = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError):
            raise SettingError(f"{self.origin} must be a function whose arguments have names") from None
        every = any(each.kind is each.VAR_KEYWORD for each in parameters)
        bound = self.function.keywords if isinstance(self.function, partial) else {}
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        named = {each.name for each in parameters if each.kind in kinds and each.name not in bound}
        given = {name: value for name, value in self.known.items() if value is not None and (every or name in named)}
        for each in parameters:
            optional = each.default is not each.empty or each.kind in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
            if not optional and (each.name not in given or each.name not in named):
                why = (
                    "which is null; give it a number" if each.name in self.known else "and is given N, d and seed alone"
                )
                raise SettingError(f"{self.origin} needs {each.name}, {why}")
        return given
