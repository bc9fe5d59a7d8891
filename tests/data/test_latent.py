"""Data of a few latent directions: laws of inputs and labels, keys, and what the settings refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

import mfnet
from mfnet.data import LatentData, OnlineLatentData
from mfnet.setup.errors import SettingError

NO_TIMES = np.zeros(1)


def drawn(**settings):
    return LatentData(**{"n_train": 20_000, "n_test": 100, "d": 8, "seed": 3, "schedule": NO_TIMES, **settings}).read()


@pytest.mark.parametrize("rule", ["sign", "threshold", "shell", "xor", "parity", "committee", "clusters"])
def test_labels_are_those_of_the_rule(rule):
    """Latent directions are orthonormal, the first is ŵ*, and x is normal around a centre of the law."""
    task, law = drawn(rule=rule), LatentData(10, 10, 8, 3, NO_TIMES, rule=rule).law
    u = (task.train.x @ task.latent.T).numpy()
    torch.testing.assert_close(task.latent @ task.latent.T, torch.eye(law.k, dtype=torch.float64))
    torch.testing.assert_close(task.latent[0], task.direction)
    if law.rule is not None:
        np.testing.assert_array_equal(task.train.y.numpy(), law.rule(u))
    second = law.centres.T @ law.centres / len(law.centres) + np.eye(law.k)
    np.testing.assert_allclose(u.T @ u / len(u), second, atol=4.0 * second.max() * math.sqrt(2.0 / len(u)))
    across = task.train.x.numpy() - u @ task.latent.numpy()
    assert (across**2).sum(axis=1).mean() == pytest.approx(8 - law.k, abs=4.0 * math.sqrt(2.0 * 8 / len(u)))


def test_clusters_have_the_labels_of_their_centres():
    """The nearest centre is wrong for as many as Bayes' classifier is: u₁ ± u₂ are independent."""
    task = drawn(rule="clusters", separation=2.0)
    u = (task.train.x @ task.latent.T).numpy()
    p = norm.cdf(math.sqrt(2.0))
    wrong = np.mean(np.where(np.abs(u[:, 0]) > np.abs(u[:, 1]), 1.0, -1.0) != task.train.y.numpy())
    expected = 2.0 * p * (1.0 - p)
    assert abs(wrong - expected) < 4.0 * math.sqrt(expected / len(u))


def test_draws_are_keyed():
    first, again, other = drawn(rule="xor"), drawn(rule="xor"), drawn(rule="xor", seed=4)
    assert torch.equal(first.train.x, again.train.x)
    assert not torch.equal(first.latent, other.latent)
    flipped = drawn(rule="xor", flip=0.1)
    assert (flipped.train.y != first.train.y).sum() == 2000
    assert torch.equal(drawn(rule="xor", direction="axis").latent, torch.eye(2, 8, dtype=torch.float64))


def test_new_examples_at_each_step():
    data = OnlineLatentData(500, 100, 8, 3, NO_TIMES, rule="xor", flip=0.2)
    data.setup("fit")
    first, again, next_one = data.read_at(0), data.read_at(0), data.read_at(1)
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.y, again.y)
    assert not torch.equal(first.x, next_one.x)
    u = (first.x @ data.latent.T).numpy()
    flipped = np.mean(data.law.rule(u) != first.y.numpy())
    assert abs(flipped - 0.2) < 4.0 * math.sqrt(0.16 / 500)


def ring(u):
    return np.where((u**2).sum(axis=1) > 1.4, 1.0, -1.0)


def test_a_rule_of_ones_own_by_its_name_and_as_a_function():
    named = LatentData(100, 10, 6, 0, NO_TIMES, rule=f"{__name__}.ring", k=2)
    given = LatentData(100, 10, 6, 0, NO_TIMES, rule=ring, k=2)
    assert torch.equal(named.read().train.y, given.read().train.y)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data__rule": "sine"}, "rule='sine' must be one of sign, threshold, shell, xor"),
        ({"data__k": 4}, "data.k=4: must be 1, 2 or 3"),
        ({"data__k": 3}, "k=3: the rule 'xor' has 2"),
        ({"data__at": 0.5}, "the rule 'xor' does not take it"),
        ({"data__rule": "clusters", "data__separation": -1.0}, "data.separation=-1.0: must be"),
        ({"d": 2}, "d=2: must be above the number of latent directions of data.rule=xor, 2"),
        ({"data__rule": f"{__name__}.ring"}, "k=None: a rule of your own needs the number of latent directions"),
        ({"data__rule": "nowhere.rule", "data__k": 1}, "data.rule=nowhere.rule: cannot be imported"),
        ({"theory": "finite_width"}, "data.rule=xor: has no mean-field solution; use theory=hydrodynamic"),
    ],
)
def test_a_mistake_is_one_line(settings, message):
    with pytest.raises(SettingError) as caught:
        mfnet.train(**{"M": 20, "N": 50, "d": 6, "data": "latent", "theory": "hydrodynamic", **settings})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
