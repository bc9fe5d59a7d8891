"""What makes a row hold or fail, and what is estimated from several runs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mfnet.claims import Verdict, inside, near
from mfnet.claims.lazy import Prediction, _fall, _within_spread
from mfnet.claims.onset import Runs, exponent, minimum_of
from mfnet.claims.simulation import Record
from mfnet.claims.width import first_crossing


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [(1.0, "holds"), (1.49, "holds"), (0.51, "holds"), (1.51, "fails"), (0.49, "fails"), (math.nan, "fails")],
)
def test_near_allows_three_standard_errors_and_what_is_neglected(measured, verdict):
    row = near("case", "simulation", 1.0, measured, 0.1, neglected=0.2, because="terms of order 1/M")
    assert row.verdict == verdict
    assert row.deviation == pytest.approx(measured - 1.0, nan_ok=True)
    assert row.rule == "within 3 standard errors + 0.2 (terms of order 1/M)"


def test_a_share_holds_between_its_bounds_alone():
    verdicts = [inside("c", "s", 0.683, share, (0.6, 0.75)).verdict for share in (0.59, 0.6, 0.75, 0.76)]
    assert verdicts == ["fails", "holds", "holds", "fails"]
    assert inside("c", "s", 0.683, 0.9, (0.6, 0.75), claimed=False).verdict is Verdict.NOT_CLAIMED


def test_within_the_spread_of_the_seeds():
    """Means 0.5 ± 0.1 (spread of the seeds): 0.55 is within it, 0.65 is not."""
    predicted = np.array([[0.4], [0.5], [0.6]])
    for shift, verdict, share in ((0.05, "holds", 1.0), (0.15, "fails", 0.0)):
        mean, runs = _within_spread("c", "s", np.array([1.0]), predicted, predicted + shift, 1000)
        assert mean.verdict == verdict
        assert runs.measured == share
        assert runs.verdict is Verdict.NOT_CLAIMED


def test_the_exponent_of_a_distance():
    """αF off by M^{−1/2} has that exponent; and a test error off by the same at all M does not fall."""
    rng = np.random.default_rng(0)
    limit = [Prediction(np.full(3, 0.1), np.ones(3), rng.normal(size=(3, 50))) for _ in range(4)]
    zero, noise = np.zeros(3), rng.normal(size=(4, 3, 50))
    runs = {
        M: [
            Record(
                zero,
                zero,
                zero,
                zero,
                zero,
                flow.test_error + 0.01,
                (flow.output + noise[i] / math.sqrt(M)) / 1e3,
                1,
                1.0,
                1.0,
            )
            for i, flow in enumerate(limit)
        ]
        for M in (100, 400, 1600)
    }
    row = _fall(runs, limit, "excess", "αF", 0.1, "s")
    assert row.measured == pytest.approx(-0.5, abs=1e-9)
    assert row.verdict is Verdict.HOLDS
    level = _fall(runs, limit, "test_error", "ε_g", None, "s")
    assert level.measured == pytest.approx(0.0, abs=1e-9)


def _records(errors, t):
    """Runs with these test errors, and n_u = t^{−1/2} as the averaged force of the middle of each interval."""
    force = np.append(0.0, (t[1:] * t[:-1]) ** -0.25)
    zero = np.zeros_like(t)
    return [Record(t, zero, zero, zero, force, error, np.zeros((len(t), 0)), 1, 1.0, t[-1]) for error in errors]


@pytest.mark.slow
def test_the_minimum_of_several_runs_and_its_error():
    """Minima at ln t* = ln 30 ± 0.3 over 16 seeds: the mean's is at 30 within 0.3/4, which resampling must find."""
    rng = np.random.default_rng(0)
    t = np.geomspace(1.0, 1000.0, 73)
    found = []
    for _ in range(20):
        bottoms = 30.0 * np.exp(0.3 * rng.normal(size=(16, 1)))
        found.append(minimum_of(Runs(_records(0.02 + 0.01 * np.log(t / bottoms) ** 2, t), []), unit=10.0))
    times = np.array([least.t for least in found])
    spread = np.array([np.log(least.draws[0]).std() for least in found])
    assert np.log(times / 3.0).std() == pytest.approx(0.3 / 4, rel=0.5)
    assert np.log(times / 3.0).mean() == pytest.approx(0.0, abs=4 * 0.3 / 4 / math.sqrt(20))
    assert spread.mean() == pytest.approx(0.3 / 4, rel=0.15)
    for least in found:
        assert least.inside
        assert least.n_u == pytest.approx((10.0 * least.t) ** -0.5, rel=2e-3)


def test_runs_are_extrapolated_to_infinitely_many_nodes():
    """ε² = a² + c/M of M and M/2 nodes leaves a, in the mean over seeds and in each resampling."""
    t = np.geomspace(1.0, 100.0, 49)
    limit = 0.02 + 0.01 * np.log(t / 10.0) ** 2
    few, many = (_records(np.sqrt(limit**2 + 1e-3 / M) * np.ones((3, 1)), t) for M in (100, 200))
    runs = Runs(many, few)
    for curves in (runs.curves(), next(runs.resampled())):
        np.testing.assert_allclose(curves[0], limit, rtol=1e-12)
        np.testing.assert_allclose(curves[1], many[0].mean_force, rtol=1e-12)


def test_an_error_that_only_falls_has_no_minimum():
    t = np.geomspace(1.0, 100.0, 49)
    least = minimum_of(Runs(_records([1.0 / t, 2.0 / t], t), []), unit=1.0)
    assert not least.inside
    assert "no minimum" in least.described


def test_an_exponent_and_its_error():
    """y = x^0.4 with 5 % scatter: the error agrees with the spread of fits to many such data sets."""
    rng = np.random.default_rng(0)
    x = np.geomspace(0.01, 0.1, 5)
    fits = []
    for _ in range(100):
        y = x**0.4 * np.exp(0.05 * rng.normal(size=5))
        draws = y[:, None] * np.exp(0.05 * rng.normal(size=(5, 100)))
        fits.append(exponent(x, y, draws))
    slopes, errors = np.array(fits).T
    assert slopes.mean() == pytest.approx(0.4, abs=4 * slopes.std() / math.sqrt(100))
    assert errors.mean() == pytest.approx(slopes.std(), rel=0.15)


def test_the_first_crossing_is_interpolated():
    times = np.array([1.0, 2.0, 4.0])
    excess = np.array([[0.0, 0.5, 1.5], [0.0, 0.2, 0.4], [0.0, 1.2, 0.5]])
    assert first_crossing(times, excess, 2.0) == pytest.approx([2.0, math.inf, 1.0 + 0.5 / 1.2])
