"""Activations averaged over a random direction, against quadrature of the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad

from mfnet.theory.activations import ACTIVATIONS
from mfnet.theory.smoothed import smoothed

MEAN = np.array([[-2.3, 0.0, 0.4], [1.7, -0.6, 3.0]])
SPREAD = np.array([[0.3, 1.0, 1.6], [0.05, 0.8, 1.0]])


def cosine_average(activation, mean, spread, n):
    """E σ(μ + s√n c), c the cosine between two random directions in n dimensions, by its exact density."""
    norm = math.gamma(n / 2.0) / math.gamma((n - 1) / 2.0) / math.sqrt(math.pi)

    def integrand(c):
        return float(activation.value(np.array(mean + spread * math.sqrt(n) * c))) * (1.0 - c * c) ** ((n - 3) / 2.0)

    kink = -mean / (spread * math.sqrt(n))
    return norm * quad(integrand, -1.0, 1.0, points=[kink] if abs(kink) < 1.0 else None, epsabs=1e-12, limit=500)[0]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_value_is_that_of_the_cosine_up_to_the_second_order(name):
    """What is left out falls as 1/n²: by 16, at n = 4 times as large."""
    activation, errors = ACTIVATIONS[name], []
    for n in (20, 80):
        found = smoothed(activation, MEAN, SPREAD, -0.25 / (n + 2)).value
        exact = np.vectorize(lambda m, s, n=n: cosine_average(activation, m, s, n))(MEAN, SPREAD)
        errors.append(np.abs(found - exact).max())
    assert errors[0] < 3e-3
    assert errors[1] < max(errors[0] / 10.0, 1e-6)


@pytest.mark.parametrize("kappa", [0.0, -0.01])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_are_those_of_the_value(name, kappa):
    activation, step = ACTIVATIONS[name], 1e-5

    def difference(by_mean, by_spread):
        ahead, behind = (
            smoothed(activation, MEAN + side * by_mean, SPREAD + side * by_spread, kappa).value for side in (1, -1)
        )
        return (ahead - behind) / (2.0 * step)

    found = smoothed(activation, MEAN, SPREAD, kappa)
    np.testing.assert_allclose(found.by_mean, difference(step, 0.0), atol=2e-6)
    np.testing.assert_allclose(found.by_spread, difference(0.0, step), atol=2e-6)


def test_value_is_even_in_the_spread():
    found, mirrored = (smoothed(ACTIVATIONS["tanh"], MEAN, side * SPREAD, -0.01) for side in (1.0, -1.0))
    np.testing.assert_array_equal(found.value, mirrored.value)
    np.testing.assert_array_equal(found.by_spread, -mirrored.by_spread)
