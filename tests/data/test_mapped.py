"""Data sets that are mapped from files: the same task, in bounded memory, and nothing left behind."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from mfnet.data import Examples
from mfnet.data.binary import BinaryTask
from mfnet.data.mapped import in_file, is_mapped
from mfnet.data.preparation import Preparation
from mfnet.data.sources import ArrayFile, IDXFolder, Records
from mfnet.record.directory import RunDirectory
from mfnet.setup.errors import SettingError
from support.command import NO_EVENTS

NO_TIMES = np.zeros(1)

#: 1 kB, less than any set here.
SMALL = 1e-6


@dataclass(frozen=True)
class Correlated:
    """Two classes in columns of different variance and mean, one of which does not vary; a fifth are a test set."""

    n: int = 500
    d: int = 6

    def read(self):
        rng = np.random.default_rng(7)
        classes = np.array(["a", "b"] * (self.n // 2))
        x = rng.normal(size=(self.n, self.d)) * np.arange(1.0, self.d + 1) @ rng.normal(size=(self.d, self.d))
        x += 3.0 * (classes == "a")[:, None] + np.arange(self.d)
        x[:, 1] = -2.5
        n = self.n * 4 // 5
        return Records((x[:n], x[n:]), classes, "correlated")


def binary(source, memory=2.0, **preparation):
    return BinaryTask(source, Preparation(**preparation), 0, NO_TIMES, flip=0.1, memory=memory)


PREPARATIONS = [
    {},
    {"centre": False, "scale": "none"},
    {"whiten": True},
    {"components": 3},
    {"components": 2, "whiten": True, "centre": False, "scale": "none"},
    {"sphere": True},
]


@pytest.mark.parametrize("values", [12, 600], ids=["2 rows", "100 rows"])
@pytest.mark.parametrize("settings", PREPARATIONS, ids=str)
def test_a_mapped_task_is_the_one_in_memory(settings, values, monkeypatch):
    """In chunks, fewer rows than columns in one case, against one chunk; all is of order 1 to 100."""
    held = binary(Correlated(), **settings)
    (train, test, direction, _), fitted = held.draw(), held.fitted
    monkeypatch.setattr("mfnet.data.sources.records.PART", values)
    mapped = binary(Correlated(), SMALL * values / 600, **settings)  # a budget of its own: tasks are kept by settings
    task, found = mapped.draw(), mapped.fitted
    assert (is_mapped(task.train.x), is_mapped(task.test.x)) == (True, True)
    assert (is_mapped(train.x), is_mapped(test.x)) == (False, False)
    assert torch.equal(task.train.y, train.y)
    assert torch.equal(task.test.y, test.y)
    for one, other in ((train.x, task.train.x), (test.x, task.test.x), (direction, task.direction)):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10)
    assert set(found) == set(fitted)
    for name in fitted:
        np.testing.assert_allclose(found[name], fitted[name], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("n", "d"), [(400, 9), (24, 30)], ids=["more rows", "more columns"])
def test_principal_components_in_chunks_are_those_of_the_whole_set(n, d, monkeypatch):
    monkeypatch.setattr("mfnet.data.sources.records.PART", 2 * d)
    source = Correlated(n * 5 // 4, d)
    data = binary(source, SMALL, scale="none", whiten=True)
    x = StandardScaler(with_std=False).fit_transform(source.read().inputs[0])
    rank = min(n, d) - 1  # one column does not vary; or the mean is subtracted
    whole = PCA(rank, svd_solver="full", whiten=True).fit(x)
    task, fitted = data.draw(), data.fitted
    assert task.train.x.shape == (n, rank)
    np.testing.assert_allclose(fitted["principal_explained_variance"], whole.explained_variance_, rtol=1e-10)
    np.testing.assert_allclose(fitted["principal_components"], whole.components_, atol=1e-10)
    np.testing.assert_allclose(task.train.x.numpy(), whole.transform(x), atol=1e-9)


def folder(path, **arrays):
    for name, values in arrays.items():
        np.save(path / f"{name}.npy", values)
    return ArrayFile(str(path))


def write_idx(path, values):
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(header + values.tobytes())


def test_sources_map_their_files(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (30, 4, 5), dtype=np.uint8), np.arange(30) % 2
    for part, count in (("train", 30), ("t10k", 10)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", images[:count])
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", labels[:count].astype(np.uint8))
    names = {"x_test": "more", "y_test": "names"}
    folder(tmp_path, x=images.astype(np.float32), y=labels, more=np.asfortranarray(images[:10]), names=labels[:10])
    for records in (IDXFolder(str(tmp_path)).read(), ArrayFile(str(tmp_path), **names).read()):
        assert [isinstance(part, np.memmap) for part in records.inputs] == [True, True]
        assert records.n_train == 30
        which = np.array([3, 39, 29, 30])  # across both parts, in any order
        np.testing.assert_array_equal(records.rows(which), images[[3, 9, 29, 0]].reshape(4, 20))
        assert records.classes[which].tolist() == ["1", "1", "1", "0"]


def test_moved_inputs_stay_mapped():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 3)))
    mapped = in_file(x.split(7), (50, 3), x.dtype)
    cpu, y = torch.device("cpu"), torch.ones(50, dtype=torch.float64)
    part = Examples(mapped[10:40], y[10:40])  # a process's share
    assert torch.equal(part.to(cpu, torch.float64).x, x[10:40])
    assert part.to(cpu, torch.float64).x.data_ptr() == part.x.data_ptr()
    single = part.to(cpu, torch.float32)
    assert is_mapped(single.x)
    assert torch.equal(single.x, x[10:40].float())
    assert not is_mapped(Examples(x, y).to(cpu, torch.float32).x)


def test_the_temporary_file_has_no_name(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    x = in_file([torch.ones(4, 3)], (4, 3), torch.float32)
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(x, torch.ones(4, 3))


def test_a_file_that_cannot_be_written_is_told_in_one_line(tmp_path, monkeypatch):
    message = r"larger than data.memory takes .* GiB in a temporary file, which cannot be written .*; set TMPDIR"
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
        with pytest.raises(SettingError, match=message):
            binary(Correlated(300), SMALL).draw()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # as on a disk that is full
    try:
        with pytest.raises(SettingError, match=message):
            binary(Correlated(300), SMALL).draw()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


DRAW = """
import sys, threading, time, re
import numpy as np, torch
from mfnet.data.binary import BinaryTask
from mfnet.data.preparation import Preparation
from mfnet.data.sources import ArrayFile

def anonymous():
    with open("/proc/self/status") as status:
        return int(re.search(r"RssAnon:\\s+(\\d+) kB", status.read())[1]) / 1e3

def sample():
    while not done.is_set():
        seen.append(anonymous())
        time.sleep(0.005)

def draw(folder, memory):
    task = BinaryTask(ArrayFile(folder), Preparation(), 0, np.zeros(1), memory=memory).draw()
    assert task.train.to(torch.device("cpu"), torch.float32).x.shape == (30_000, 1000)

BinaryTask(ArrayFile(sys.argv[1]), Preparation(), 0, np.zeros(1)).draw()  # for what is imported and allocated once
for memory in (20e6 / 2**30, 2.0):
    start, seen, done = anonymous(), [], threading.Event()
    thread = threading.Thread(target=sample)
    thread.start()
    draw(sys.argv[2], memory)
    done.set()
    thread.join()
    print(max(seen) - start)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is read from /proc")
def test_anonymous_memory_is_bounded(tmp_path):
    """40000 × 1000 inputs, 320 MB in float64: they stay below 120 MB under a budget of 20 MB, and are seen without."""
    (tmp_path / "small").mkdir()
    (tmp_path / "large").mkdir()
    n, rng = 40_000, np.random.default_rng(0)
    folder(tmp_path / "small", x=rng.normal(size=(100, 5)), y=np.arange(100) % 2)
    folder(tmp_path / "large", y=np.arange(n) % 2)
    x = np.lib.format.open_memmap(tmp_path / "large" / "x.npy", "w+", np.float32, (n, 1000))
    for start in range(0, n, 4000):
        x[start : start + 4000] = rng.random((4000, 1000), dtype=np.float32)
    x.flush()
    arguments = [str(tmp_path / "small"), str(tmp_path / "large")]
    peaks = subprocess.run([sys.executable, "-c", DRAW, *arguments], capture_output=True, text=True, check=True).stdout
    mapped, held = map(float, peaks.split())
    assert mapped < 120.0
    assert held > 320.0


@pytest.mark.slow
@pytest.mark.parametrize("flow", ["euler", "averaged", "sgd"])
def test_a_run_on_mapped_data_is_that_in_memory(flow, command, tmp_path, monkeypatch):
    """And goes on with another budget: it is the same run."""
    monkeypatch.setattr("mfnet.data.sources.records.PART", 200)
    monkeypatch.setattr("mfnet.data.mapped.PART", 200)
    files, make = [], tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *args, **options: files.append(make(*args)) or files[-1])
    records = Correlated().read()
    source = folder(tmp_path, x=records.rows(np.arange(500)), y=records.classes)
    settings = ["data=npz", f"data.source.file={source.file}", f"flow={flow}", "M=30", "overlay=[node_agreement]"]
    settings += ["schedule=listed", *NO_EVENTS, *(["flow.dt=0.05"] if flow != "averaged" else [])]
    command("train", *settings, "schedule.times=[1,2,4]", "hydra.run.dir=memory").ok()
    assert files == []
    command("train", *settings, "schedule.times=[1,2]", "hydra.run.dir=mapped").ok()
    goes_on = ["ckpt=mapped/checkpoints/last.ckpt", "schedule.times=[1,2,4]", f"data.memory={SMALL}"]
    command("train", *goes_on).ok()
    assert len(files) == 4  # training and test set, each in two types
    memory, mapped = (RunDirectory(tmp_path / name) for name in ("memory", "mapped"))
    one, other = memory.read_history(), mapped.read_history()
    assert list(one) == list(other)
    for name in one:  # in float32
        np.testing.assert_allclose(other[name], one[name], rtol=1e-4, atol=1e-4)
    assert memory.read_summary()["identity"] == mapped.read_summary()["identity"]
