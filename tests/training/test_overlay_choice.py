"""What is laid over a run by default, and what its files say of it."""

from __future__ import annotations

import numpy as np
import pytest

import mfnet
from mfnet.setup.setup import Setup
from mfnet.theory import FiniteWidth, MeanField, Theory
from mfnet.training import Training
from mfnet.training.summary import choice_lines
from support.command import NO_EVENTS, SMALL, columns, summary

TINY = {"M": 20, "N": 200, "d": 10, "data.n_test": 100, "logger": [], "trainer.accelerator": "cpu"}
SHORT = {**TINY, "schedule.t_max": 2.0, "schedule.per_decade": 2}


def test_a_run_says_which_theory_was_chosen_and_until_when_it_is_trusted():
    run = mfnet.train(**SHORT)
    laid = run.summary["overlaid"]["theory"]
    assert laid["theory"] == "kernel_closure"
    assert laid["because"] == "it follows the actual 200 examples and 20 nodes, and is cheap for their number"
    trusted = run.summary["trust"]
    assert laid["trusted_until"]["errors"] == trusted["kernel_closure"]["until"]
    assert laid["trusted_until"]["nodes"] == trusted["mean_field"]["until"]
    assert choice_lines(run.summary["overlaid"]) == [f"theory is kernel_closure: {laid['because']}"]
    assert "x_theory_lo" in run.examples  # of the average over draws
    assert {"a_theory", "w_par_theory"} <= set(run.nodes)


@pytest.mark.parametrize(
    ("settings", "theory", "reason"),
    [
        ({"replicas": 2}, "finite_width", "there are several replicas"),
        ({"data": "online", "flow": "rotation"}, "finite_width", "the examples are new at each step"),
        ({"trainer.devices": 2, "trainer.divide": "nodes"}, "finite_width", "nodes are divided among processes"),
        ({"N": 10_000, "d": 300}, "finite_width", "costs (N + test examples) d² = 9.1e+08, above 2.5e+08"),
        ({"trainer.devices": 2}, "kernel_closure", "it follows the actual 200 examples"),
        ({"data": "breast_cancer", "N": None, "d": None}, "kernel_closure", "it follows the actual 426 examples"),
    ],
)
def test_the_choice_goes_with_the_run(settings, theory, reason):
    given = {name: value for name, value in TINY.items() if not (name == "data.n_test" and "breast" in str(settings))}
    training = Training(Setup.of(**{**given, **settings}))
    theories = training.pieces.theories
    assert training.predictions[0].theory.trusted_as == theory
    assert reason in theories.reasons["theory"]


def test_of_new_examples_the_average_is_trusted_as_on_infinitely_many():
    run = mfnet.train(**{**SHORT, "data": "online", "flow": "rotation", "M": 200, "N": 50})
    assert set(run.summary["trust"]) == {"mean_field", "finite_width"}
    assert run.summary["overlaid"]["theory"]["trusted_until"]["errors"] is None  # to the end


def test_a_theory_that_is_asked_for_is_not_chosen():
    run = mfnet.train(**SHORT, theory="finite_width", overlay=["kernel_closure"])
    assert isinstance(run.theory, FiniteWidth)
    assert {name: entry["theory"] for name, entry in run.summary["overlaid"].items()} == {
        "theory": "finite_width",
        "kernel_closure": "kernel_closure",
    }
    assert choice_lines(run.summary["overlaid"]) == []
    none = mfnet.train(**SHORT, theory=None)
    assert none.summary["overlaid"] == {"theory": {"theory": "none"}}


def test_of_real_data_no_end_of_trust_is_known():
    settings = {"M": 20, "data": "breast_cancer", "schedule.t_max": 0.5, "schedule.per_decade": 2, "logger": []}
    run = mfnet.train(**settings, trainer={"accelerator": "cpu"})
    assert run.summary["overlaid"]["theory"]["theory"] == "kernel_closure"
    assert "trusted_until" not in run.summary["overlaid"]["theory"]
    assert np.isfinite(run.history["gamma_theory"]).all()


def test_the_command_says_it_and_predicts_the_average(command, tmp_path):
    printed = command("train", *SMALL, *NO_EVENTS, "hydra.run.dir=r").ok().out
    assert "theory is kernel_closure: it follows the actual" in printed
    assert summary(tmp_path / "r")["overlaid"]["theory"]["theory"] == "kernel_closure"
    printed = command("predict", *SMALL, "hydra.run.dir=p").ok().out
    assert "theory finite_width: an average over draws, since nothing is drawn before a run" in printed
    assert {"gamma_theory_lo", "test_error_theory"} <= set(columns(tmp_path / "p"))


def test_one_of_ones_own_is_named_and_not_faded():
    class Own(Theory):
        def series(self, t):
            return MeanField(d=10).series(t)

    run = mfnet.train(**SHORT, theory=Own())
    assert run.summary["overlaid"]["theory"]["theory"].endswith("Own")
    assert run.contents.trusted_until("theory", "gamma") == np.inf
