"""Readers of real examples: what they read, what they say of files that are wrong or damaged at random."""

from __future__ import annotations

import gzip
import struct
from urllib.error import URLError

import numpy as np
import pytest

from mfnet.data.sources import ArrayFile, IDXFolder, OpenML, Packaged, TextTable, openml, read_idx
from mfnet.setup.errors import SettingError

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (12, 4, 4), dtype=np.uint8), np.arange(12, dtype=np.uint8) % 3
TABLE = "width,height,species\n1.5,2,a\n-3,4e1,b\n0.25,6,a\n7,8,c\n"


def inputs(records):
    """All of them."""
    return records.rows(np.arange(len(records.classes)))


def idx(array, code=0x08):
    """IDX by its published description, not by the code under test."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


def folder(path, images=IMAGES, labels=LABELS, zipped=False, **changed):
    """A folder of IDX files, of which some may have other contents."""
    suffix, write = (".gz", gzip.compress) if zipped else ("", bytes)
    files = {
        "train-images-idx3-ubyte": idx(images),
        "train-labels-idx1-ubyte": idx(labels),
        "t10k-images-idx3-ubyte": idx(images[:6]),
        "t10k-labels-idx1-ubyte": idx(labels[:6]),
    }
    for name, content in {**files, **{key.replace("_", "-"): value for key, value in changed.items()}}.items():
        if content is not None:
            (path / f"{name}{suffix}").write_bytes(write(content))
    return IDXFolder(str(path))


def arrays(path, **contents):
    np.savez(path / "data.npz", **contents)
    return ArrayFile(str(path / "data.npz"))


def npy(path, **contents):
    """A folder of .npy files."""
    for name, values in contents.items():
        np.save(path / f"{name}.npy", values)
    return ArrayFile(str(path))


def table(path, text=TABLE, label="species", **settings):
    (path / "data.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return TextTable(str(path / "data.csv"), label, **settings)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_of_idx_files_is_read(tmp_path, zipped):
    records = folder(tmp_path, zipped=zipped).read()
    np.testing.assert_array_equal(inputs(records), np.concatenate([IMAGES, IMAGES[:6]]).reshape(18, 16))
    assert records.classes.tolist() == [str(label) for label in [*LABELS, *LABELS[:6]]]
    assert records.n_train == 12


@pytest.mark.parametrize(("code", "dtype"), [(0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")])
def test_idx_has_six_types(tmp_path, code, dtype):
    values = np.array([[1, -2, 3], [40, 50, -60]]).astype(dtype)
    (tmp_path / "file").write_bytes(idx(values, code))
    np.testing.assert_array_equal(read_idx(tmp_path / "file"), values)


def test_a_table_is_read(tmp_path):
    records = table(tmp_path).read()
    np.testing.assert_array_equal(inputs(records), [[1.5, 2.0], [-3.0, 40.0], [0.25, 6.0], [7.0, 8.0]])
    assert records.classes.tolist() == ["a", "b", "a", "c"]
    assert records.column(1) == "column 'height'"
    assert table(tmp_path, exclude=["width"]).read().n_columns == 1
    assert hash(table(tmp_path, exclude=["width"])) == hash(table(tmp_path, exclude=("width",)))
    semicolons = table(tmp_path, TABLE.replace(",", ";"), separator=";").read()
    np.testing.assert_array_equal(inputs(semicolons), inputs(records))


def test_arrays_are_read(tmp_path):
    records = arrays(tmp_path, x=IMAGES, y=np.where(LABELS == 0, 1.0, -1.0)).read()
    np.testing.assert_array_equal(inputs(records), IMAGES.reshape(12, 16))
    assert set(records.classes) == {"1", "-1"}
    assert records.n_train is None
    np.savez(tmp_path / "both.npz", inputs=IMAGES, labels=LABELS, more=IMAGES[:3], names=LABELS[:3])
    both = ArrayFile(str(tmp_path / "both.npz"), "inputs", "labels", "more", "names").read()
    assert (len(both.classes), both.n_train) == (15, 12)


def test_data_sets_of_scikit_learn_are_read():
    digits, cells = Packaged("digits").read(), Packaged("breast_cancer").read()
    assert inputs(digits).shape == (1797, 64)
    assert sorted(set(digits.classes)) == list("0123456789")
    assert inputs(cells).shape == (569, 30)
    assert sorted(set(cells.classes)) == ["benign", "malignant"]
    assert cells.column(0) == "column 'mean radius'"


class Fetched:
    data, target = IMAGES.reshape(12, 16), LABELS.astype(str)


def test_openml_is_fetched_or_missed_in_one_line(monkeypatch):
    monkeypatch.setattr(openml, "fetch_openml", lambda name, **_: Fetched)
    assert OpenML("mnist_784", n_train=8).read().n_train == 8
    assert OpenML("CIFAR_10").read().n_train is None

    def offline(name, **_):
        raise URLError("Name or service not known")

    monkeypatch.setattr(openml, "fetch_openml", offline)
    with pytest.raises(SettingError, match=r"mnist_784.*not kept in .*cannot be reached.*data=digits"):
        OpenML("mnist_784").read()


MISTAKES = {
    "no such array in a folder": (
        lambda path: npy(path, x=IMAGES, labels=LABELS),
        "data.source.y=y: .* has labels, x",
    ),
    "objects in a folder": (
        lambda path: npy(path, x=np.array([[{}]], dtype=object), y=LABELS[:1]),
        r"x\.npy: is damaged, or not an \.npy file",
    ),
    "complex numbers": (lambda path: npy(path, x=IMAGES * 1j, y=LABELS), "type complex128, not numbers"),
    "NaN in a folder": (
        lambda path: npy(path, x=np.where(np.arange(12) == 7, np.nan, 1.0).reshape(4, 3), y=LABELS[:4]),
        "nan in row 2, column 1",
    ),
    "no folder": (lambda path: IDXFolder(str(path / "nope")), "nope: there is no such folder"),
    "no file": (lambda path: folder(path, t10k_labels_idx1_ubyte=None), "has no file t10k-labels"),
    "not IDX": (
        lambda path: folder(path, train_images_idx3_ubyte=b"PNG and more"),
        "train-images.* is not an IDX file",
    ),
    "empty": (lambda path: folder(path, train_images_idx3_ubyte=b""), "is not an IDX file"),
    "too long": (
        lambda path: folder(path, train_images_idx3_ubyte=idx(IMAGES) + b"\0"),
        "announces 12 × 4 × 4 values, 208 bytes in all, and it has 209",
    ),
    "signed": (lambda path: folder(path, train_images_idx3_ubyte=idx(IMAGES, 0x09)), "holds no unsigned bytes"),
    "labels of more dimensions": (
        lambda path: folder(path, train_labels_idx1_ubyte=idx(IMAGES)),
        "train-labels.*has 3 dimensions",
    ),
    "unequal lengths": (lambda path: folder(path, labels=LABELS[:9]), "training set has 12 inputs and 9 labels"),
    "other pixels": (
        lambda path: folder(path, t10k_images_idx3_ubyte=idx(IMAGES[:6, :3])),
        r"training inputs are \(4, 4\), test inputs \(3, 4\)",
    ),
    "no examples": (lambda path: folder(path, images=IMAGES[:0], labels=LABELS[:0]), "training set is empty"),
    "no table": (lambda path: TextTable(str(path / "none.csv"), "y"), "none.csv: there is no such file"),
    "no such label": (lambda path: table(path, label="kind"), "kind: .* has the columns width, height, species"),
    "no such column": (lambda path: table(path, exclude=["depth"]), "exclude=depth: .* has the columns"),
    "no numbers": (
        lambda path: table(path, label="width"),
        r"there is text in column 'species' \('a' in line 2\); leave it out",
    ),
    "an empty cell": (
        lambda path: table(path, TABLE.replace("4e1", "")),
        r"1 of 4 rows have nothing in some column: column 'height' \(1, first in line 3\)",
    ),
    "a missing cell": (
        lambda path: table(path, TABLE.replace("4e1,b", "b")),
        "'b' in line 3, column 'height', is not a finite number",
    ),
    "a short line": (lambda path: table(path, TABLE + "1,2\n"), r"column 'species' \(1, first in line 6\)"),
    "a long line": (lambda path: table(path, TABLE.replace("6,a", "6,a,9")), "cannot be read as a table: .*line 4"),
    "long lines": (lambda path: table(path, TABLE.replace("\n", ",9\n").replace("species,9", "species")), "table"),
    "not a number": (
        lambda path: table(path, TABLE.replace("6,a", "nan,a")),
        r"column 'height' \(1, first in line 4\)",
    ),
    "infinite": (lambda path: table(path, TABLE.replace("6,a", "inf,a")), "'inf' in line 4, column 'height'"),
    "no class": (lambda path: table(path, TABLE.replace("6,a", "6,")), r"column 'species' \(1, first in line 4\)"),
    "nothing at all": (lambda path: table(path, ""), "cannot be read as a table"),
    "a header alone": (lambda path: table(path, "width,species\n"), "no row below them"),
    "labels alone": (lambda path: table(path, "species\na\nb\n"), "no column beside 'species'"),
    "not text": (
        lambda path: table(path, b"\xff,\n\x80,1\n"),
        "is no text in utf-8 .* use data.source.encoding=latin-1 or utf-16$",
    ),
    "no arrays": (lambda path: ArrayFile(str(path / "none.npz")), "none.npz: there is no such file"),
    "no such array": (lambda path: arrays(path, x=IMAGES, labels=LABELS), "data.source.y=y: .* has x, labels"),
    "text": (lambda path: arrays(path, x=np.array([["a", "b"]]), y=LABELS[:1]), r"x has shape \(1, 2\) and type <U1"),
    "flat": (lambda path: arrays(path, x=LABELS, y=LABELS), r"x has shape \(12,\)"),
    "almost one-hot labels": (lambda path: arrays(path, x=IMAGES, y=2 * np.eye(12)), r"y has shape \(12, 12\)"),
    "fewer labels": (lambda path: arrays(path, x=IMAGES, y=LABELS[:-1]), "has 12 inputs and 11 labels"),
    "NaN": (
        lambda path: arrays(path, x=np.where(np.arange(12) == 7, np.nan, 1.0).reshape(4, 3), y=LABELS[:4]),
        "nan in row 2, column 1",
    ),
    "objects": (lambda path: arrays(path, x=np.array([[{}]]), y=LABELS[:1]), "is damaged, or not an .npz file"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_one_line(name, tmp_path):
    make, expected = MISTAKES[name]
    with pytest.raises(SettingError, match=expected) as told:
        make(tmp_path).read()
    assert "\n" not in str(told.value)


def test_an_array_that_is_not_in_an_archive_is_no_npz(tmp_path):
    np.save(tmp_path / "data.npy", IMAGES)
    with pytest.raises(SettingError, match=r"is damaged, or not an \.npz file"):
        ArrayFile(str(tmp_path / "data.npy")).read()


def damaged(content):
    """``content`` cut at every tenth of its length, then with one byte inverted, or one bit of it, all along."""
    for tenth in range(10):
        yield content[: len(content) * tenth // 10]
    for mask in (0xFF, 0x01):
        for at in range(0, len(content), max(1, len(content) // 300)):
            yield content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]


def outcome(read):
    """What is read, or None where that is refused; any other exception fails the test."""
    try:
        return read()
    except SettingError:
        return None


def test_damaged_gzipped_idx_is_refused_or_read_as_it_was(tmp_path):
    path, content = tmp_path / "file.gz", gzip.compress(idx(IMAGES), mtime=0)
    n_refused = 0
    for changed in damaged(content):
        path.write_bytes(changed)
        found = outcome(lambda: read_idx(path))
        assert found is None or np.array_equal(found, IMAGES)
        n_refused += found is None
    assert n_refused > 0.9 * 2 * len(content)


def test_damaged_idx_keeps_its_shape_or_is_refused(tmp_path):
    """Without a checksum a changed value cannot be seen; a changed length, type or shape can."""
    source = folder(tmp_path)
    path, content = tmp_path / "train-images-idx3-ubyte", idx(IMAGES)
    for changed in damaged(content):
        path.write_bytes(changed)
        found = outcome(source.read)
        assert found is None or np.sum(inputs(found)[:12] != IMAGES.reshape(12, 16)) == 1
        assert (found is None) == (len(changed) < len(content) or changed[:16] != content[:16])


def test_damaged_arrays_are_refused_or_read_as_they_were(tmp_path):
    source = arrays(tmp_path, x=IMAGES, y=LABELS)
    path, whole = tmp_path / "data.npz", source.read()
    for changed in damaged(path.read_bytes()):
        path.write_bytes(changed)
        found = outcome(source.read)
        assert found is None or (
            np.array_equal(inputs(found), inputs(whole)) and np.array_equal(found.classes, whole.classes)
        )


@pytest.mark.slow
@pytest.mark.parametrize("labels", [LABELS, np.array(["cat", "dog", "owl"])[LABELS]], ids=["numbers", "text"])
@pytest.mark.parametrize("name", ["x", "y"])
def test_a_damaged_folder_of_arrays_is_refused_or_has_finite_values(name, labels, tmp_path):
    """Without a checksum a changed value or type cannot be seen; every byte of the header is changed three times."""
    source = npy(tmp_path, x=IMAGES.astype("<f4"), y=labels)
    path = tmp_path / f"{name}.npy"
    content = path.read_bytes()
    n_refused = 0
    for tenth in range(10):
        path.write_bytes(content[: len(content) * tenth // 10])
        assert outcome(source.read) is None
    path.write_bytes(content + b"\0")
    assert outcome(source.read) is None
    for at in range(min(len(content), 200)):
        for mask in (0x01, 0x20, 0xFF):
            path.write_bytes(content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :])
            found = outcome(source.read)
            assert found is None or (len(found.classes) == 12 and np.isfinite(inputs(found)).all())
            n_refused += found is None
    assert n_refused > 100


def test_a_damaged_table_is_refused_or_has_other_values(tmp_path):
    """A table has no checksum; but every row that is read has all its numbers."""
    source = table(tmp_path)
    for changed in damaged(TABLE.encode()):
        (tmp_path / "data.csv").write_bytes(changed)
        found = outcome(source.read)
        assert found is None or (np.isfinite(inputs(found)).all() and len(inputs(found)) == len(found.classes) <= 5)
