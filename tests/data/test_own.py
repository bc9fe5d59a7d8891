"""Data of one's own: what a class or a function draws becomes a task, or is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mfnet
from mfnet.data import Examples, GaussianMixture, ObservedData, OwnData, ReplicatedData, SphericalData, Task
from mfnet.data.mapped import in_file, is_mapped
from mfnet.setup.errors import SettingError

NO_TIMES = np.zeros(1)


class Given(ObservedData):
    """What a test gives."""

    def __init__(self, drawn, schedule=NO_TIMES):
        super().__init__(schedule)
        self.drawn = drawn

    def draw(self):
        return self.drawn


def arrays(N=30, d=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N + 10, d))
    y = np.where(x[:, 0] > 0.0, 1.0, -1.0)
    return (x[:N], y[:N]), (x[N:], y[N:])


def replaced(part, which, values):
    """The arrays with one of them replaced."""
    drawn = [list(each) for each in arrays()]
    drawn[part][which] = values
    return drawn


def test_a_task_of_tensors_in_float64_is_left_as_it_is():
    direction = torch.eye(4, dtype=torch.float64)[0]
    train, test = (Examples(*map(torch.from_numpy, part)) for part in arrays())
    task = Given(Task(train, test, direction)).read()
    found = (*task.train, *task.test, task.direction)
    for mine, theirs in zip(found, (*train, *test, direction), strict=True):
        assert mine.data_ptr() == theirs.data_ptr()


@pytest.mark.parametrize("kind", ["float32", "float64", "int64", ">f4", "list"])
def test_arrays_of_any_type_and_order_become_float64(kind):
    (x, y), (x_test, y_test) = arrays()
    x = np.round(10.0 * x)
    give = (lambda values: values.tolist()) if kind == "list" else (lambda values: values.astype(kind))
    task = Given(((give(x)[::-1], give(y)[::-1]), (give(x_test), give(y_test)))).read()
    assert task.train.x.dtype is task.train.y.dtype is task.direction.dtype is torch.float64
    np.testing.assert_array_equal(task.train.x.numpy(), x[::-1])
    np.testing.assert_array_equal(task.train.y.numpy(), y[::-1])


@pytest.mark.parametrize("more", [(), (None,)])
def test_without_a_direction_it_is_that_of_the_mean_of_yx(more):
    (x, y), test = arrays()
    mean = y @ x / len(y)
    task = Given(((x, y), test, *more)).read()
    np.testing.assert_allclose(task.direction.numpy(), mean / np.linalg.norm(mean), rtol=1e-14)


def test_tensors_elsewhere_and_with_gradients_are_taken():
    (x, y), (x_test, y_test) = arrays()
    x = torch.tensor(x, dtype=torch.float32, requires_grad=True)
    task = Given(((x, torch.from_numpy(y)), (torch.from_numpy(x_test), torch.from_numpy(y_test).int()))).read()
    assert not task.train.x.requires_grad
    assert torch.equal(task.train.x, x.detach().double())


def infinite():
    (x, _), _ = arrays()
    x[3, 1] = np.inf
    return x


@pytest.mark.parametrize(
    ("drawn", "words"),
    [
        (None, "gives NoneType, and must give"),
        (np.zeros((3, 4)), r"gives one ndarray of shape \(3, 4\), and must give"),
        (arrays()[0] * 2, r"4 things"),
        ((np.zeros((3, 4)), arrays()[1]), r"the training set is one ndarray of shape \(3, 4\), and must be a pair"),
        (replaced(0, 0, np.zeros(30)), r"training inputs have the shape \(30,\), and must have \(N, d\)"),
        (replaced(0, 0, np.zeros((0, 4))), r"training inputs have the shape \(0, 4\)"),
        (replaced(1, 0, np.zeros((10, 5))), r"test inputs have the shape \(10, 5\), and must have \(N, 4\)"),
        (replaced(0, 1, np.ones((30, 1))), r"training labels have the shape \(30, 1\), and must have \(30,\)"),
        (replaced(1, 1, np.ones(7)), r"test labels have the shape \(7,\), and must have \(10,\)"),
        (replaced(1, 1, np.arange(10) % 2), "test labels must be −1 or 1, and there are 0, 1$"),
        (replaced(0, 1, np.arange(30.0)), "there are 0, 1, 2, 3, 4, …"),
        (replaced(0, 1, np.array(["cat"] * 30)), "training labels cannot be read as numbers"),
        (
            replaced(0, 0, np.ones((30, 4), dtype=complex)),
            "training inputs cannot be read as numbers: they are complex",
        ),
        (replaced(0, 0, infinite()), "training inputs must be finite"),
        (replaced(0, 1, np.array([np.nan, 1.0] * 15)), "labels must be −1 or 1"),
        (replaced(0, 0, np.ones((30, 4)) - 1.0), "mean of y·x is zero"),
        ((*arrays(), np.ones(5)), r"the reference direction has the shape \(5,\), and must have \(4,\)"),
        ((*arrays(), np.ones(4)), "has the length 2, and must be a unit vector"),
        ((*arrays(), np.full(4, np.nan)), "has the length nan"),
    ],
)
def test_what_is_no_task_is_refused_in_one_line(drawn, words):
    with pytest.raises(SettingError, match=words) as refusal:
        Given(drawn).setup("fit")
    assert str(refusal.value).startswith("data ")
    assert "Given" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_mapped_inputs_stay_where_they_are(monkeypatch):
    """Those of the package, and a file that numpy has mapped; they are looked at in parts."""
    (x, y), test = arrays()
    mapped = in_file([torch.from_numpy(x)], (30, 4), torch.float64)
    monkeypatch.setattr("mfnet.data.task.PART", 8)
    looked = []
    isfinite = torch.Tensor.isfinite
    monkeypatch.setattr(torch.Tensor, "isfinite", lambda values: looked.append(values.numel()) or isfinite(values))
    task = Given(((mapped, y), test)).read()
    assert task.train.x.data_ptr() == mapped.data_ptr()
    assert max(looked) == 8
    assert sum(looked) == 160


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_file_that_numpy_has_mapped_stays_mapped(dtype, tmp_path, monkeypatch):
    (x, y), test = arrays()
    np.save(tmp_path / "x.npy", x.astype(dtype))
    monkeypatch.setattr("mfnet.data.task.PART", 8)
    found = np.load(tmp_path / "x.npy", mmap_mode="r")
    task = Given(((found, y), test)).read()
    np.testing.assert_array_equal(task.train.x.numpy(), x.astype(dtype))
    if dtype is np.float64:
        assert task.train.x.data_ptr() == found.ctypes.data
    else:
        assert is_mapped(task.train.x)


def test_replicas_need_sets_of_one_size():
    ReplicatedData([Given(arrays(seed=seed)) for seed in range(2)]).setup("fit")
    with pytest.raises(SettingError, match=r"one shape, .* \(30, 4\) and \(10, 4\), \(31, 4\) and \(10, 4\)"):
        ReplicatedData([Given(arrays(N)) for N in (30, 31)]).setup("fit")
    with pytest.raises(SettingError, match="gives NoneType"):
        ReplicatedData([Given(arrays()), Given(None)]).setup("fit")


def test_data_say_whether_the_theory_knows_their_law():
    class Other(SphericalData):
        def draw(self):
            return arrays()

    class Seeded(SphericalData):
        pass

    assert [kind.law_known for kind in (SphericalData, GaussianMixture, Seeded)] == [True] * 3
    assert [kind.law_known for kind in (ObservedData, Given, OwnData, Other)] == [False] * 4
    spherical = SphericalData(10, 10, 4, 0, NO_TIMES)
    assert ReplicatedData([spherical, spherical]).law_known
    assert not ReplicatedData([spherical, Given(arrays())]).law_known


class InFour(Given):
    """Of four dimensions."""

    def __init__(self, schedule):
        super().__init__(arrays(), schedule)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data": InFour}, "d=9: these data have d=4 as prepared; leave it out"),
        ({"N": 30, "data.d": 6}, "data.d=6: must be that of the run, d=9"),
    ],
)
def test_a_network_of_another_dimension_is_refused_before_training(settings, said):
    with pytest.raises(SettingError, match=said):
        mfnet.train(M=5, d=9, theory=None, logger=[], trainer__accelerator="cpu", **settings)


def seeded(seed):
    return arrays(seed=seed)


def sized(N, *, d=3):
    return arrays(N, d)


def everything(**known):
    assert known == {"N": 20, "d": 5, "seed": 3}
    return arrays(**known)


@pytest.mark.parametrize(
    ("draw", "expected"),
    [(arrays, arrays(20, 5, 3)), (seeded, arrays(seed=3)), (sized, arrays(20, 5)), (everything, arrays(20, 5, 3))],
)
def test_a_function_is_given_what_it_names(draw, expected):
    task = OwnData(draw, 3, NO_TIMES, N=20, d=5).read()
    np.testing.assert_array_equal(task.train.x.numpy(), expected[0][0])
    np.testing.assert_array_equal(task.test.y.numpy(), expected[1][1])


def test_numbers_that_are_not_known_are_the_functions_own():
    assert OwnData(sized, 3, NO_TIMES, N=20).read().train.x.shape == (20, 3)
    assert OwnData(lambda: (*arrays(), np.eye(4)[1]), 3, NO_TIMES).read().direction.tolist() == [0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (sized, "needs N, which is null"),
        (lambda seed, noise: arrays(), "needs noise, and is given N, d and seed alone"),
        (lambda seed, /: arrays(), "needs seed"),
        (lambda seed: None, "gives NoneType"),
        (lambda d: arrays(d=d + 1), "was asked for d=5, and gives d=6"),
        (dict.fromkeys, "data "),
    ],
)
def test_a_function_that_cannot_be_used_is_refused(draw, words):
    with pytest.raises(SettingError, match=words) as refusal:
        OwnData(draw, 3, NO_TIMES, d=5).read()
    assert "\n" not in str(refusal.value)
