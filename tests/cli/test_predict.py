"""The theory alone."""

from __future__ import annotations

import numpy as np
import pytest

from support.command import NO_EVENTS, SMALL, columns


def test_predict_writes_the_theory_alone(command, tmp_path):
    times = ["schedule=listed", "schedule.times=[1,10,100]"]
    printed = command("predict", *times, "data.flip=0.1", "hydra.run.dir=p").ok().out
    history = columns(tmp_path / "p")
    assert history["t"].tolist() == [0.0, 1.0, 10.0, 100.0]
    assert history["gamma_theory"][3] == pytest.approx(2.03702533, rel=1e-6)
    assert not [name for name in history if name.endswith("_network")]
    assert history["gamma_theory_lo"][3] < history["gamma_theory"][3] < history["gamma_theory_hi"][3]
    assert "2.2059543" in printed  # where γ ends
    assert not (tmp_path / "p" / "summary.json").exists()


@pytest.mark.slow
def test_predict_draws_for_a_theory_of_one_run(command, tmp_path):
    """The very curves that a run with the same settings is given."""
    closure = ["theory=kernel_closure", "schedule.per_decade=12"]
    command("predict", *SMALL, *closure, "hydra.run.dir=p").ok()
    command("train", *SMALL, *NO_EVENTS, *closure, "hydra.run.dir=t").ok()
    predicted, trained = (columns(tmp_path / name) for name in "pt")
    shared = predicted["t"][:-1] < trained["t"][-1]  # the training ends where all are satisfied
    assert shared.sum() > 20
    for name in ("gamma", "loss"):
        expected = trained[f"{name}_theory"][: len(predicted["t"]) - 1][shared[: len(trained["t"])]]
        np.testing.assert_allclose(predicted[f"{name}_theory"][:-1][shared], expected, rtol=1e-3)
