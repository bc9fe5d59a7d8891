"""What a theory of one's own may return, and what is said of anything else."""

from __future__ import annotations

import numpy as np
import pytest

from mfnet.theory import (
    Curve,
    MeanField,
    Nodes,
    Theory,
    checked_nodes,
    checked_satisfaction,
    checked_series,
)

T = np.array([0.0, 1.0, 2.0])
NODES = (np.zeros(4), np.ones(4), np.ones(4))


class Own(Theory):
    """Returns what it is given."""

    def __init__(self, found):
        self.found = found

    def series(self, t):
        return self.found

    def nodes(self, t, a0, w_par0, w_perp0):
        return self.found

    def satisfaction(self, t):
        return self.found


def test_what_the_package_returns_is_as_it_was():
    model = MeanField(5)
    found = checked_series(model, T)
    for name, curve in model.series(T).items():
        np.testing.assert_array_equal(found[name].value, curve.value)
    np.testing.assert_array_equal(checked_nodes(model, T, *NODES).a, model.nodes(T, *NODES).a)
    np.testing.assert_array_equal(checked_satisfaction(model, T).value, model.satisfaction(T).value)
    assert checked_series(Theory(), T) == {}
    assert checked_nodes(Theory(), T, *NODES) is None
    assert checked_satisfaction(Theory(), T) is None


def test_plain_arrays_are_curves_without_a_band():
    found = checked_series(Own({"gamma": np.array([1, 2, 3]), "mine": Curve(T, T - 1.0, T + 1.0)}), T)
    assert found["gamma"].value.dtype == float
    assert found["gamma"].lower is None
    np.testing.assert_array_equal(found["gamma"].value, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(found["mine"].upper, T + 1.0)
    np.testing.assert_array_equal(checked_satisfaction(Own(T), T).value, T)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "Own.series must be a mapping of names to Curves, and is of type NoneType"),
        (T, "Own.series must be a mapping of names to Curves, and is of type ndarray"),
        ({1: T}, "Own.series must have names for keys, and has 1"),
        ({"gamma": 2.0}, "Own.series: 'gamma' must be an array of real numbers, and is of type float"),
        ({"gamma": [0.0, 1.0, 2.0]}, "Own.series: 'gamma' must be an array of real numbers, and is of type list"),
        (
            {"gamma": np.array(["a"] * 3)},
            "Own.series: 'gamma' must be an array of real numbers, and is an array of <U1",
        ),
        ({"gamma": T[:2]}, "Own.series: 'gamma' has the shape (2,), and must have (3,)"),
        ({"gamma": Curve(T[:, None])}, "Own.series: 'gamma' has the shape (3, 1), and must have (3,)"),
        (
            {"gamma": Curve(T), "loss": Curve(T, T, T[:1])},
            "Own.series: 'loss', upper edge of the band has the shape (1,), and must have (3,)",
        ),
        (
            {"loss": Curve(T, np.zeros((3, 3)), T)},
            "Own.series: 'loss', lower edge of the band has the shape (3, 3), and must have (3,)",
        ),
    ],
)
def test_series_of_a_wrong_shape(found, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared
        checked_series(Own(found), T)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (np.zeros((3, 4)), "Own.nodes must be Nodes or None, and is of type ndarray"),
        (
            Nodes(np.zeros((3, 4)), np.zeros((4, 3)), np.zeros((3, 4))),
            "Own.nodes: 'w_par' has the shape (4, 3), and must have (3, 4)",
        ),
        (
            Nodes(np.zeros((3, 4)), np.zeros((3, 4)), np.zeros(4)),
            "Own.nodes: 'w_perp' has the shape (4,), and must have (3, 4)",
        ),
    ],
)
def test_nodes_of_a_wrong_shape(found, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared
        checked_nodes(Own(found), T, *NODES)
    assert str(error.value) == message


def test_satisfaction_of_a_wrong_shape():
    with pytest.raises(ValueError, match=r"Own.satisfaction has the shape \(2,\), and must have \(3,\)"):
        checked_satisfaction(Own(Curve(T[:2])), T)
