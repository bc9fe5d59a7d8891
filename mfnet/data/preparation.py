"""How inputs are prepared: a pipeline of scikit-learn's whose parameters are those of the training set alone.

It sees the inputs a chunk at a time, so that they need not fit into memory; what is fitted is that of the whole set, to
rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import IncrementalPCA
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler

from mfnet.data.sources.records import Records
from mfnet.setup.errors import InvalidSettingError

#: Variance of a principal component, relative to the largest, below which it is rounding.
_ROUNDING = 1e-10


class GlobalScaler(TransformerMixin, BaseEstimator):
    """Divides all inputs by one number, the root mean square of the training set."""

    _sum_of_squares, _n_values = 0.0, 0

    def fit(self, x: Float[np.ndarray, "N D"], y: None = None) -> GlobalScaler:
        self._sum_of_squares, self._n_values = 0.0, 0
        return self.partial_fit(x)

    def partial_fit(self, x: Float[np.ndarray, "n D"], y: None = None) -> GlobalScaler:
        self._sum_of_squares += float(np.sum(np.square(x)))
        self._n_values += x.size
        self.scale_ = float(np.sqrt(self._sum_of_squares / self._n_values))
        return self

    def transform(self, x: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n D"]:
        return x / self.scale_


class Prepared(NamedTuple):
    """A fitted pipeline, the number of columns that it leaves, and its parameters by name."""

    pipeline: Pipeline
    n_columns: int
    parameters: dict[str, np.ndarray]


@dataclass(frozen=True)
class Preparation:
    """What is done to inputs, in this order.

    Args:
        centre: The mean is subtracted.
        scale: 'global', all inputs are divided by one number, so that the mean square of a component is 1; 'unit',
            every column by its standard deviation; 'none'.
        components: Inputs are projected on so many leading principal components; None: they are not.
        whiten: Principal components, all of the rank or ``components`` of them, get unit variance.
        sphere: Inputs are divided by their length.
    """

    centre: bool = True
    scale: Literal["global", "unit", "none"] = "global"
    components: int | None = None
    whiten: bool = False
    sphere: bool = False

    def fit(self, records: Records, rows: Int[np.ndarray, " N"]) -> Prepared:
        """The pipeline of a training set, which is some rows of ``records``.

        Each step is fitted in a pass of its own through the steps before it. Principal components take chunks of at
        least D rows, all D of them being kept until all rows are seen: (3D)² numbers at a time.

        Raises:
            InvalidSettingError: For columns that cannot be scaled, and more components than the rank.
        """
        self._check_variation(records, rows)
        standard, principal = StandardScaler(with_mean=self.centre, with_std=self.scale == "unit"), None
        steps: list[tuple[str, TransformerMixin]] = [("standard", standard)]
        if self.scale == "global":
            steps.append(("overall", GlobalScaler()))
        if self.whiten or self.components is not None:
            principal = IncrementalPCA(whiten=self.whiten, copy=False)
            steps.append(("principal", principal))
        for number, (_, step) in enumerate(steps):
            for x in records.chunks(rows, least=records.n_columns if step is principal else 1):
                step.partial_fit(Pipeline(steps[:number]).transform(x) if number else x)
        if principal is not None:
            self._cut(principal)
        if self.sphere:
            steps.append(("sphere", Normalizer()))
        n_columns = records.n_columns if principal is None else len(principal.components_)
        return Prepared(Pipeline(steps), n_columns, _parameters(steps))

    def _check_variation(self, records: Records, rows: Int[np.ndarray, " N"]) -> None:
        extremes = MinMaxScaler()
        for x in records.chunks(rows):
            extremes.partial_fit(x)
        constant = np.flatnonzero(extremes.data_max_ == extremes.data_min_)
        if len(constant) == records.n_columns:
            raise InvalidSettingError("data", "its inputs", f"are the same in all {len(rows)} training examples")
        if self.scale == "unit" and len(constant):
            raise InvalidSettingError(
                "data.preparation.scale",
                "unit",
                f"{records.column(int(constant[0]))} is constant over the {len(rows)} training examples "
                f"({len(constant)} are); leave it out, or use data.preparation.scale=global",
            )

    def _cut(self, principal: IncrementalPCA) -> None:
        """Leaves as many components as are asked for, or have a variance."""
        variances = principal.explained_variance_
        rank = int(np.sum(variances > _ROUNDING * variances[0]))
        if self.components is not None and self.components > rank:
            raise InvalidSettingError(
                "data.preparation.components", self.components, f"the training set has rank {rank}; use no more"
            )
        n = rank if self.components is None else self.components
        principal.n_components_ = n
        principal.components_, principal.explained_variance_ = principal.components_[:n], variances[:n]


def _parameters(steps: list[tuple[str, TransformerMixin]]) -> dict[str, np.ndarray]:
    """What was fitted, under the names of scikit-learn: STEP_ATTRIBUTE."""
    names = ("mean_", "scale_", "components_", "explained_variance_")
    return {
        f"{step}_{name.rstrip('_')}": np.asarray(getattr(fitted, name))
        for step, fitted in steps
        for name in names
        if getattr(fitted, name, None) is not None
    }
