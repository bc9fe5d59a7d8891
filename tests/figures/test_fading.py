"""Theory curves are full while they are trustworthy, and faded from then on: drawn from the summary alone."""

from __future__ import annotations

import numpy as np
import pytest

from mfnet.figures import FIGURES, style
from mfnet.record.contents import Contents

T = np.array([0.0, 1.0, 2.0, 4.0, 8.0, 16.0])


def contents(until, **entry):
    """A run with one theory, whose trust ends as given; None says nothing of it."""
    falling = np.exp(-T / 4.0)
    columns = {"k": np.arange(6.0), "t": T}
    for name in ("unsatisfied", "train_error", "test_error", "gamma", "own"):
        columns |= {f"{name}_network": falling, f"{name}_theory": 0.9 * falling}
    columns |= {"gamma_theory_lo": 0.8 * falling, "gamma_theory_hi": falling}
    nodes = {"t": T, **{name: np.outer(T, [1.0, 2.0]) for name in ("a", "w_par", "a_theory", "w_par_theory")}}
    examples = {"t": T[1:], "x_par": np.array([0.5, 1.0]), "t_sat": np.array([4.0, 2.0]), "x_theory": 4.0 / T[1:]}
    laid = {"theory": {"theory": "finite_width", **({"trusted_until": until} if until else {}), **entry}}
    summary = {"series": ["unsatisfied", "test_error", "gamma", "own"], "theories": ["theory"], "overlaid": laid}
    return Contents(columns, {"nodes": nodes, "examples": examples}, summary)


def curves(figure, colour, panel):
    """(times, opacity) of the lines of a colour in a panel that have more than a legend's point."""
    lines = [line for line in figure.axes[panel].lines if line.get_color() == colour and len(line.get_xdata()) > 1]
    return [(line.get_xdata().tolist(), line.get_alpha()) for line in lines if line.get_linestyle() != "None"]


@pytest.mark.parametrize(
    ("name", "panel", "colour"), [("errors", 0, style.THEORY), ("fig1", 2, style.THEORY), ("curves", 0, style.THEORY)]
)
def test_a_curve_fades_where_its_trust_ends(name, panel, colour):
    """Both pieces meet at the last time that is trusted."""
    figure = FIGURES[name](contents({"errors": 5.0, "others": 5.0, "nodes": 5.0}))
    assert curves(figure, colour, panel)[:2] == [([0.0, 1.0, 2.0, 4.0], None), ([4.0, 8.0, 16.0], style.FADED)]


def test_each_kind_of_prediction_has_its_own_end():
    figure = FIGURES["errors"](contents({"errors": 2.0, "others": None, "nodes": 1.0}))
    assert curves(figure, style.NETWORK, 0) == [(T.tolist(), None)]  # the unsatisfied fraction, to the end
    assert curves(figure, style.THEORY, 0)[1] == ([2.0, 4.0, 8.0, 16.0], style.FADED)
    assert "beyond its trust" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    figure = FIGURES["fig1"](contents({"errors": 2.0, "others": None, "nodes": 3.0}))
    assert curves(figure, style.THEORY, 3)[1] == ([2.0, 4.0, 8.0, 16.0], style.FADED)


def test_what_is_never_trusted_is_faded_throughout():
    figure = FIGURES["errors"](contents({"errors": 0.0, "others": 0.0, "nodes": 0.0}))
    assert (T.tolist(), style.FADED) in curves(figure, style.THEORY, 0)


def test_where_nothing_is_known_no_curve_is_faded():
    figure = FIGURES["errors"](contents(None))
    assert curves(figure, style.THEORY, 0) == [(T.tolist(), None)]
    assert "beyond its trust" not in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_the_legend_names_the_theory_that_was_chosen():
    figure = FIGURES["errors"](contents(None, because="it is cheap"))
    assert "theory (finite width)" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
