"""Samplers, schedules and observables."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mfnet.compute.seeding import generator
from mfnet.data import ScheduleLoader, SphericalData, flip_labels, label, sample_inputs
from mfnet.data.spherical import elongate
from mfnet.network import MeanFieldNetwork
from mfnet.network.observables import ErrorRate, UnsatisfiedFraction, node_projections, order_parameter
from mfnet.record.schedule import listed, log_spaced
from mfnet.theory import projection_law

RADIUS = {"name": "gamma", "a": 9.0, "scale": 0.5}


@pytest.mark.parametrize("inputs", ["normal", "sphere", "radial"])
def test_samples_have_the_law_that_the_theory_assumes(inputs):
    """Mean projection, and fraction below it, of 2·10⁵ examples within 4 standard errors."""
    n, d = 200_000, 7
    radius = RADIUS if inputs == "radial" else None
    x = sample_inputs(n, d, inputs, generator(0, "train"), radius)
    direction = torch.full((d,), 1.0 / math.sqrt(d), dtype=torch.float64)
    zeta = ((x @ direction) * label(x, direction)).numpy()
    law = projection_law(inputs, d, radius)
    assert (zeta >= 0.0).all()
    assert abs(zeta.mean() - law.m1) < 4.0 * zeta.std() / math.sqrt(n)
    p = float(law.cdf(np.asarray(law.m1)))
    assert abs((zeta < law.m1).mean() - p) < 4.0 * math.sqrt(p * (1 - p) / n)


def test_elongated_inputs_have_the_law_that_the_theory_assumes():
    """Along ŵ* as above; across it the projection on any direction has unit variance and is independent."""
    n = 200_000
    drawn = task(n_train=n, d=7, inputs="elongated", stretch=2.5)
    x, y, direction = drawn.train.x, drawn.train.y, drawn.direction
    along = x @ direction
    zeta = (along * y).numpy()
    law = projection_law("elongated", 7, stretch=2.5)
    assert (zeta >= 0.0).all()
    assert abs(zeta.mean() - law.m1) < 4.0 * zeta.std() / math.sqrt(n)
    p = float(law.cdf(np.asarray(law.m1)))
    assert abs((zeta < law.m1).mean() - p) < 4.0 * math.sqrt(p * (1 - p) / n)
    covariance = x.T @ x / n - torch.eye(7, dtype=x.dtype) - (2.5**2 - 1.0) * torch.outer(direction, direction)
    assert float(covariance.abs().max()) < 4.5 * math.sqrt(2.0) * 2.5**2 / math.sqrt(n)
    across_sq = x.square().sum(dim=1).numpy() - zeta**2
    near = zeta > 2.0 * law.m1  # whatever x∥ is
    expected = float(law.perp_sq(np.asarray(2.0 * law.m1)))
    assert abs(across_sq[near].mean() - expected) < 4.0 * across_sq.std() / math.sqrt(near.sum())


def test_a_stretch_changes_the_inputs_along_the_direction_alone():
    plain, one, three = task(), task(inputs="elongated"), task(inputs="elongated", stretch=3.0)
    assert torch.equal(one.train.x, plain.train.x)
    assert_close(three.train.x @ plain.direction, 3.0 * (plain.train.x @ plain.direction))
    assert_close(elongate(three.train.x, plain.direction, 1.0 / 3.0), plain.train.x)
    assert torch.equal(three.train.y, plain.train.y)


def test_initial_standard_deviations_scale_the_same_draw():
    unit, scaled = (
        MeanFieldNetwork(5, 3, generator=generator(0, "network"), dtype=torch.float64, **settings)
        for settings in ({}, {"a_std": 2.0, "w_std": 0.5})
    )
    for now, start, factor in ((scaled.a, scaled.a0, 2.0), (scaled.w, scaled.w0, 0.5)):
        assert torch.equal(now, start)
        assert torch.equal(start, factor * (unit.a0 if factor == 2.0 else unit.w0))


def test_the_clock_is_read_off_nodes_of_any_initial_variances():
    """It compares nodes with their own initial values: exact for any A and B."""
    for a_std, w_std in ((2.0, 1.0), (0.5, 1.5), (10.0, 0.01)):
        a0, w0 = torch.randn(2, 50, generator=generator(0, "nodes"), dtype=torch.float64)
        a0, w0, c, s = a_std * a0, w_std * w0, math.cosh(0.8), math.sinh(0.8)
        assert float(order_parameter(c * a0 + s * w0, c * w0 + s * a0, a0, w0)) == pytest.approx(0.8, rel=1e-12)


def test_an_unknown_law_is_refused():
    with pytest.raises(ValueError, match="inputs='cube'"):
        sample_inputs(3, 3, "cube", generator(0, "train"))


def test_flips_are_a_fraction_of_the_training_labels():
    flipped = flip_labels(torch.ones(1000), 0.137, generator(0, "flip"))
    assert int((flipped < 0).sum()) == 137


def task(**settings):
    data = SphericalData(
        **{"n_train": 50, "n_test": 40, "d": 6, "seed": 0, "schedule": np.array([0.0, 1.0]), **settings}
    )
    data.setup("fit")
    return data.task


def test_draws_are_keyed_by_seed_and_purpose():
    first, again, other = task(), task(n_test=10, flip=0.2), task(seed=1)
    assert torch.equal(first.train.x, again.train.x)  # neither test size nor noise changes the training inputs
    assert not torch.equal(first.train.x, other.train.x)
    assert not torch.equal(first.train.x[:40], first.test.x)
    assert int((first.train.y != again.train.y).sum()) == 10
    assert torch.equal(again.test.y, label(again.test.x, again.direction))  # test labels are true
    assert float(first.direction.norm()) == pytest.approx(1.0)
    assert torch.equal(task(direction="axis").direction, torch.eye(6, dtype=torch.float64)[0])


def test_streams_of_different_keys_are_independent():
    keys = [(seed, purpose, step) for seed in range(3) for purpose in ("train", "test") for step in range(3)]
    draws = torch.stack([torch.randn(2000, generator=generator(*key)) for key in keys])
    correlation = torch.corrcoef(draws) - torch.eye(len(keys))
    assert float(correlation.abs().max()) < 4.5 / math.sqrt(2000)
    assert torch.equal(
        torch.randn(5, generator=generator(1, "train", 2)), torch.randn(5, generator=generator(1, "train", 2))
    )


def test_a_schedule_is_even_in_log_time_and_ends_where_asked():
    times = log_spaced(50.0, per_decade=5)
    assert times[0] == 0.0
    assert times[1] == pytest.approx(50.0 / 400.0)
    assert times[-1] == 1250.0
    np.testing.assert_allclose(np.diff(np.log10(times[1:])), 0.2, rtol=1e-9)
    longer = log_spaced(50.0, t_max=3000.0, per_decade=5)
    np.testing.assert_array_equal(longer[: len(times) - 1], times[:-1])  # extending it only adds times
    assert longer[-1] == 3000.0
    assert listed(1.0, [5.0, 1.0]).tolist() == [0.0, 1.0, 5.0]


def test_a_loader_goes_on_where_it_was():
    loader = ScheduleLoader(np.array([0.0, 1.0, 2.0, 4.0]))
    iterator = iter(loader)
    assert next(iterator) == (0.0, 1.0)
    other = ScheduleLoader(loader.times)
    other.load_state_dict(loader.state_dict())
    assert list(other) == [(1.0, 2.0), (2.0, 4.0)]


def test_projections_split_the_weights():
    source = generator(0, "w")
    w, direction = (torch.randn(*shape, generator=source, dtype=torch.float64) for shape in ((20, 5), (5,)))
    direction /= direction.norm()
    w_par, w_perp = node_projections(w, direction)
    assert_close(w_par**2 + w_perp**2, (w**2).sum(dim=1))
    assert_close(w_par, (w * direction).sum(dim=1))


def test_the_clock_is_read_off_noisy_nodes_without_bias():
    """γ̂ of nodes on their hyperbolas plus independent noise, over 400 draws within 4 standard errors."""
    estimates = []
    for seed in range(400):
        a0, w0, da, dw = torch.randn(4, 200, generator=generator(seed, "nodes"), dtype=torch.float64)
        c, s = math.cosh(1.3), math.sinh(1.3)
        a, w = c * a0 + s * w0, c * w0 + s * a0
        assert float(order_parameter(a, w, a0, w0)) == pytest.approx(1.3, rel=1e-12)
        estimates.append(float(torch.sinh(order_parameter(a + 0.3 * da, w + 0.3 * dw, a0, w0))))
    sample = np.array(estimates)
    assert abs(sample.mean() - math.sinh(1.3)) < 4.0 * sample.std() / 20.0


def test_metrics_accumulate_over_batches():
    margins = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, -3.0])
    error, unsatisfied = ErrorRate(), UnsatisfiedFraction(h=1.0)
    for part in margins.split(4):
        error.update(part)
        unsatisfied.update(part)
    assert float(error.compute()) == pytest.approx(2.5 / 6)
    assert float(unsatisfied.compute()) == pytest.approx(4 / 6)
