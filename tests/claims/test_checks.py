"""Each claim in its quick form holds or runs; and wrong theories are refuted."""

from __future__ import annotations

import math
import re

import pytest

from mfnet.claims import CLAIMS, Effort, Verdict
from mfnet.claims import finite_samples as finite_samples_claims
from mfnet.theory import MeanField
from mfnet.theory import closures as closures_module
from mfnet.theory import finite_samples as finite_samples_module
from mfnet.theory import moving_kernel as moving_kernel_module
from mfnet.theory import projections as projections_module

pytestmark = [pytest.mark.slow, pytest.mark.unchecked]


def test_every_claim_says_what_where_and_by_whom():
    for name, claim in CLAIMS.items():
        assert claim.name == name
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert claim.statement
        assert claim.regime
        assert claim.source
        assert claim.check.__doc__


#: Those whose quick form does not depend on the luck of a few seeds.
SURE = ["clock", "regimes", "population", "start", "balanced", "ways"]
SURE += ["starting-error-samples", "finite-samples", "closure", "laziness", "other-data"]


@pytest.mark.parametrize("name", CLAIMS)
def test_quick_claims_run(name):
    """And those hold that few seeds can prove."""
    evidence = CLAIMS[name].check(Effort(quick=True))
    assert all(math.isfinite(row.measured) for row in evidence.rows if row.claimed)
    assert len({plot.name for plot in evidence.plots}) == len(evidence.plots)
    assert len({row.case for row in evidence.rows}) == len(evidence.rows)
    if name in SURE:
        assert any(row.verdict is Verdict.HOLDS for row in evidence.rows)
        assert [row.case for row in evidence.rows if row.verdict is Verdict.FAILS] == []


# ---------------------------------------------------------------- wrong theories


def failing(name):
    return [row.case for row in CLAIMS[name].check(Effort(quick=True)).rows if row.verdict is Verdict.FAILS]


def test_a_wrong_theory_is_refuted(monkeypatch):
    """A force that is 20 % too large."""
    right = MeanField.force
    monkeypatch.setattr(MeanField, "force", lambda self, slope: 1.2 * right(self, slope))
    for name in ("clock", "population"):
        verdicts = [row.verdict for row in CLAIMS[name].check(Effort(quick=True)).rows]
        assert verdicts.count(Verdict.FAILS) >= len(verdicts) / 2


def test_a_starting_error_that_is_too_large_is_refuted(monkeypatch):
    right = finite_samples_claims.starting_error_of
    monkeypatch.setattr(finite_samples_claims, "starting_error_of", lambda *sizes: 1.6 * right(*sizes))
    assert len([case for case in failing("starting-error-samples") if case.endswith("ε₀")]) == 2


def test_a_flow_that_does_not_correct_the_noise_of_its_samples_is_refuted(monkeypatch):
    right = finite_samples_module._Margin.of
    monkeypatch.setattr(
        finite_samples_module._Margin, "of", lambda *given: right(*given)._replace(weight=0.0 * right(*given).weight)
    )
    assert len(failing("finite-samples")) >= 2


def test_the_linear_closure_is_refuted(monkeypatch):
    """It has no memory of single examples, and is too optimistic late (theory.md, 4)."""
    monkeypatch.setattr(closures_module.KernelClosure, "_memory", False)
    assert len(failing("closure")) == 2


def test_a_kernel_that_does_not_move_is_refuted(monkeypatch):
    right = moving_kernel_module.moved_kernel
    monkeypatch.setattr(
        moving_kernel_module,
        "moved_kernel",
        lambda model, x, x_par, cosh, sinh: right(model, x, x_par, 1.0, 0.8 * sinh),
    )
    assert len(failing("laziness")) >= 4


def test_a_law_without_its_stretch_is_refuted(monkeypatch):
    monkeypatch.setattr(projections_module, "Elongated", lambda d, stretch: projections_module.Normal(d))
    cases = failing("other-data")
    assert {case.split(",")[0] for case in cases} == {"stretch 0.5", "stretch 2"}
