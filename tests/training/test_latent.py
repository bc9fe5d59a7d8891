"""Runs on labels of a few latent directions: the theory that is laid over them, and what they leave."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mfnet
from mfnet.theory import Hydrodynamic

pytestmark = pytest.mark.unchecked

RUN = {
    **{"M": 40, "N": 300, "d": 6, "data": "latent", "data.rule": "xor", "data.n_test": 500, "logger": []},
    **{"hydrodynamic.points": 3, "hydrodynamic.rtol": 0.01, "schedule.t_max": 20.0, "schedule.per_decade": 3},
}


def test_eq_5_is_laid_over_the_run_with_its_nodes_and_its_output(tmp_path):
    run = mfnet.train(**RUN, directory=tmp_path / "run")
    assert isinstance(run.theory, Hydrodynamic)
    overlaid = run.summary["overlaid"]["theory"]
    assert overlaid["theory"] == "hydrodynamic"
    assert "no mean-field solution" in overlaid["because"]
    nodes, latent = run.nodes, run.contents.arrays["latent"]
    np.testing.assert_allclose(nodes["a_theory"][0], nodes["a"][0], rtol=1e-6)
    np.testing.assert_allclose(nodes["w_perp_theory"][0], nodes["w_perp"][0], rtol=1e-5)
    assert latent["u"].shape == (500, 2)
    assert latent["output"].shape == (len(run.history), 500)
    np.testing.assert_array_equal(latent["output"][0], 0.0)
    wrong = np.mean(latent["output"][-1] * latent["y"] < 0.0)
    assert wrong == pytest.approx(run.history["test_error_network"].iloc[-1], abs=1e-9)
    assert latent["output_theory"].shape == latent["u_grid"].shape[:1]
    assert {"fig1", "errors", "latent"} <= set(mfnet.load(tmp_path / "run").figures)


@pytest.mark.parametrize("rule", ["sign", "shell"])
def test_one_direction_may_be_named_or_not(rule):
    """`rule=sign` is normal data: its theory is the closed form, or the closure of the run."""
    run = mfnet.train(**{**RUN, "data.rule": rule, "schedule.t_max": 2.0})
    assert isinstance(run.theory, Hydrodynamic) == (rule == "shell")


def test_every_theory_goes_with_latent_data(capfd):
    """And says nothing of F over the latent directions but where it knows them."""
    names = ["finite_samples", "finite_width", "hydrodynamic", "infinite_width", "kernel_closure", "kernel_flow"]
    names += ["later_kernel", "linear_closure", "mean_field", "realised_width"]
    run = mfnet.train(**{**RUN, "data.rule": "sign", "schedule.t_max": 2.0, "overlay": names})
    assert "left out" not in capfd.readouterr().err
    latent = run.contents.arrays["latent"]
    assert [name for name in names if f"output_{name}" in latent] == ["hydrodynamic"]


def test_replicas_and_new_examples():
    averaged = mfnet.train(**{**RUN, "replicas": 2, "schedule.t_max": 2.0})
    assert averaged.contents.arrays["latent"]["u"].shape == (500, 2)
    online = mfnet.train(**{**RUN, "data": "online_latent", "flow": "euler", "schedule.t_max": 2.0})
    assert online.summary["overlaid"]["theory"]["theory"] == "hydrodynamic"


def ring(u):
    return np.where((u**2).sum(axis=1) > 1.4, 1.0, -1.0)


def test_a_rule_an_activation_and_a_loss_of_ones_own():
    class Huber(mfnet.MarginLoss):
        def __call__(self, m):
            below = torch.relu(self.h - m)
            return torch.where(below < 1.0, 0.5 * below**2, below - 0.5)

    run = mfnet.train(
        **{**RUN, "data.rule": ring, "data.k": 2, "schedule.t_max": 2.0},
        network={"activation": torch.nn.functional.elu},
        loss=Huber,
    )
    history = run.history
    assert run.summary["overlaid"]["theory"]["theory"] == "hydrodynamic"
    np.testing.assert_allclose(history["loss_theory"], history["loss_network"], rtol=0.1)


def test_data_without_latent_directions_have_no_latent_log(capfd):
    run = mfnet.train(M=5, N=20, d=4, schedule={"t_max": 1.0, "per_decade": 1}, callbacks=[mfnet.training.LatentLog()])
    assert "latent_log" in str(run.summary["left_out"]).lower() or "LatentLog" in str(run.summary["left_out"])
