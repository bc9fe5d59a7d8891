"""The command on real data: whole runs with what they leave, and agreement that is known beforehand."""

from __future__ import annotations

import gzip
import math
import struct
from urllib.error import URLError

import numpy as np
import pytest
import yaml
from scipy.special import ndtr
from sklearn.datasets import load_digits

from mfnet.data.sources import openml
from mfnet.network.observables import r_squared
from mfnet.record.directory import RunDirectory
from mfnet.training.callbacks.baselines import Baselines
from support.command import NO_EVENTS, assert_same_files, call, columns, summary
from support.shared import made_once

QUICK = [*NO_EVENTS, "schedule.per_decade=4"]


@pytest.fixture(scope="module")
def realistic(tmp_path_factory):
    """The prepared experiment, in small, with its figures."""
    command = ["train", "experiment=realistic", "M=200", "N=500", "schedule.per_decade=8", "hydra.run.dir=r"]
    cwd = made_once(tmp_path_factory, "realistic", lambda cwd: call(*command, cwd=cwd, figures=True).ok())
    return RunDirectory(cwd / "r")


@pytest.mark.slow
def test_sizes_follow_from_the_data_and_are_saved(realistic):
    config = realistic.read_summary()["config"]
    assert (config["N"], config["d"]) == (500, 64)
    saved = yaml.safe_load((realistic.path / ".hydra" / "config.yaml").read_text())
    assert (saved["N"], saved["d"]) == (500, 64)


@pytest.mark.slow
def test_the_preparation_is_saved_with_the_run(realistic):
    fitted = realistic.read_arrays(realistic.preparation)
    assert fitted["standard_mean"].shape == fitted["direction"].shape == (64,)
    assert len(fitted["train_rows"]) == 500
    assert not set(fitted["train_rows"]) & set(fitted["test_rows"])


@pytest.mark.slow
def test_nodes_follow_at_first_and_depart_later(realistic):
    """What the summary says of R² is what the saved nodes say: all 200 of them are logged."""
    history, nodes = realistic.read_history(), realistic.read_arrays(realistic.nodes)
    departure = realistic.read_summary()["nodes"]
    assert set(departure) == {"theory", "linear_closure"}  # the kernel flow says nothing of nodes
    for theory in departure:
        for name in ("a", "w_par"):
            expected = [r_squared(*values) for values in zip(nodes[name], nodes[f"{name}_{theory}"], strict=True)]
            np.testing.assert_allclose(history[f"r2_{name}_{theory}"], expected, atol=1e-5)
        least = {"r2_a": 0.97, "r2_w_par": 0.97, "r2_moved": 0.9}
        within = np.all([history[f"{name}_{theory}"] >= value for name, value in least.items()], axis=0)
        moved = [nodes[name] - nodes[name][0] for name in ("a", "w_par", f"a_{theory}", f"w_par_{theory}")]
        expected = [r_squared(np.stack(values[:2]), np.stack(values[2:])) for values in zip(*moved, strict=True)]
        np.testing.assert_allclose(history[f"r2_moved_{theory}"][5:], expected[5:], atol=1e-3)
        first = int(np.argmin(within))
        assert departure[theory]["departed"]
        assert departure[theory]["until"] == history["t"][first - 1]
        assert departure[theory]["unsatisfied_then"] == history["unsatisfied_network"][first]
        assert departure[theory]["outside_then"] == history["outside_network"][first]
    assert (history["r2_moved_theory"][1:] <= history["r2_w_par_theory"][1:]).all()
    assert (history["outside_principal_network"] <= history["outside_network"] + 1e-6).all()
    assert (realistic.figures / "nodes.png").exists()


@pytest.mark.slow
def test_a_kernel_is_better_than_a_line_at_even_and_odd_digits(realistic):
    errors = realistic.read_summary()["baselines"]
    assert errors["rbf_svm_examples"] == 500
    assert errors["rbf_svm"] < 0.06 < errors["linear_svm"] < 0.2
    assert errors["logistic_regression"] == pytest.approx(errors["linear_svm"], abs=0.03)


def write_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 0x08, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.mark.slow
def test_the_experiment_on_idx_files_runs_small(command, tmp_path):
    """On digits in place of Fashion-MNIST, of the same names and classes."""
    digits = load_digits()
    for part, rows in (("train", slice(1400)), ("t10k", slice(1400, None))):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", digits.images[rows])
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", digits.target[rows])
    settings = ["data.source.folder=.", "M=100", "N=100", "schedule.t_max=200", *QUICK, "hydra.run.dir=r"]
    command("train", "experiment=realistic_fashion", *settings).ok()
    end = summary(tmp_path / "r")
    assert end["stop_reason"] in ("enough_satisfied", "all_satisfied")
    assert end["n_unsatisfied"] <= 1
    assert end["test_error"] < 0.05
    assert end["config"]["d"] == 64


def test_linear_classifiers_reach_the_best_error_on_a_mixture(command, tmp_path):
    """Φ(−μ) = 0.159 is the least error that any has; within 4 standard errors of 10⁴ test examples, and 0.01."""
    settings = ["data=mixture", "M=20", "N=2000", "d=5", "schedule=listed", "schedule.times=[1]", "overlay=[baselines]"]
    command("train", *settings, *NO_EVENTS, "hydra.run.dir=r").ok()
    errors = summary(tmp_path / "r")["baselines"]
    for name in ("linear_svm", "logistic_regression"):
        assert abs(errors[name] - float(ndtr(-1.0))) < 0.01 + 4.0 * math.sqrt(0.16 * 0.84 / 1e4)


@pytest.mark.slow
def test_a_linear_network_is_followed_to_the_end(command, tmp_path):
    """For a linear activation the linear closure with actual nodes is exact: R² are 1, the motion outside agrees."""
    overlay = ["overlay=[node_agreement,linear_closure]", "overlay.linear_closure.start=actual"]
    settings = [
        "data=breast_cancer",
        "M=50",
        "N=200",
        "network.activation=linear",
        "flow.rtol=0.002",
        "schedule.t_max=20",
    ]
    command("train", *settings, *QUICK, *overlay, "hydra.run.dir=r").ok()
    history = columns(tmp_path / "r")
    assert history["unsatisfied_network"][-1] < 0.3
    for name in ("r2_a", "r2_w_par", "r2_moved"):
        assert (history[f"{name}_linear_closure"] > 0.995).all()
    np.testing.assert_allclose(history["outside_network"][1:], history["outside_linear_closure"][1:], atol=0.03)
    assert history["outside_network"][-1] > 0.1
    assert not summary(tmp_path / "r")["nodes"]["linear_closure"]["departed"]


def test_classes_of_unequal_size_are_not_followed_at_all(command, tmp_path):
    """The theory has no constant: with one digit against nine, a moves along ⟨y⟩ from the start, and that is said."""
    settings = ["data=digits", "data.positive=[7]", "data.negative=null", "N=400", "M=100", "theory=mean_field"]
    command("train", *settings, "overlay=[node_agreement]", "schedule.t_max=2", *QUICK, "hydra.run.dir=r").ok()
    departure = summary(tmp_path / "r")["nodes"]["theory"]
    assert (departure["departed"], departure["until"], departure["because"]) == (True, 0.0, ["r2_moved"])
    assert departure["outside_then"] > 0.4


@pytest.mark.slow
def test_minibatches_and_the_flow_have_one_time_axis(command, tmp_path):
    """On the same task γ and n_u of SGD are those of the full-batch flow, within the noise of batches of 100."""
    settings = ["data=digits", "M=200", "theory=none", "schedule=listed", "schedule.times=[2,4,8]"]
    for flow in (["flow=averaged"], ["flow=sgd", "flow.dt=0.05"]):
        command("train", *settings, *flow, *NO_EVENTS, f"hydra.run.dir={flow[0][5:]}").ok()
    batches, whole = (columns(tmp_path / name) for name in ("sgd", "averaged"))
    np.testing.assert_array_equal(batches["t"], whole["t"])
    np.testing.assert_allclose(batches["gamma_network"], whole["gamma_network"], rtol=0.03)
    np.testing.assert_allclose(batches["unsatisfied_network"], whole["unsatisfied_network"], atol=0.05)


@pytest.mark.slow
def test_a_run_on_real_data_goes_on(command, tmp_path):
    """Cut by its schedule and extended, the columns of agreement are those of a run that was left alone."""
    settings = ["data=digits", "M=50", "N=100", "overlay=[node_agreement]", "schedule=listed", *NO_EVENTS]
    command("train", *settings, "schedule.times=[1,2,4,8]", "hydra.run.dir=whole").ok()
    command("train", *settings, "schedule.times=[1,2]", "hydra.run.dir=cut").ok()
    command("train", "ckpt=cut/checkpoints/last.ckpt", "schedule.times=[1,2,4,8]").ok()
    assert_same_files(tmp_path / "cut", tmp_path / "whole")
    assert summary(tmp_path / "cut")["nodes"] == summary(tmp_path / "whole")["nodes"]


@pytest.mark.slow
def test_a_sweep_over_classes_has_the_sizes_of_each(command, tmp_path):
    classes = "data.positive=[3],[0,1,2]"
    command("train", "-m", "data=digits", "M=10", classes, "schedule.t_max=0.1", *QUICK, "hydra.sweep.dir=s").ok()
    sizes = [summary(path.parent)["config"]["N"] for path in sorted(tmp_path.glob("s/*/summary.json"))]
    assert sizes == [267, 533]


def test_the_theory_alone_is_predicted_for_a_data_set(command, tmp_path):
    done = command("predict", "data=digits", "schedule=listed", "schedule.times=[1,10]", "hydra.run.dir=p").ok()
    assert 0.0 < columns(tmp_path / "p")["unsatisfied_theory"][-1] < 1.0
    assert "gamma ends at" in done.out


class Fetched:
    """As many records as MNIST has, of four pixels, the first of which depends on the class."""

    target = (np.arange(70_000) % 10).astype(str)
    data = np.random.default_rng(0).integers(0, 256, (70_000, 4))
    data[:, 0] += 20 * (np.arange(70_000) % 10)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_sets_of_openml_are_prepared(name, command, tmp_path, monkeypatch):
    monkeypatch.setattr(openml, "fetch_openml", lambda name, **_: Fetched)
    settings = [f"data={name}", "N=500", "schedule=listed", "schedule.times=[1,30]", "hydra.run.dir=p"]
    command("predict", *settings).ok()
    assert 0.0 < columns(tmp_path / "p")["unsatisfied_theory"][-1] < 1.0


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_without_a_network_sets_of_openml_are_missed_in_one_line(name, command, monkeypatch):
    def offline(name, **_):
        raise URLError("Name or service not known")

    monkeypatch.setattr(openml, "fetch_openml", offline)
    ended = command("train", f"data={name}")
    assert ended.status == 2
    assert "connect this machine once" in ended.err
    assert ended.err.count("\n") == 1


RNG = np.random.default_rng(0)
LABELS = np.arange(120) % 2
INPUTS = RNG.normal(size=(120, 4)) + LABELS[:, None]
SHORT = ["schedule=listed", "schedule.times=[1,4]", *NO_EVENTS]


def as_csv(path, x, names=("0", "1"), separator=","):
    rows = (
        [*map(str, "abcd"), "y"],
        *([*map(repr, map(float, row)), names[y]] for row, y in zip(x, LABELS, strict=True)),
    )
    path.with_suffix(".csv").write_text("".join(f"{separator.join(row)}\n" for row in rows))
    return ["data=csv", f"data.source.file={path.name}.csv", "data.source.label=y"]


def as_npz(path, x):
    np.savez(path.with_suffix(".npz"), X=x, Y=LABELS[:, None])
    return ["data=npz", f"data.source.file={path.name}.npz"]


@pytest.mark.parametrize(
    ("names", "typed"),
    [
        (("FALSE", "TRUE"), "data.positive=[TRUE]"),
        (("0_0", "1_1"), "data.positive=[1_1]"),
        (("0.0", "1.0"), "data.positive=[1]"),
        (("full", "null"), "data.positive=[null]"),
        (("<=50K", ">50K"), 'data.positive=[">50K"]'),
        ((":", ";"), 'data.positive=[";"]'),
        (("a b", "ä"), "data.positive=['ä'] data.negative=[a b]"),
    ],
)
@pytest.mark.parametrize("separator", [",", "\t"])
def test_classes_are_typed_as_they_are_in_the_file(names, typed, separator, command, tmp_path):
    """The run is that of the plain names, whatever Hydra makes of these."""
    separated = [] if separator == "," else [r"data.source.separator=\t"]
    chosen = typed.split(" data.", 1)
    chosen[1:] = [f"data.{other}" for other in chosen[1:]]
    command(
        "predict", *as_csv(tmp_path / "own", INPUTS, names, separator), *separated, *chosen, *SHORT, "hydra.run.dir=o"
    ).ok()
    command("predict", *as_csv(tmp_path / "plain", INPUTS), "data.positive=[1]", *SHORT, "hydra.run.dir=p").ok()
    assert (tmp_path / "o" / "history.csv").read_bytes() == (tmp_path / "p" / "history.csv").read_bytes()


def test_row_numbers_do_not_leak_the_class(command, tmp_path):
    """In a file sorted by class the number of the row says the class; that it is left out is said in one line."""
    order = np.argsort(LABELS, kind="stable")
    lines = [
        f"{number},{values},{y}"
        for number, (values, y) in enumerate(zip(map(",".join, INPUTS[order].astype(str)), LABELS[order], strict=True))
    ]
    (tmp_path / "sorted.csv").write_text("\n".join([",a,b,c,d,y", *lines]))
    ended = command(
        "train", "data=csv", "data.source.file=sorted.csv", "data.source.label=y", "M=20", *SHORT, "hydra.run.dir=r"
    ).ok()
    assert [line for line in ended.err.splitlines() if line.startswith("mfnet: ")] == [
        "mfnet: sorted.csv: column 1 has no name and numbers the rows, and is left out; named, it is used"
    ]
    assert summary(tmp_path / "r")["config"]["d"] == 4


PREPARATIONS = {
    "global": [],
    "unit": ["data.preparation.scale=unit"],
    "whitened": ["data.preparation.whiten=true"],
    "components": ["data.preparation.components=2", "data.preparation.sphere=true"],
}


@pytest.mark.parametrize("preparation", PREPARATIONS)
@pytest.mark.parametrize("write", [as_csv, as_npz])
def test_test_rows_change_nothing_but_test_errors(write, preparation, command, tmp_path, monkeypatch):
    """Neither training inputs, nor what theories predict, nor classifiers: bit for bit."""
    classifiers = []
    fit = Baselines.fitted

    def kept(self, x, y):
        classifiers.append(fit(self, x, y))
        return classifiers[-1]

    monkeypatch.setattr(Baselines, "fitted", kept)
    overlay = "overlay=[mean_field,node_agreement,linear_closure,kernel_closure,baselines]"
    settings = ["M=40", overlay, *PREPARATIONS[preparation], *SHORT]
    command("train", *write(tmp_path / "one", INPUTS), *settings, "hydra.run.dir=r1").ok()
    fitted = dict(np.load(tmp_path / "r1" / "preparation.npz"))
    changed = INPUTS.copy()
    changed[fitted["test_rows"]] = 5.0 - 3.0 * changed[fitted["test_rows"]]
    command("train", *write(tmp_path / "two", changed), *settings, "hydra.run.dir=r2").ok()
    again = np.load(tmp_path / "r2" / "preparation.npz")
    assert all(np.array_equal(values, again[name]) for name, values in fitted.items())
    one, two = columns(tmp_path / "r1"), columns(tmp_path / "r2")
    differ = {name for name in one if not np.array_equal(one[name], two[name], equal_nan=True)}
    assert {"test_error_network", "test_error_theory"} <= differ
    assert all(name.startswith("test_error_") for name in differ)
    for name, model in classifiers[0].items():
        parameters = [np.asarray(getattr(each[name], "dual_coef_", each[name].intercept_)) for each in classifiers]
        np.testing.assert_array_equal(*parameters)
        if name != "rbf_svm":
            np.testing.assert_array_equal(model.coef_, classifiers[1][name].coef_)
    assert summary(tmp_path / "r1")["baselines"] != summary(tmp_path / "r2")["baselines"]
