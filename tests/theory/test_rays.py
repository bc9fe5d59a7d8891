"""Averages over latent inputs: laws, labels, and panels that end where an output crosses a level."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2, norm

from mfnet.theory.latent import LAWS, latent_law
from mfnet.theory.rays import Rays

LENGTHS = np.array([3.0, 5.0])
UNREACHED = np.array([1.0])


def averaged(law):
    rays = Rays(law, LENGTHS)
    return rays.points(np.zeros(len(rays.looked[0])), UNREACHED)


@pytest.mark.parametrize("name", LAWS)
def test_moments_are_those_of_the_mixture(name):
    law = LAWS[name]()
    points = averaged(law)
    second = np.eye(law.k) + law.centres.T @ law.centres / len(law.centres)
    accuracy = {1: 1e-11, 2: 1e-6, 3: 2e-3}[law.k]
    assert points.weights.sum() == pytest.approx(1.0, abs=accuracy)
    np.testing.assert_allclose((points.weights * points.u.T) @ points.u, second, atol=4 * accuracy)
    assert points.weights @ points.length == pytest.approx(4.0, abs=4 * accuracy)


def square_probability(mu):
    """P(|u₁| > |u₂|) of u ~ N(μe₁, 1): the two diagonals of the square are independent."""
    p = norm.cdf(mu / math.sqrt(2.0))
    return p**2 + (1.0 - p) ** 2


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("sign", 0.0),
        ("threshold", 2.0 * norm.cdf(-0.3) - 1.0),
        ("shell", 0.0),
        ("xor", 0.0),
        ("parity", 0.0),
        ("committee", 0.0),
        ("clusters", 0.0),
        ("mixture", 0.0),
        (lambda u: np.where((u**2).sum(axis=1) > 2.0, 1.0, -1.0), 2.0 * chi2.sf(2.0, 2) - 1.0),
    ],
)
def test_mean_label_has_its_closed_form(rule, expected):
    law = latent_law(rule, k=None if isinstance(rule, str) else 2)
    points = averaged(law)
    assert points.weights @ points.mean_label == pytest.approx(expected, abs={1: 1e-11, 2: 1e-6, 3: 1e-6}[law.k])


def test_clusters_are_told_apart_as_well_as_their_bayes_classifier():
    """Its error is that of |u₁| > |u₂|, for clusters at ±2e₁ and ±2e₂."""
    points = averaged(LAWS["clusters"]())
    wrong = 0.5 * (1.0 - np.abs(points.mean_label))
    assert points.weights @ wrong == pytest.approx(1.0 - square_probability(2.0), abs=1e-4)


@pytest.mark.parametrize(("k", "rule"), [(1, "sign"), (2, "xor"), (3, "committee")])
def test_a_crossing_ends_a_panel(k, rule):
    """The share of inputs below a level of |u|², which jumps, is that of χ²_k."""
    rays = Rays(LAWS[rule](), LENGTHS)
    level = 1.7
    points = rays.points((rays.looked[0] ** 2).sum(axis=1), np.array([level]))
    below = points.weights @ ((points.u**2).sum(axis=1) < level)
    assert below == pytest.approx(chi2.cdf(level, k), abs={1: 1e-9, 2: 1e-6, 3: 1e-4}[k])
    assert rays.first_crossing((rays.looked[0] ** 2).sum(axis=1), level) == pytest.approx(math.sqrt(level), abs=1e-9)


def test_a_rule_that_jumps_along_a_curve():
    """y = sign(u₁ − ½): a jump at another radius on each half-line."""
    points = averaged(latent_law(lambda u: np.where(u[:, 0] > 0.5, 1.0, -1.0), k=2))
    assert points.weights @ points.mean_label == pytest.approx(2.0 * norm.cdf(-0.5) - 1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rule": "sine"}, "rule='sine' must be one of sign, threshold"),
        ({"rule": "xor", "at": 0.1}, "at=0.1: the rule 'xor' does not take it"),
        ({"rule": "xor", "k": 3}, "k=3: the rule 'xor' has 2"),
        ({"rule": np.sign}, "k=None: a rule of your own needs the number of latent directions"),
        ({"rule": lambda u: u[:, 0], "k": 1}, "must give labels −1 or 1"),
        ({"rule": lambda u: np.sign(u), "k": 1}, "must give labels −1 or 1"),
        ({"rule": lambda u: np.sign(u[:, 0]), "k": 4}, "k=4 must be 1, 2 or 3"),
    ],
)
def test_what_is_no_law_is_refused(given, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        latent_law(**given)
