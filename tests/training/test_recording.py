"""What observers return, where it goes, and what a mistake costs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from lightning.pytorch.strategies import Strategy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import mfnet
from mfnet.figures import FIGURES
from mfnet.setup.errors import SettingError
from mfnet.training.callbacks import recording
from mfnet.training.sinks import Files
from mfnet.training.summary import TAKEN
from support.command import NO_EVENTS, SMALL, assert_same_files, columns, summary
from support.observables import (
    WAYS,
    Assigns,
    Bad,
    Banded,
    Colliding,
    Drawn,
    Fails,
    Late,
    Twice,
    Wrong,
    largest,
    no_number,
    power,
)

pytestmark = pytest.mark.unchecked

TINY = {"M": 20, "N": 100, "d": 20, "data": {"n_test": 100}, "trainer": {"accelerator": "cpu"}}
SHORT = {**TINY, "schedule": {"t_max": 2.0, "per_decade": 2}}
OWN = ["+callbacks.largest._target_=support.observables.largest"]


def scalars(directory):
    """Tags of TensorBoard's scalars with their values by step."""
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0}).Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_of_times_before_a_theory_begins_nothing_is_written(command, tmp_path):
    """TensorBoard has no point there, neither of the curve nor of its band."""
    command("train", *SMALL, "overlay=[later_kernel]", "overlay.later_kernel.start=1.0", "hydra.run.dir=run").ok()
    t = columns(tmp_path / "run")["t"]
    written = scalars(tmp_path / "run" / "tensorboard" / "later_kernel")
    assert written
    for values in written.values():
        assert np.isfinite(list(values.values())).all()
    assert sorted(written["curves/unsatisfied"]) == np.flatnonzero(t >= 1.0).tolist()


def test_a_function_of_an_observation_is_everywhere(command, tmp_path):
    command("train", *SMALL, *OWN, "hydra.run.dir=run", figures=True).ok()
    directory = tmp_path / "run"
    seen = columns(directory)["largest_network"]
    network = mfnet.load(directory).network
    assert seen[-1] == pytest.approx(float(network.a.detach().abs().max()))
    assert seen[0] == pytest.approx(float(network.a0.abs().max()))
    assert summary(directory)["largest"] == seen[-1]
    assert "largest" in summary(directory)["series"]
    logged = scalars(directory / "tensorboard" / "network")["curves/largest"]
    np.testing.assert_allclose([logged[k] for k in range(len(seen))], seen, rtol=1e-6)
    assert scalars(directory / "tensorboard" / "final")["final/largest"] != {}
    assert (directory / "figures" / "curves.png").exists()


def test_of_replicas_it_has_a_spread(command, tmp_path):
    command("train", *SMALL, *OWN, *NO_EVENTS, "replicas=3", "hydra.run.dir=run").ok()
    directory = tmp_path / "run"
    each = np.load(directory / "replicas.npz")["largest"]
    seen = columns(directory)
    assert each.shape == (len(seen["t"]), 3)
    np.testing.assert_allclose(seen["largest_network"], each.mean(axis=1))
    np.testing.assert_allclose(seen["largest_network_std"], each.std(axis=1, ddof=1))
    np.testing.assert_allclose(seen["largest_network_se"], each.std(axis=1, ddof=1) / np.sqrt(3))
    final = summary(directory)["final"]["largest"]
    assert final["mean"] == pytest.approx(each[-1].mean())


def test_it_goes_on_from_a_checkpoint_bit_for_bit(command, tmp_path):
    twice = ["+callbacks.a={_target_: support.observables.Twice, name: x}"]
    twice += ["+callbacks.b={_target_: support.observables.Twice, name: y}"]
    settings = [*SMALL, *OWN, *twice, *NO_EVENTS, "stop.satisfied=0.9"]
    command("train", *settings, "hydra.run.dir=whole").ok()
    stopped = ["+callbacks.stops={_target_: support.observables.Stops, k: 4}"]
    command("train", *settings, *stopped, "hydra.run.dir=parts").ok()
    assert summary(tmp_path / "parts")["stop_reason"] == "callback"
    assert len(columns(tmp_path / "parts")["t"]) == 5
    goes_on = ["+callbacks.stops={_target_: support.observables.Stops, k: -1}"]
    command("train", "ckpt=parts/checkpoints/last.ckpt", *OWN, *twice, *goes_on).ok()
    assert_same_files(tmp_path / "parts", tmp_path / "whole")
    k = columns(tmp_path / "parts")["k"]
    for name in ("x", "y"):
        np.testing.assert_array_equal(columns(tmp_path / "parts")[f"{name}_network"], k + 1.0)


def test_what_is_added_where_a_run_goes_on_has_the_whole_history(command, tmp_path):
    """A theory is known at all times, as if it had been there from the beginning; an observable from then on."""
    listed = ["schedule=listed", "schedule.times=[1,2,4,8]"]
    added = ["overlay=[mean_field]", *OWN]
    command("train", *SMALL[:-2], "trainer.accelerator=cpu", *NO_EVENTS, *listed, *added, "hydra.run.dir=whole").ok()
    first = [*listed[:1], "schedule.times=[1,2]"]
    command("train", *SMALL[:-2], "trainer.accelerator=cpu", *NO_EVENTS, *first, "hydra.run.dir=parts").ok()
    command("train", "ckpt=parts/checkpoints/last.ckpt", "schedule.times=[1,2,4,8]", *added).ok()
    whole, parts = columns(tmp_path / "whole"), columns(tmp_path / "parts")
    assert set(whole) == set(parts)
    for name in set(whole) - {"largest_network"}:
        assert parts[name] == pytest.approx(whole[name], rel=1e-9, abs=1e-12), name
    assert np.isnan(parts["largest_network"][:3]).all()
    assert np.array_equal(parts["largest_network"][3:], whole["largest_network"][3:])
    assert "agreement_mean_field" in summary(tmp_path / "parts")


@pytest.mark.parametrize("theory", ["mean_field", "linear_closure", "none"])
def test_another_theory_takes_the_place_of_the_first_where_a_run_goes_on(theory, command, tmp_path):
    listed = ["schedule=listed", "schedule.times=[1,2]"]
    small = [*SMALL[:-2], "trainer.accelerator=cpu", *NO_EVENTS]
    command("train", *small, *listed, "hydra.run.dir=parts").ok()
    more = ["schedule.times=[1,2,4,8]", f"theory={theory}"]
    command("train", "ckpt=parts/checkpoints/last.ckpt", *more, figures=True).ok()
    command("train", *small, "schedule=listed", *more, "hydra.run.dir=whole").ok()
    whole, parts = columns(tmp_path / "whole"), columns(tmp_path / "parts")
    assert set(whole) == set(parts)
    for name in whole:
        assert parts[name] == pytest.approx(whole[name], rel=1e-9, abs=1e-12), name


def test_a_function_has_the_arguments_beside_it(command, tmp_path):
    squared = "+callbacks.squared={_target_: support.observables.power, exponent: 2}"
    command("train", *SMALL, *NO_EVENTS, *OWN, squared, "schedule.t_max=1", "hydra.run.dir=run").ok()
    seen = columns(tmp_path / "run")
    np.testing.assert_allclose(seen["squared_network"], seen["largest_network"] ** 2)
    assert mfnet.train(**SHORT, callbacks=[power]).history["power_network"].iloc[0] > 0.0


MISUSE = {
    "raises": "RuntimeError: no such luck",
    "shape": "mine has the shape (3,); it must be one number",
    "nothing": "observe must return a mapping, and has returned None",
    "number": "observe must return a mapping, and has returned 1.0",
    "identifier": "'my-name' cannot be the name of a series",
    "no_name": "1 cannot be the name of a series",
    "taken": "there is a series gamma already",
    "summary": "steps is what summary.json",
    "later": "the column new_network was not there from the first observation on",
    "missing": "the column mine_network is missing",
    "text": "mine is 'one', and not a number",
    "complex": "and not a number",
    "measure": "there is a column gamma_theory already",
    "file": "'../out' cannot be the name of a file",
    "list": "own.npz must be of arrays by name, and 'x' is [1]",
    "overwrites": "summary.json has stop_reason already",
    "tensor": "cannot be written as JSON",
}


@pytest.mark.parametrize("how", WAYS)
def test_a_misuse_costs_one_line_and_not_the_run(how, tmp_path, capsys):
    since = 1 if how in ("later", "missing", "text", "shape") else 0
    run = mfnet.train(
        **SHORT, logger=[], callbacks={"bad": Bad(how, since), "largest": largest}, directory=tmp_path / "run"
    )
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("mfnet: callbacks.bad is left out from now on: ")
    assert MISUSE[how] in said
    assert run.summary["stop_reason"] == "t_max"
    assert set(run.summary["left_out"]) == {"bad"}
    assert summary(tmp_path / "run")["largest"] == run.history["largest_network"].iloc[-1]
    assert np.isfinite(run.history["gamma_theory"]).all()
    if since:
        seen = run.history["mine_network"]
        assert seen[0] == 1.0
        assert np.isnan(seen[1:]).all()
        assert summary(tmp_path / "run")["mine"] is None


def test_tensors_with_a_graph_and_nan_are_recorded(tmp_path, capsys):
    def graph(observation):
        return observation.networks.a.sum()

    run = mfnet.train(**SHORT, logger=[], callbacks=[graph, no_number], directory=tmp_path / "run")
    assert capsys.readouterr().err == ""
    assert run.history["graph_network"].iloc[-1] == pytest.approx(float(run.network.a.detach().sum()), rel=1e-5)
    assert np.isnan(run.history["no_number_network"]).all()
    assert summary(tmp_path / "run")["no_number"] is None
    run.figure("curves")


def test_the_same_series_and_the_same_class_twice(capsys):
    run = mfnet.train(**SHORT, callbacks={"one": Twice("x"), "other": Twice("x"), "third": Twice("y")})
    assert capsys.readouterr().err == "mfnet: callbacks.other is left out from now on: there is a series x already\n"
    assert run.summary["series"][-2:] == ["x", "y"]
    with pytest.raises(SettingError, match=r"callbacks.twice=.*: there are two"):
        mfnet.train(**SHORT, callbacks=[Twice("x"), Twice("y")])
    with pytest.raises(SettingError, match=r"overlay.banded=.*: there are two"):
        mfnet.train(**SHORT, overlay=[Banded, Banded])
    one = Twice("x")
    with pytest.raises(SettingError, match="is there already"):
        mfnet.train(**SHORT, callbacks={"one": one, "other": one})


def test_a_plain_callback_that_assigns_is_told_once(capsys):
    run = mfnet.train(**SHORT, callbacks=[Assigns()])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "observation.series['assigned'] was assigned, which is not recorded; return it from an Observer" in said
    assert run.summary["stop_reason"] == "t_max"
    assert "assigned_network" not in run.history


def test_a_plain_callback_that_raises_leaves_everything_observed(tmp_path):
    with pytest.raises(OSError, match="gone"):
        mfnet.train(**SHORT, logger=[], callbacks=[Fails(2), largest], directory=tmp_path / "run")
    assert summary(tmp_path / "run")["stop_reason"] == "error: gone"
    assert list(columns(tmp_path / "run")["k"]) == [0, 1, 2]
    assert len(np.load(tmp_path / "run" / "nodes.npz")["t"]) == 3


def test_a_callback_object_may_look_at_several_runs():
    log = mfnet.training.NodeLog(3)
    for _ in range(2):
        run = mfnet.train(**SHORT, callbacks={"node_log": log})
    assert run.nodes["a"].shape == (len(run.history), 3)


def test_arrays_of_ones_own_are_read_again(tmp_path):
    class Own(mfnet.training.Observer):
        def arrays(self, observation, predictions):
            return {"own": {"x": np.arange(observation.k + 1)}}

    run = mfnet.train(**SHORT, logger=[], callbacks=[Own()], directory=tmp_path / "run")
    again = mfnet.load(tmp_path / "run")
    for contents in (run.contents, again.contents):
        np.testing.assert_array_equal(contents.arrays["own"]["x"], np.arange(len(run.history)))


def test_tensorboard_says_what_a_step_is(tmp_path):
    """Of every chart, once."""
    mfnet.train(**{**SHORT, "logger": ["tensorboard"]}, directory=tmp_path / "run", figures=False)
    for side in ("network", "theory"):
        events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / side)).Reload()
        for tag in events.Tags()["scalars"]:
            assert "number k of the observation" in events.SummaryMetadata(tag).summary_description
            assert len(events.Scalars(tag)) > 1


def test_nothing_is_observed_twice(monkeypatch):
    seen = []
    rows = []
    monkeypatch.setattr(Files, "rows", lambda self, new, _: rows.extend(row.observation.k for row in new))
    run = mfnet.train(**SHORT, callbacks={"own": lambda observation: seen.append(observation.k) or 0.0})
    assert seen == list(range(len(run.history)))


def test_names_that_the_summary_takes_are_refused_for_series():
    run = mfnet.train(**SHORT, replicas=2)
    names = set(run.summary) - set(run.summary["series"])
    assert names <= TAKEN
    assert set(run.replicas) - set(run.summary["series"]) <= TAKEN


# ---------------------------------------------------------------- theories of one's own


@pytest.mark.parametrize("name", ["mine", "a_b", "network_theory"])
def test_a_banded_theory_is_one_theory_in_every_figure(name, tmp_path):
    settings = {**TINY, "schedule": {"per_decade": 2}, "logger": []}
    mfnet.train(
        **settings,
        overlay={name: Banded},
        callbacks={"largest": largest, "node_agreement": mfnet.training.NodeAgreement()},
        directory=tmp_path / "run",
    )
    run = mfnet.load(tmp_path / "run")
    assert run.contents.theories == ["theory", name]
    assert {f"gamma_{name}", f"gamma_{name}_lo", f"gamma_{name}_hi"} <= set(run.history)
    assert set(run.figures) == set(FIGURES) - {"latent"}
    shown = name.replace("_", " ")
    for figure in ("errors", "nodes", "curves"):
        legends = [legend for axes in run.figure(figure).axes if (legend := axes.get_legend()) is not None]
        labels = [text.get_text() for legend in legends for text in legend.get_texts()]
        assert not [label for label in labels if label.endswith((" lo", " hi"))]
        assert any(shown in label for label in labels), figure


@pytest.mark.parametrize(
    "name", ["theory", "theory_lo", "theory_hi", "network", "network_std", "network_se", "final", "par", "my-own"]
)
def test_a_name_that_something_else_has_is_refused(name):
    with pytest.raises(SettingError, match=f"overlay={name}: ") as caught:
        mfnet.train(**SHORT, overlay={name: Banded})
    assert "\n" not in str(caught.value)


def test_the_band_of_an_overlay_has_its_names_too():
    with pytest.raises(SettingError, match="overlay=mine_lo: the band of mine has this name"):
        mfnet.train(**SHORT, overlay={"mine_lo": Banded, "mine": Banded})


def test_columns_that_two_theories_have_are_refused():
    overlay = {"a_b": {"_target_": Colliding, "name": "x"}, "b": {"_target_": Colliding, "name": "x_a"}}
    with pytest.raises(SettingError, match=r"overlay.b=.*a_b has a column x_a_b too"):
        mfnet.train(**SHORT, overlay=overlay)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("series", "Wrong.series: 'gamma' has the shape"),
        ("nodes", "Wrong.nodes: 'a' has the shape"),
        ("satisfaction", "Wrong.satisfaction must be an array"),
        ("raises", "ZeroDivisionError: by 0"),
    ],
)
@pytest.mark.parametrize("called", ["train", "predict"])
def test_a_theory_that_is_wrong_costs_one_line_and_nothing_is_written(called, what, message, command, tmp_path):
    theory = ["theory=none", "theory._target_=support.observables.Wrong", f"+theory.what={what}"]
    ended = command(called, *SMALL, *theory)
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert "theory._target_=support.observables.Wrong" in ended.err
    assert message in ended.err
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SettingError, match=r"overlay.mine._target_=support.observables.Wrong"):
        mfnet.train(**SHORT, overlay={"mine": {"_target_": Wrong, "what": what}})


def test_a_theory_of_the_draw_that_speaks_of_nodes_alone():
    run = mfnet.train(**SHORT, overlay={"mine": Drawn}, callbacks=[mfnet.training.NodeAgreement()])
    assert "left_out" not in run.summary
    assert set(run.summary["nodes"]) == {"theory", "mine"}
    assert run.nodes["a_mine"].shape == run.nodes["a"].shape


def test_a_theory_that_fails_where_a_run_ends_is_left_out(capsys):
    settings = {**TINY, "schedule": {"per_decade": 2}}
    run = mfnet.train(**settings, overlay={"late": Late})
    said = capsys.readouterr().err
    assert run.summary["stop_reason"] == "all_satisfied"
    assert said.count("\n") == 1
    assert "the theory late is left out from now on: Late.series: 'gamma' has the shape" in said
    assert np.isfinite(run.history["gamma_late"][:-1]).all()
    assert np.isnan(run.history["gamma_late"].iloc[-1])
    json.dumps(run.summary, allow_nan=False)


def test_the_summary_names_the_device_of_the_training(monkeypatch):
    """Lightning has moved the networks to the CPU when the summary is made."""
    over = []
    tear_down = Strategy.teardown
    monkeypatch.setattr(Strategy, "teardown", lambda self: over.append(True) or tear_down(self))
    monkeypatch.setattr(recording, "device_name", lambda device: "cpu" if over else "a GPU")
    run = mfnet.train(**SHORT, theory=None)
    assert over
    assert run.summary["device"] == "a GPU"
