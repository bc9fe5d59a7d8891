"""Tables and arrays as people have them: what is recognised, what is left out, what is refused in a line."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pytest

from mfnet.data.binary import BinaryTask, choose_classes
from mfnet.data.preparation import Preparation
from mfnet.data.sources import ArrayFile, IDXFolder, TextTable
from mfnet.data.sources.records import Records
from mfnet.setup.errors import InvalidSettingError, SettingError

PLAIN = "width,height,y\n1.5,2.25,ä\n-3.0,40.0,b\n0.25,6.5,ä\n7.0,8.0,b\n"
VALUES = [[1.5, 2.25], [-3.0, 40.0], [0.25, 6.5], [7.0, 8.0]]
CLASSES = ["ä", "b", "ä", "b"]


def table(path, content, name="data.csv", label="y", **settings):
    (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return TextTable(str(path / name), label, **settings)


def inputs(records):
    return records.rows(np.arange(len(records.classes)))


def edited(**settings):
    """PLAIN with other marks."""
    text = PLAIN
    for old, new in settings.pop("marks", []):
        text = text.replace(old, new)
    return text, settings


READ = {
    "a tab, found": edited(marks=[(",", "\t")]),
    "a tab as typed": edited(marks=[(",", "\t")], separator=r"\t"),
    "a tab itself": edited(marks=[(",", "\t")], separator="\t"),
    "comma and blank, found": edited(marks=[(",", ", ")]),
    "comma and blank as typed": edited(marks=[(",", ", ")], separator=", "),
    "blanks": edited(marks=[(",", " ")], separator=" "),
    "a semicolon, found": edited(marks=[(",", ";")]),
    "a semicolon beside commas in names": edited(marks=[(",", ";"), ("width", "width, cm")]),
    "decimal commas": edited(marks=[(",", ";"), (".", ",")], decimal=","),
    "decimal commas in quotation marks": edited(
        marks=[
            ("1.5,2.25", '"1,5","2,25"'),
            ("-3.0,40.0", '"-3,0",40'),
            ("0.25,6.5", '"0,25","6,5"'),
            ("7.0,8.0", "7,8"),
        ],
        decimal=",",
    ),
    "quotation marks": edited(marks=[("width", '"width"'), ("1.5", '"1.5"'), ("ä", '"ä"')]),
    "lines of Windows": edited(marks=[("\n", "\r\n")]),
    "blanks around the label": edited(marks=[("y\n", " y \n"), ("b\n", "b \n")]),
    "an empty column without a name": edited(marks=[("\n", ",\n")]),
    "an excluded column twice": edited(
        marks=[("y\n", "y,id,id\n"), ("ä\n", "ä,1,2\n"), ("b\n", "b,3,4\n")], exclude=["id"]
    ),
}


@pytest.mark.parametrize("name", READ)
def test_a_table_is_read_however_it_is_divided(name, tmp_path, capsys):
    content, settings = READ[name]
    records = table(tmp_path, content, **settings).read()
    np.testing.assert_array_equal(inputs(records), VALUES)
    assert records.classes.tolist() == CLASSES
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "name", "settings"),
    [
        (PLAIN.encode("utf-8-sig"), "data.csv", {}),
        (PLAIN.encode("utf-16"), "data.csv", {"encoding": "utf-16"}),
        (PLAIN.encode("utf-16-le"), "data.csv", {"encoding": "utf-16-le"}),
        (PLAIN.encode("latin-1"), "data.csv", {"encoding": "latin-1"}),
        (gzip.compress(PLAIN.encode()), "data.csv.gz", {}),
        (gzip.compress(PLAIN.encode()), "data.csv", {}),
        (PLAIN.replace(",", "\t").encode(), "data.tsv", {}),
    ],
    ids=["utf-8 with a mark", "utf-16", "utf-16-le", "latin-1", "gzip by its name", "gzip", "tsv"],
)
def test_a_table_is_read_however_it_is_stored(content, name, settings, tmp_path):
    records = table(tmp_path, content, name, label="y", **settings).read()
    np.testing.assert_array_equal(inputs(records), VALUES)
    assert (records.columns, records.classes.tolist()) == (["width", "height"], CLASSES)


def numbered(numbers, *names):
    """PLAIN with leading columns of numbers."""
    lines = [",".join(names), *(",".join([str(number)] * len(names)) for number in numbers)]
    return "".join(f"{number},{line}\n" for number, line in zip(lines, PLAIN.splitlines(), strict=True))


@pytest.mark.parametrize("numbers", [[0, 1, 2, 3], [1, 2, 3, 4], [7, 3, 12, 0]], ids=["pandas", "R", "shuffled"])
@pytest.mark.parametrize("names", [("",), ("", "Unnamed: 0"), ("Unnamed: 0.1", "Unnamed: 0"), ('""',)], ids=str)
def test_numbers_of_rows_are_no_inputs_and_that_is_said(names, numbers, tmp_path, capsys):
    records = table(tmp_path, numbered(numbers, *names)).read()
    np.testing.assert_array_equal(inputs(records), VALUES)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(names)
    assert all(line.startswith("mfnet: ") and "numbers the rows, and is left out" in line for line in said)


@pytest.mark.parametrize("numbers", [[0, 1, 2, 3], [1, 2, 3, 4]], ids=["from 0", "from 1"])
def test_numbers_of_rows_with_a_name_are_inputs_and_that_is_said(numbers, tmp_path, capsys):
    records = table(tmp_path, numbered(numbers, "my id")).read()
    np.testing.assert_array_equal(inputs(records)[:, 0], numbers)
    assert "column 'my id' numbers the rows, and is an input" in (said := capsys.readouterr().err)
    assert "'data.source.exclude=[my id]'" in said
    assert said.count("\n") == 1
    table(tmp_path, numbered(numbers, "my id"), exclude=["my id"]).read()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("numbers", [[1, 1, 2, 3], [1.5, 2.5, 3.5, 4.5], [-1, 0, 1, 2]], ids=str)
def test_a_column_without_a_name_that_is_no_number_of_rows_stays(numbers, tmp_path, capsys):
    records = table(tmp_path, numbered(numbers, "")).read()
    np.testing.assert_array_equal(inputs(records)[:, 0], numbers)
    assert capsys.readouterr().err == ""


def test_a_note_is_said_once(tmp_path, capsys):
    source = table(tmp_path, numbered([0, 1, 2, 3], ""))
    source.read()
    source.read()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("nothing", ["", "?", " ? ", "NA", "NaN", "null", "n/a"])
def test_rows_without_a_value_are_refused_or_left_out_and_that_is_said(nothing, tmp_path, capsys):
    text = PLAIN.replace("40.0", nothing).replace("7.0", nothing) + "2,3,\n4,5,b\n6,7,ä\n"
    with pytest.raises(SettingError) as told:
        table(tmp_path, text).read()
    for part in ("3 of 7 rows", "column 'width' (1, first in line 5)", "column 'height' (1, first in line 3)"):
        assert part in str(told.value)
    assert "column 'y' (1, first in line 6)" in str(told.value)
    assert "data.source.missing=drop, or columns: 'data.source.exclude=[width,height]'" in str(told.value)
    records = table(tmp_path, text, missing="drop").read()
    np.testing.assert_array_equal(inputs(records), [VALUES[0], VALUES[2], [4.0, 5.0], [6.0, 7.0]])
    assert records.classes.tolist() == ["ä", "ä", "b", "ä"]
    assert capsys.readouterr().err.endswith("3 of 7 rows have nothing in some column, and are left out\n")


def test_values_that_lack_in_columns_that_are_not_used_do_not_count(tmp_path):
    records = table(tmp_path, PLAIN.replace("40.0", ""), exclude=["height"]).read()
    assert len(records.classes) == 4


REFUSED = {
    "decimal commas": (edited(marks=[(",", ";"), (".", ",")]), r"'1,5' in line 2.*'data.source.decimal=\",\"'"),
    "decimal points": (edited(marks=[(",", ";")], decimal=","), r"'1.5' in line 2, .*: data.source.decimal=\.;"),
    "thousands": (edited(marks=[("40.0", '"4,000.0"')]), "'4,000.0' in line 3, .*thousands must be taken out"),
    "latin-1": (
        (PLAIN.encode("latin-1"), {}),
        r"data\.csv: is no text in utf-8 .* use data.source.encoding=latin-1 or",
    ),
    "utf-16": ((PLAIN.encode("utf-16"), {}), "use data.source.encoding=utf-16$"),
    "utf-16 without a mark": (
        (PLAIN.replace("ä", "a").encode("utf-16-le"), {}),
        "use data.source.encoding=utf-16-le or utf-16-be$",
    ),
    "utf-16 that is not marked": ((PLAIN.encode("utf-16-le"), {"encoding": "utf-16"}), "is no text in utf-16"),
    "a workbook": ((b"PK\3\4" + bytes(range(256)), {}), "is a workbook or an archive.*save the table as CSV"),
    "no such encoding": ((PLAIN, {"encoding": "utf-99"}), "cannot be read as a table: unknown encoding"),
    "another separator": (edited(separator="|"), r"the columns width,height,y; see data.source.separator$"),
    "no names": (
        (PLAIN.split("\n", 1)[1], {}),
        "data.source.label=y: the first line of .* has the columns 1.5, 2.25, ä",
    ),
    "row names of R": (
        edited(marks=[("\n1.5", "\n1,1.5"), ("\n-3", "\n2,-3"), ("\n0.", "\n3,0."), ("\n7", "\n4,7")]),
        "its rows have more values than its first line has names",
    ),
    "quotation marks over two lines": (
        edited(marks=[("2.25,ä", '2.25,"ä'), ("40.0,b", '40.0,b"')]),
        "line break in the class in line 2",
    ),
    "two inputs of one name": (edited(marks=[("width", "height")]), "has two columns 'height'; rename one"),
    "two labels": (edited(marks=[("height", "y")]), "data.source.label=y: .* has 2 such columns"),
    "text": (
        edited(marks=[("2.25", "red"), ("40.0", "blue"), ("6.5", "red"), ("8.0", "?")]),
        r"text in column 'height' \('red' in line 2\); leave it out: 'data.source.exclude=\[height\]'.*get_dummies",
    ),
    "text in several": (
        edited(marks=[("y\n", "y,my kind,é\n"), ("ä\n", "ä,u,v\n"), ("b\n", "b,w,x\n")]),
        r"text in columns 'my kind', 'é' .*exclude=\[\"my kind\",\"é\"\]'",
    ),
    "a word among numbers": (edited(marks=[("40.0", "tall")]), "'tall' in line 3, column 'height', is not a finite"),
    "infinite": (
        edited(marks=[("40.0", "-inf")], missing="drop"),
        "'-inf' in line 3, column 'height', is not a finite",
    ),
    "nothing left": (
        edited(marks=[("2.25", ""), ("40.0", ""), ("6.5", ""), ("8.0", "")], missing="drop"),
        "4 of 4 rows have nothing in some column; leave out columns",
    ),
    "open quotation marks": (edited(marks=[("8.0,b", '8.0,"b')]), "cannot be read as a table: .*EOF inside string"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_is_refused_in_one_line(name, tmp_path):
    (content, settings), expected = REFUSED[name]
    with pytest.raises(SettingError, match=expected) as told:
        table(tmp_path, content, **settings).read()
    assert "\n" not in str(told.value)


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(InvalidSettingError, match="is a folder; name a file"):
        TextTable(str(tmp_path), "y").read()


def test_names_and_cells_that_are_long_are_told_in_short(tmp_path):
    wide = ",".join(f"c{i}" for i in range(20_000))
    for content in (f"{wide}\n", PLAIN.replace("40.0", "w" * 10**6), PLAIN.replace("ä", "w" * 10**6)):
        task = BinaryTask(table(tmp_path, content), Preparation(), 0, np.zeros(1), positive=["c"])
        with pytest.raises(SettingError) as told:
            task.draw()
        assert len(str(told.value)) < 1000


@pytest.mark.parametrize(
    ("classes", "given", "expected"),
    [
        (["TRUE", "FALSE"], True, "TRUE"),
        (["True", "False"], False, "False"),
        (["yes", "no"], "yes", "yes"),
        (["yes", "no"], True, "yes"),
        (["1_1", "2_2"], 11, "1_1"),
        (["1.0", "2.0"], 1, "1.0"),
        (["1.50", "2"], 1.5, "1.50"),
        (["1e3", "2"], 1000.0, "1e3"),
        (["01", "02"], "01", "01"),
        (["nan", "b"], float("nan"), "nan"),
        (["NULL", "b"], None, "NULL"),
        ([">50K", "<=50K"], ">50K", ">50K"),
        ([";", ":"], ";", ";"),
        (["9007199254740993", "9007199254740992"], 9007199254740993, "9007199254740993"),
        (["1", "true"], True, "true"),
        (["1", "true"], 1, "1"),
    ],
)
def test_a_class_is_found_by_what_its_text_has_become(classes, given, expected):
    records = Records((np.zeros((2, 2)),), np.array(classes), "drawn")
    (other,) = set(classes) - {expected}
    assert choose_classes(records, [given], None) == ((expected,), (other,))
    assert choose_classes(records, [other], [given]) == ((other,), (expected,))


@pytest.mark.parametrize(("classes", "given"), [(["11", "1_1"], 11), (["1", "1.0"], 1), (["TRUE", "true"], True)])
def test_a_class_that_may_be_two_is_asked_for_in_quotation_marks(classes, given):
    records = Records((np.zeros((2, 2)),), np.array(classes), "drawn")
    with pytest.raises(InvalidSettingError, match=rf"quote the text: 'data.positive=\[\"{classes[0]}\"\]' or "):
        choose_classes(records, [given], None)
    assert choose_classes(records, [classes[1]], None)[0] == (classes[1],)


def test_true_is_not_one(tmp_path):
    """Two tasks that differ in that alone are drawn apart."""
    source = table(tmp_path, "a,b,y\n" + "1,2,1\n3,5,true\n4,4,true\n2,1,1\n0,3,true\n3,3,true\n" * 2)
    n_positive = [
        int((BinaryTask(source, Preparation(), 0, np.zeros(1), positive=[given]).draw().train.y > 0).sum())
        for given in (1, True)
    ]
    assert n_positive == [3, 6]


@pytest.mark.parametrize("given", [2, 2.0, "2"])
def test_columns_are_found_by_what_their_text_has_become(given, tmp_path):
    text = PLAIN.replace("width,height,y", "0,1,2")
    assert table(tmp_path, text, label=given).read().columns == ["0", "1"]
    assert table(tmp_path, text, label="1", exclude=[given]).read().n_columns == 1


X, Y = np.arange(24.0).reshape(8, 3), np.array([1, 0, 0, 1, 1, 0, 1, 0])


@pytest.mark.parametrize("folder", [False, True], ids=["npz", "npy"])
@pytest.mark.parametrize(
    ("names", "y"),
    [
        ("xy", Y),
        ("XY", Y),
        ("Xy", Y),
        ("xy", Y[:, None]),
        ("xy", np.array(["no", "yes"])[Y][:, None]),
        ("xy", np.eye(2)[Y]),
        ("xy", np.eye(2, dtype=bool)[Y]),
        ("xy", np.eye(3, dtype=np.int8)[Y]),
    ],
)
def test_arrays_are_read_in_the_shapes_that_they_have(folder, names, y, tmp_path):
    arrays = {names[0]: X, names[1]: y}
    if folder:
        for name, values in arrays.items():
            np.save(tmp_path / f"{name}.npy", values)
    else:
        np.savez(tmp_path / "data.npz", **arrays)
    records = ArrayFile(str(tmp_path if folder else tmp_path / "data.npz")).read()
    np.testing.assert_array_equal(inputs(records), X)
    expected = np.array(["no", "yes"])[Y] if y.dtype.kind == "U" else Y.astype(str)
    assert records.classes.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "y", [X[:, :2], np.ones((8, 2)), np.zeros((8, 2)), Y[:, None, None], np.full((8, 2), "1")], ids=range(5)
)
def test_other_shapes_of_labels_are_refused(y, tmp_path):
    np.savez(tmp_path / "data.npz", x=X, y=y)
    with pytest.raises(SettingError, match=r"y has shape \(8, .*not labels \(n,\) or \(n, 1\)"):
        ArrayFile(str(tmp_path / "data.npz")).read()


def test_an_array_that_may_be_two_is_asked_for(tmp_path):
    np.savez(tmp_path / "data.npz", inputs=X, INPUTS=X, y=Y)
    with pytest.raises(InvalidSettingError, match=r"data\.source\.x=Inputs: .* has inputs, INPUTS, y"):
        ArrayFile(str(tmp_path / "data.npz"), "Inputs").read()
    assert len(ArrayFile(str(tmp_path / "data.npz"), "INPUTS").read().classes) == 8


def idx_files(path, *prefixes, test="test", suffix=".gz"):
    """Sets of two images, whose pixels all are the number of the set."""
    for number, prefix in enumerate(prefixes):
        for part in ("train", test):
            for kind, header in (
                ("images-idx3", [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2]),
                ("labels-idx1", [0, 0, 8, 1, 0, 0, 0, 2]),
            ):
                content = bytes([*header, *([number] * 8 if kind[0] == "i" else [0, 1])])
                stored = gzip.compress(content) if suffix else content
                (path / f"{prefix}{part}-{kind}-ubyte{suffix}").write_bytes(stored)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("test", ["t10k", "test"])
@pytest.mark.parametrize("prefix", ["", "emnist-letters-"])
def test_idx_files_are_found_by_the_names_of_emnist_too(prefix, test, suffix, tmp_path):
    idx_files(tmp_path, prefix, test=test, suffix=suffix)
    records = IDXFolder(str(tmp_path)).read()
    assert (len(records.classes), records.n_train, records.n_columns) == (4, 2, 4)


def test_one_of_several_sets_of_idx_files_is_chosen(tmp_path):
    idx_files(tmp_path, "emnist-digits-", "emnist-letters-")
    for prefix in ("emnist-letters", "emnist-letters-"):
        assert inputs(IDXFolder(str(tmp_path), prefix).read()).tolist() == [[1.0] * 4] * 4
    for given, shown in ((None, "null"), ("emnist", "emnist")):
        expected = f"data.source.prefix={shown}: must be .* has emnist-digits-, emnist-letters-"
        with pytest.raises(InvalidSettingError, match=expected):
            IDXFolder(str(tmp_path), given).read()
    (tmp_path / "emnist-letters-test-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InvalidSettingError, match="has no file t10k-labels"):
        IDXFolder(str(tmp_path), "emnist-letters").read()


def as_table(path, x):
    (path / "data.csv").write_text(
        "a,b,c,y\n" + "".join(f"{','.join(map(str, row))},{y}\n" for row, y in zip(x, Y, strict=True))
    )
    return TextTable(str(path / "data.csv"), "y")


def as_npz(path, x):
    np.savez(path / "data.npz", x=x, y=Y)
    return ArrayFile(str(path / "data.npz"))


def as_npy(path, x):
    np.save(path / "x.npy", x)
    np.save(path / "y.npy", Y)
    return ArrayFile(str(path))


def as_idx(path, x):
    idx_files(path, "", suffix="")
    content = bytes([0, 0, 8, 2, 0, 0, 0, 8, 0, 0, 0, 3]) + x.astype(np.uint8).tobytes()
    labels = bytes([0, 0, 8, 1, 0, 0, 0, 8]) + Y.astype(np.uint8).tobytes()
    for part in ("train", "test"):
        (path / f"{part}-images-idx3-ubyte").write_bytes(content)
        (path / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    return IDXFolder(str(path))


@pytest.mark.parametrize("write", [as_table, as_npz, as_npy, as_idx])
def test_a_file_that_has_changed_is_read_again(write, tmp_path):
    """Within a process, too, where the latest task is kept."""
    preparation = Preparation(scale="none", centre=False)
    for number, x in enumerate((X, X[::-1] + 1.0)):
        source = write(tmp_path, x)
        for path in tmp_path.iterdir():
            os.utime(path, ns=(number, number))
        task = BinaryTask(source, preparation, 0, np.zeros(1)).draw()
        given = np.concatenate([task.train.x.numpy(), task.test.x.numpy()])
        assert set(map(tuple, given)) == set(map(tuple, x))
