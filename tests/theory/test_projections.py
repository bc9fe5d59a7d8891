"""Laws of the projection against each other, and against samples of real inputs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mfnet.theory import LabelNoise, Normal, ProjectionLaw, Radial, Sphere, projection_law
from mfnet.theory.projections import Elongated, radius_law

LAWS = {
    "normal": Normal(20),
    "circle": Sphere(2),
    "sphere 3": Sphere(3),
    "sphere 100": Sphere(100, radius=2.0),
    "radial": Radial(8, stats.gamma(9.0, scale=0.5)),
    "elongated": Elongated(9, 2.5),
    "noise": LabelNoise(Normal(20), 0.2),
}


@pytest.fixture(params=LAWS)
def law(request):
    return LAWS[request.param]


def test_weights_sum_to_one(law):
    _, weight = law.quadrature(law.m1)
    assert weight.sum() == pytest.approx(1.0, rel=1e-9)
    assert law.expect(np.abs, law.m1) == pytest.approx(law.m1, rel=1e-9)


@pytest.mark.parametrize("part", [0.01, 0.3, 1.0, 1.4])
def test_closed_forms_are_averages_of_the_indicator(law, part):
    z = part * law.m1
    assert law.cdf(np.asarray(z)) == pytest.approx(law.expect(lambda zeta: (zeta < z) * 1.0, z), rel=1e-8)
    below = law.expect(lambda zeta: zeta * (zeta < z), z)
    assert law.mean_below(np.asarray(z)) == pytest.approx(below, rel=1e-8)


def test_density_at_zero_is_the_slope_of_the_distribution(law):
    z = np.array([0.0, 1e-4 * law.m1])
    flip = law.flip
    slope = np.diff(law.cdf(z))[0] / z[1] / (1.0 - flip)
    assert slope == pytest.approx(law.density_at_zero, rel=1e-6)


@pytest.mark.parametrize("part", [0.02, 0.4, 1.3])
def test_the_density_is_the_slope_of_the_distribution_everywhere(law, part):
    """By central differences; and z times it is the slope of ⟨ζ 1[ζ < z]⟩, which ends the flow (Sec. 3.4)."""
    z, step = part * law.m1, 1e-5 * law.m1
    ends = np.array([z - step, z + step])
    assert np.diff(law.cdf(ends))[0] / (2 * step) == pytest.approx(float(law.density(np.asarray(z))), rel=1e-6)
    slope = np.diff(law.mean_below(ends))[0] / (2 * step)
    assert slope == pytest.approx(z * float(law.density(np.asarray(z))), rel=1e-5)


def test_there_is_no_density_beyond_the_rim():
    assert Sphere(2).density(np.array([0.5, 1.5]))[1] == 0.0
    assert Sphere(5).density(np.array([0.5, 1.0]))[1] == 0.0
    assert Radial(8, stats.uniform(1.0, 1.0)).density(np.array([2.1]))[0] == 0.0


def test_a_law_need_not_know_its_density():
    class Ignorant(Normal):
        density = ProjectionLaw.density

    assert Ignorant(20).density(1.0) is None
    assert LabelNoise(Ignorant(20), 0.2).density(1.0) is None


@pytest.mark.parametrize("name", ["normal", "sphere 3", "radial", "elongated"])
def test_laws_are_those_of_real_inputs(name):
    """Averages over 4·10⁵ samples in d dimensions, within 4 standard errors."""
    law, n = LAWS[name], 400_000
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, law.d))
    if name == "elongated":
        x[:, 0] *= 2.5
    elif name != "normal":
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        x *= law.radius if name == "sphere 3" else law.radius.rvs(size=(n, 1), random_state=rng)
    zeta, z = np.abs(x[:, 0]), 0.8 * law.m1
    for sample, expected in (
        (zeta, law.m1),
        ((zeta < z) * 1.0, float(law.cdf(np.asarray(z)))),
        (zeta * (zeta < z), float(law.mean_below(np.asarray(z)))),
    ):
        assert abs(sample.mean() - expected) < 4.0 * sample.std() / np.sqrt(n)
    near = np.abs(zeta - z) < 0.02 * law.m1
    perp_sq = (x[near, 1:] ** 2).sum(axis=1)
    error = 4.0 * perp_sq.std() / np.sqrt(near.sum()) + 0.002 * perp_sq.mean()  # the bin has a width
    assert abs(perp_sq.mean() - float(law.perp_sq(np.asarray(z)))) < error


def test_a_normal_law_is_radial():
    normal, radial, z = Normal(12), Radial(12, stats.chi(12)), np.array([0.01, 0.5, 3.0])
    np.testing.assert_allclose(radial.cdf(z), normal.cdf(z), rtol=1e-10)
    np.testing.assert_allclose(radial.mean_below(z), normal.mean_below(z), rtol=1e-10)
    np.testing.assert_allclose(radial.perp_sq(z), normal.perp_sq(z), rtol=1e-7)  # the tails of |x| are cut at 10⁻¹⁵
    assert radial.density_at_zero == pytest.approx(normal.density_at_zero, rel=1e-10)


def test_elongated_by_one_is_normal():
    z = np.array([0.01, 0.5, 3.0])
    one, normal = projection_law("elongated", 12), Normal(12)
    assert isinstance(one, Elongated)
    for name in ("cdf", "mean_below", "density", "perp_sq"):
        np.testing.assert_array_equal(getattr(one, name)(z), getattr(normal, name)(z))


def test_a_law_of_one_radius_is_a_sphere():
    narrow, sphere = Radial(5, stats.uniform(0.9999, 0.0002)), Sphere(5)
    z = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(narrow.cdf(z), sphere.cdf(z), rtol=1e-6)
    np.testing.assert_allclose(narrow.mean_below(z), sphere.mean_below(z), rtol=1e-6)


@pytest.mark.parametrize("spec", [{"name": "nope"}, {"name": "gamma"}, {"name": "norm"}, {"name": "gamma", "b": 1}, {}])
def test_a_bad_radius_is_refused(spec):
    with pytest.raises(ValueError, match="scipy"):
        radius_law(spec)
