"""How inputs are prepared: a pipeline of scikit-learn's whose parameters are those of the training set alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from mfnet.validation import InvalidSettingError

#: Variance of a principal component, relative to the largest, below which it is rounding.
_ROUNDING = 1e-10


class GlobalScaler(TransformerMixin, BaseEstimator):
    """Divides all inputs by one number, the root mean square of the training set."""

    def fit(self, x: Float[np.ndarray, "N D"], y: None = None) -> GlobalScaler:
        self.scale_ = float(np.sqrt(np.mean(np.square(x))))
        return self

    def transform(self, x: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n D"]:
        return x / self.scale_


class Prepared(NamedTuple):
    """A fitted pipeline, and its parameters by name."""

    apply: Callable[[np.ndarray], np.ndarray]
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

    def fit(self, x: Float[np.ndarray, "N D"], column: Callable[[int], str]) -> Prepared:
        """The pipeline of a training set; ``column`` names a column in a message.

        Raises:
            InvalidSettingError: For columns that cannot be scaled, and more components than the rank.
        """
        constant = np.flatnonzero(x.max(axis=0) == x.min(axis=0))
        if len(constant) == x.shape[1]:
            raise InvalidSettingError("data", "its inputs", f"are the same in all {len(x)} training examples")
        if self.scale == "unit" and len(constant):
            raise InvalidSettingError(
                "data.preparation.scale",
                "unit",
                f"{column(int(constant[0]))} is constant over the {len(x)} training examples ({len(constant)} are); "
                "leave it out, or use data.preparation.scale=global",
            )
        steps: list[tuple[str, TransformerMixin]] = [
            ("standard", StandardScaler(with_mean=self.centre, with_std=self.scale == "unit"))
        ]
        if self.scale == "global":
            steps.append(("overall", GlobalScaler()))
        if self.whiten or self.components is not None:
            steps.append(("principal", PCA(self._n_components(x), whiten=self.whiten, svd_solver="full")))
        if self.sphere:
            steps.append(("sphere", Normalizer()))
        pipeline = Pipeline(steps).fit(x)
        return Prepared(pipeline.transform, _parameters(pipeline))

    def _n_components(self, x: Float[np.ndarray, "N D"]) -> int:
        columns = StandardScaler(with_std=self.scale == "unit").fit_transform(x)
        variances = np.linalg.eigvalsh(columns.T @ columns)
        rank = int(np.sum(variances > _ROUNDING * variances[-1]))
        if self.components is not None and self.components > rank:
            raise InvalidSettingError(
                "data.preparation.components", self.components, f"the training set has rank {rank}; use no more"
            )
        return rank if self.components is None else self.components


def _parameters(pipeline: Pipeline) -> dict[str, np.ndarray]:
    """What was fitted, under the names of scikit-learn: STEP_ATTRIBUTE."""
    names = ("mean_", "scale_", "components_", "explained_variance_")
    return {
        f"{step}_{name.rstrip('_')}": np.asarray(getattr(fitted, name))
        for step, fitted in pipeline.steps
        for name in names
        if getattr(fitted, name, None) is not None
    }
