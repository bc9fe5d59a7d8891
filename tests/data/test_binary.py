"""Binary tasks on real examples: classes, division, preparation, and the mixture whose answer is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mfnet.data import GaussianMixture
from mfnet.data.binary import BinaryTask
from mfnet.data.preparation import Preparation
from mfnet.data.sources import Packaged, Records
from mfnet.setup.errors import SettingError

NO_TIMES = np.zeros(1)


def records(x, classes, n_train, origin):
    """The first ``n_train`` examples are the training set; None: they are not divided."""
    return Records((x,) if n_train is None else (x[:n_train], x[n_train:]), classes, origin)


@dataclass(frozen=True)
class Drawn:
    """120 examples of three classes, 60 of a, 40 of b, 20 of c, in four columns that are correlated; one per row."""

    seed: int = 0
    n_train: int | None = None
    constant: bool = False
    test_shift: float = 0.0
    n: int = 120

    def read(self):
        rng = np.random.default_rng(self.seed)
        classes = np.array(["a", "b", "a", "c", "b", "a"] * (self.n // 6))
        x = rng.normal(size=(self.n, 4)) @ rng.normal(size=(4, 4)) + (classes == "a")[:, None] + 5.0
        if self.constant:
            x[:, 2] = 7.3
        if self.n_train is not None:
            x[self.n_train :] += self.test_shift
        return records(x, classes, self.n_train, "drawn")


def binary(source=None, seed=0, **settings):
    preparation = Preparation(
        **{name: settings.pop(name) for name in list(settings) if name in Preparation.__annotations__}
    )
    return BinaryTask(source or Drawn(), preparation, seed, NO_TIMES, **{"positive": ["a"], **settings})


def test_classes_become_labels_and_keep_their_proportions():
    task, fitted = binary(test_share=0.25, seed=1).draw(), binary(test_share=0.25, seed=1).fitted
    classes = Drawn().read().classes
    for examples, rows in ((task.train, fitted["train_rows"]), (task.test, fitted["test_rows"])):
        assert torch.equal(examples.y, torch.from_numpy(np.where(classes[rows] == "a", 1.0, -1.0)))
        names, counts = np.unique(classes[rows], return_counts=True)
        assert dict(zip(names.tolist(), (counts / len(rows)).tolist(), strict=True)) == {
            "a": 1 / 2,
            "b": 1 / 3,
            "c": 1 / 6,
        }
    assert sorted([*fitted["train_rows"], *fitted["test_rows"]]) == list(range(120))
    pair = binary(positive=["b"], negative=["c"]).draw()
    assert len(pair.train.y) + len(pair.test.y) == 60
    assert float((pair.train.y > 0).double().mean()) == pytest.approx(2 / 3, abs=0.02)
    groups = binary(positive=["c", "a"], negative=["b"]).draw()
    assert float((groups.train.y > 0).double().mean()) == pytest.approx(2 / 3, abs=0.01)


def test_numbers_name_classes_too_and_two_need_no_choice():
    digits = BinaryTask(Packaged("digits"), Preparation(), 0, NO_TIMES, positive=[3], negative=[8])
    assert len(digits.draw().train.y) == 267
    cells = BinaryTask(Packaged("breast_cancer"), Preparation(), 0, NO_TIMES).draw()
    assert int((cells.train.y > 0).sum() + (cells.test.y > 0).sum()) == 212  # malignant, the last in the alphabet


def test_division_and_flips_are_keyed_by_the_seed():
    one, again, other = binary(), binary(flip=0.1), binary(seed=1)
    assert torch.equal(one.draw().train.x, again.draw().train.x)
    assert int((one.draw().train.y != again.draw().train.y).sum()) == 9
    assert torch.equal(one.draw().test.y, again.draw().test.y)
    np.testing.assert_array_equal(
        again.fitted["flipped"], np.flatnonzero((one.draw().train.y != again.draw().train.y).numpy())
    )
    assert not np.array_equal(one.fitted["test_rows"], other.fitted["test_rows"])


def test_fewer_training_examples_leave_the_test_set_as_it_is():
    all_of_them = binary(n_train=90).draw()
    whole, part = binary(), binary(n_train=30)
    assert len(part.draw().train.y) == 30
    np.testing.assert_array_equal(whole.fitted["test_rows"], part.fitted["test_rows"])
    assert set(part.fitted["train_rows"]) < set(whole.fitted["train_rows"])
    assert torch.equal(whole.draw().train.x, all_of_them.train.x)


def test_a_test_set_of_the_sources_own_is_used():
    source = Drawn(n_train=90)
    fitted = binary(source).fitted
    np.testing.assert_array_equal(fitted["train_rows"], np.arange(90))
    np.testing.assert_array_equal(fitted["test_rows"], np.arange(90, 120))


def test_the_reference_direction_is_the_mean_of_yx_of_the_labels_that_are_learnt():
    task = binary(flip=0.2).draw()
    mean = (task.train.y[:, None] * task.train.x).mean(dim=0)
    assert_close(task.direction, mean / mean.norm())
    assert not torch.equal(task.direction, binary().draw().direction)


PREPARATIONS = [
    {},
    {"scale": "unit"},
    {"scale": "none", "centre": False},
    {"whiten": True, "scale": "none"},
    {"components": 2},
    {"components": 3, "whiten": True, "scale": "unit"},
    {"sphere": True},
]


@pytest.mark.parametrize("settings", PREPARATIONS, ids=str)
def test_preparation_does_what_it_says(settings):
    """Against the definitions, on raw inputs of the training rows; and the saved parameters give the same inputs."""
    data = binary(Drawn(), **settings)
    task, fitted = data.draw(), data.fitted
    raw, x, x_test = Drawn().read().inputs[0], task.train.x.numpy(), task.test.x.numpy()
    train = raw[fitted["train_rows"]]
    if settings.get("centre", True) and not settings.get("sphere"):
        np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=1e-12)
    if settings == {}:
        np.testing.assert_allclose(x, (train - train.mean(axis=0)) / (train - train.mean(axis=0)).std())
    if settings == {"scale": "unit"}:
        np.testing.assert_allclose(x.std(axis=0), 1.0)
    if settings.get("whiten"):
        k = settings.get("components", 4)
        np.testing.assert_allclose(x.T @ x / (len(x) - 1), np.eye(k), atol=1e-10)
    if settings == {"components": 2}:
        centred = train - train.mean(axis=0)
        variances = np.linalg.eigvalsh(centred.T @ centred)[::-1]
        np.testing.assert_allclose((x**2).sum(axis=0), (variances / np.mean(centred**2))[:2])
    if settings.get("sphere"):
        np.testing.assert_allclose(np.linalg.norm(np.concatenate([x, x_test]), axis=1), 1.0)
    again = raw[fitted["test_rows"]] - fitted.get("standard_mean", 0.0) * settings.get("centre", True)
    again = again / fitted.get("standard_scale", 1.0) / fitted.get("overall_scale", 1.0)
    if "principal_components" in fitted:
        again = (again - fitted["principal_mean"]) @ fitted["principal_components"].T
        if settings.get("whiten"):
            again = again / np.sqrt(fitted["principal_explained_variance"])
    if settings.get("sphere"):
        again = again / np.linalg.norm(again, axis=1, keepdims=True)
    np.testing.assert_allclose(x_test, again, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("settings", PREPARATIONS, ids=str)
def test_nothing_is_fitted_to_the_test_set(settings):
    source = Drawn(n_train=90)
    one, other = binary(source, **settings), binary(replace(source, test_shift=100.0), **settings)
    (train, test, direction, _), fitted = one.draw(), one.fitted
    assert torch.equal(train.x, other.draw().train.x)
    assert torch.equal(direction, other.draw().direction)
    assert not torch.equal(test.x, other.draw().test.x)
    assert all(np.array_equal(fitted[name], other.fitted[name]) for name in fitted)


def test_whitening_leaves_out_what_does_not_vary():
    assert binary(Drawn(constant=True), whiten=True).draw().train.x.shape[1] == 3
    assert binary(Drawn(constant=True)).draw().train.x.shape[1] == 4


@dataclass(frozen=True)
class Given:
    """Records as they are."""

    records: Records

    def read(self):
        return self.records


def given(classes, n_train=None, x=None):
    inputs = np.arange(2.0 * len(classes)).reshape(-1, 2) if x is None else x
    return Given(records(inputs, np.array(classes), n_train, "given"))


MISTAKES = {
    "one class": (lambda: binary(given(["a"] * 9)), "given: all examples are of one class, a"),
    "three classes": (lambda: binary(positive=None), "data.positive=null: drawn has the classes a, b, c"),
    "no such class": (lambda: binary(positive=["d"]), r"data.positive=\[d\]: drawn has the classes a, b, c"),
    "no such other": (lambda: binary(negative=["b", "d"]), r"data.negative=\[b, d\]: drawn has the classes a, b, c"),
    "in both": (lambda: binary(negative=["a", "b"]), r"class a is in both groups"),
    "nothing left": (lambda: binary(positive=["a", "b", "c"]), "data.negative=.*must name some"),
    "not in training": (
        lambda: binary(given(["a", "a", "b", "a"], 2)),
        "given: class b has no example in the training",
    ),
    "not in test": (lambda: binary(given(["a", "b", "a"], 2)), "given: class b has no example in the test set"),
    "one example": (lambda: binary(given(["a", "a", "a", "b"])), "given: class b has one example"),
    "too few for a test": (lambda: binary(given(["a", "a", "b", "b"]), test_share=0.1), "given: cannot be divided"),
    "more than there are": (lambda: binary(n_train=91), "N=91: drawn leaves 90 for training"),
    "fewer than classes": (lambda: binary(n_train=2), "N=2: must be at least 3"),
    "a constant column": (lambda: binary(Drawn(constant=True), scale="unit"), "column 2 is constant over the 90"),
    "all constant": (lambda: binary(given(["a", "b"] * 4, x=np.ones((8, 2)))), "are the same in all"),
    "more than the rank": (
        lambda: binary(Drawn(constant=True), components=4),
        "components=4: the training set has rank 3",
    ),
    "one column": (lambda: binary(given(["a", "b"] * 4, x=np.arange(8.0)[:, None])), "has one column"),
    "no direction": (
        lambda: binary(given(["a", "b"] * 4, 4, np.array([[1.0, 0], [1, 0], [-1, 0], [-1, 0]] * 2))),
        "given: the mean of y·x is zero",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_one_line(name):
    make, expected = MISTAKES[name]
    with pytest.raises(SettingError, match=expected) as told:
        make().draw()
    assert "\n" not in str(told.value)


def test_the_mixture_is_two_normal_classes():
    """Means and covariance of 10⁵ examples within 4.5 standard errors; 3 of 20 labels are flipped in training alone."""
    n, d, mu = 100_000, 5, 0.9
    task = GaussianMixture(n, 1000, d, 0, NO_TIMES, separation=mu).draw()
    noise = task.train.x - mu * torch.outer(task.train.y, task.direction)
    assert float(noise.mean(dim=0).abs().max()) < 4.5 / math.sqrt(n)
    assert float((noise.T @ noise / n - torch.eye(d)).abs().max()) < 4.5 * math.sqrt(2.0 / n)
    assert abs(float(task.train.y.mean())) < 4.5 / math.sqrt(n)
    flipped = GaussianMixture(n, 1000, d, 0, NO_TIMES, separation=mu, flip=0.15).draw()
    assert int((flipped.train.y != task.train.y).sum()) == 15_000
    assert torch.equal(flipped.test.y, task.test.y)
