"""What other loggers than TensorBoard have of a run, read by their own means."""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from lightning.pytorch.loggers import CSVLogger

import mfnet
from mfnet.setup.errors import SettingError
from support.command import SMALL, columns, summary

pytestmark = pytest.mark.unchecked

SHORT = {"M": 20, "N": 100, "d": 20, "data": {"n_test": 100}, "schedule": {"t_max": 2.0, "per_decade": 2}}


def needs(package):
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed: pip install 'mfnet[{package}]'")


def csv_curves(file):
    """Curves of a CSV logger without its last row, which has final values, and these."""
    table = pd.read_csv(file).set_index("step")
    curves = table[table["t"].notna()]
    final = table[table["t"].isna()].filter(like="final/").iloc[0]
    return curves.drop(columns=list(final.index)), final


def assert_has_all(directory, curves, final):
    """That a logger's curves, by name and then k, are those of ``history.csv``, and its final values the last ones."""
    history = columns(directory)
    assert "gamma/theory" in curves
    assert {name.replace("/", "_") for name in curves} == set(history) - {"k"}
    for name, values in curves.items():
        assert list(values) == list(history["k"])
        np.testing.assert_allclose(list(values.values()), history[name.replace("/", "_")], rtol=1e-12)
    assert set(final) == {f"final/{name}" for name in summary(directory)["series"]}
    for name, value in final.items():
        assert value == pytest.approx(history[f"{name.removeprefix('final/')}_network"][-1])


def test_csv(command, tmp_path):
    command("train", *SMALL, "logger=csv", "theory=finite_width", "hydra.run.dir=run").ok()
    curves, final = csv_curves(tmp_path / "run" / "csv" / "metrics.csv")
    assert "gamma/theory_lo" in curves
    assert_has_all(tmp_path / "run", curves.to_dict(), final.to_dict())
    assert "M: 40" in (tmp_path / "run" / "csv" / "hparams.yaml").read_text()
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_none_and_several(command, tmp_path):
    command("train", *SMALL, "schedule.t_max=1", "logger=[]", "hydra.run.dir=none").ok()
    assert not {"tensorboard", "csv"} & {path.name for path in (tmp_path / "none").iterdir()}
    command("train", *SMALL, "schedule.t_max=1", "logger=[tensorboard,csv]", "hydra.run.dir=both").ok()
    assert {"tensorboard", "csv"} <= {path.name for path in (tmp_path / "both").iterdir()}


def test_csv_is_whole_after_a_run_went_on(command, tmp_path):
    command("train", *SMALL, "logger=csv", "schedule.t_max=1", "hydra.run.dir=run").ok()
    command("train", "ckpt=run/checkpoints/last.ckpt", "schedule.t_max=10").ok()
    curves, final = csv_curves(tmp_path / "run" / "csv" / "metrics.csv")
    assert curves.index.is_unique
    assert_has_all(tmp_path / "run", curves.to_dict(), final.to_dict())
    assert "M: 40" in (tmp_path / "run" / "csv" / "hparams.yaml").read_text()


def test_an_object(tmp_path):
    for directory in (None, tmp_path / "run"):
        folder = tmp_path / f"own-{directory is None}"
        run = mfnet.train(**SHORT, logger=[CSVLogger(str(folder), name="")], directory=directory)
        curves, _ = csv_curves(folder / "version_0" / "metrics.csv")
        np.testing.assert_allclose(curves["gamma/network"], run.history["gamma_network"])
        np.testing.assert_allclose(curves["gamma/theory"], run.history["gamma_theory"])


def test_files_need_a_directory():
    with pytest.raises(SettingError, match="logger=csv: writes files; give a directory"):
        mfnet.train(**SHORT, logger="csv")


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_named_with_its_extra(name, command, monkeypatch, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None if package == name else found(package))
    ended = command("train", *SMALL, f"logger={name}")
    assert ended.status == 2
    assert ended.err == f"mfnet: error: logger={name}: needs {name}: pip install 'mfnet[{name}]'\n"
    assert list(tmp_path.iterdir()) == []


def test_a_logger_that_fails_costs_one_line(tmp_path, capsys):
    class Fails(CSVLogger):
        def log_metrics(self, metrics, step=None):
            if step == 2:
                raise ConnectionError("the server\nis gone")
            super().log_metrics(metrics, step)

    run = mfnet.train(**SHORT, logger={"mine": Fails(str(tmp_path / "own"))}, directory=tmp_path / "run")
    line = "mfnet: logger.mine is left out from now on: ConnectionError: the server is gone\n"
    assert capsys.readouterr().err == line
    assert run.summary["stop_reason"] == "t_max"
    assert len(columns(tmp_path / "run")["k"]) == len(run.history)


#: A run and its continuation in a process of their own: W&B and MLflow keep state in theirs.
IN_A_PROCESS = """
import sys
from mfnet.cli import main
small = sys.argv[2:]
assert main(["train", *small, "schedule.t_max=1", "hydra.run.dir=run"]) == 0
assert main(["train", "ckpt=run/checkpoints/last.ckpt", "schedule.t_max=10"]) == 0
"""


def run_twice(tmp_path, *settings):
    environment = {**os.environ, "HOME": str(tmp_path), "WANDB_SILENT": "true"}
    command = [sys.executable, "-c", IN_A_PROCESS, "", *SMALL, *settings]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    return tmp_path / "run"


def stored(file):
    """The records of an offline run of W&B's, a log as LevelDB has it: blocks of chunks (crc, length, kind)."""
    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 2**15 - at % 2**15) < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # the whole, or its last part
            yield whole
            whole = b""


@needs("wandb")
def test_wandb_offline(tmp_path):
    from wandb.proto.wandb_internal_pb2 import Record

    directory = run_twice(tmp_path, "logger=wandb", "logger.wandb.offline=true")
    files = sorted((directory / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert len({file.stem for file in files}) == 1  # one run, in two parts
    curves, final, config = {}, {}, {}
    for file in files:
        for data in stored(file):
            record = Record.FromString(data)
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            config |= {item.key: json.loads(item.value_json) for item in record.config.update}
            row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            k = row.get("trainer/global_step")
            for name, value in row.items():
                if name.startswith("final/"):
                    final[name] = value
                elif "t" in row and not name.startswith(("_", "trainer/")):
                    assert k not in curves.get(name, {})
                    curves.setdefault(name, {})[k] = value
    assert config["M"] == 40
    assert_has_all(directory, curves, final)


@needs("mlflow")
def test_mlflow_without_a_server(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    directory = run_twice(tmp_path, "logger=mlflow")
    client = MlflowClient(f"file:{directory / 'mlruns'}")
    (run,) = client.search_runs([client.get_experiment_by_name("mfnet").experiment_id])
    assert run.data.params["M"] == "40"
    histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    curves = {name: {m.step: m.value for m in ms} for name, ms in histories.items() if not name.startswith("final/")}
    assert all(len(curves[name]) == len(histories[name]) for name in curves)  # none is there twice
    final = {name: value for name, value in run.data.metrics.items() if name.startswith("final/")}
    assert_has_all(directory, curves, final)
    assert run.info.status == "FINISHED"


def test_a_run_puts_back_the_environment(tmp_path):
    before = dict(os.environ)
    mfnet.train(**SHORT, logger=["csv"], directory=tmp_path / "run")
    assert dict(os.environ) == before
