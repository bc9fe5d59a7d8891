"""Test errors of scikit-learn's classifiers on the same task, beside the network's."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import SVC, LinearSVC

from mfnet.training.callbacks.observer import Observer
from mfnet.training.module import MeanFieldModule

#: Strengths of regularisation among which cross-validation chooses.
STRENGTHS = {"C": [1e-4, 1e-3, 1e-2, 1e-1, 1.0]}


class Baselines(Observer):
    """Fits a linear SVM, logistic regression, and an SVM with Gaussian kernel, on the prepared training set.

    Linear ones have their regularisation chosen by threefold cross-validation on at most ``n_chosen`` examples, and are
    then fitted to all; the kernel one, C = 10 and scikit-learn's scale, to at most ``n_kernel``. ``summary.json`` has
    their test errors under ``baselines``.

    Args:
        n_chosen: Examples on which regularisation is chosen.
        n_kernel: Examples to which the SVM with a kernel is fitted.
        seed: Keys the choice of examples.
    """

    of_one_network: ClassVar[bool] = True
    of_all_nodes: ClassVar[bool] = False

    def __init__(self, n_chosen: int = 2000, n_kernel: int = 5000, seed: int = 0):
        self.n_chosen, self.n_kernel, self.seed = n_chosen, n_kernel, seed
        self._errors: dict[str, float] = {}
        self._n_kernel = 0

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, MeanFieldModule)
        train, test = pl_module.task.train, pl_module.task.test
        fitted = self.fitted(train.x.numpy(), train.y.numpy())
        x, y = (values.numpy() for values in test)
        self._n_kernel = min(self.n_kernel, len(train.y))
        self._errors = {name: float(np.mean(model.predict(x) != y)) for name, model in fitted.items()}

    def fitted(self, x: Float[np.ndarray, "N d"], y: Float[np.ndarray, " N"]) -> dict[str, BaseEstimator]:
        """The classifiers, fitted to a training set."""
        order = np.random.default_rng(self.seed).permutation(len(y))
        chosen, kernel = order[: self.n_chosen], order[: self.n_kernel]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # their error changes no more
            return {
                "linear_svm": self._tuned(LinearSVC(dual=False, tol=1e-3), x[chosen], y[chosen]).fit(x, y),
                "logistic_regression": self._tuned(
                    LogisticRegression(tol=1e-3, max_iter=200), x[chosen], y[chosen]
                ).fit(x, y),
                "rbf_svm": SVC(C=10.0).fit(x[kernel], y[kernel]),
            }

    def _tuned(self, model: BaseEstimator, x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"]) -> BaseEstimator:
        folds = StratifiedKFold(3, shuffle=True, random_state=self.seed)
        return model.set_params(**GridSearchCV(model, STRENGTHS, cv=folds, refit=False).fit(x, y).best_params_)

    def summary(self, history: Mapping[str, Float[np.ndarray, " K"]], theories: list[str]) -> Mapping[str, Any]:
        return {"baselines": {**self._errors, "rbf_svm_examples": self._n_kernel}} if self._errors else {}
