"""The visual channels of a sweep's settings: which setting gets which, and that no two groups look alike."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from mfnet.figures.channels import MARKERS, MOST_NAMED, MOST_PANELS, Channels, Looks
from mfnet.figures.sweeps import draw_against_setting, draw_against_time


def grid(**values):
    """A row a combination of values."""
    return pd.DataFrame(itertools.product(*values.values()), columns=list(values))


FEW, MANY = [0.1, 1.0], [0.1, 0.2, 0.5, 1.0, 2.0]

CASES = [
    ({}, (), None, None),
    ({"alpha": FEW}, ("alpha",), None, None),
    ({"alpha": FEW, "d": [5]}, ("alpha",), None, None),
    ({"M": [10, 20], "alpha": FEW, "d": [5, 6]}, ("M",), "alpha", "d"),
    ({"M": [10, 20], "alpha": MANY}, ("alpha",), None, "M"),
    ({"M": [10, 20], "alpha": MANY, "data.flip": [0.0, 0.1]}, ("alpha",), "data.flip", "M"),
    ({"loss.name": ["hinge", "square", "logistic"], "alpha": FEW}, ("alpha",), "loss.name", None),
    ({"loss.name": ["hinge", "square"], "flow": ["Euler", "Heun", "SGD"]}, ("flow",), "loss.name", None),
    ({"alpha": range(30), "M": range(10, 20)}, ("alpha", "M"), None, None),
    ({"flow.dt": [None, 0.1], "loss.name": ["hinge", "square", "logistic"]}, ("loss.name",), "flow.dt", None),
]


@pytest.mark.parametrize(("values", "colour", "marker", "panel"), CASES, ids=lambda value: "")
def test_each_setting_has_a_channel(values, colour, marker, panel):
    assert Channels.of(grid(**values) if values else pd.DataFrame(index=[0])) == Channels(colour, marker, panel)


@pytest.mark.parametrize("seed", range(20))
def test_no_two_groups_look_alike(seed):
    """Any numbers and texts, up to as many groups as there are colours; also where some combinations are missing."""
    rng = np.random.default_rng(seed)
    kinds = [lambda n: list(range(n)), lambda n: [f"name{i}" for i in range(n)], lambda n: [None, *range(1, n)]]
    values = {f"s{i}": kinds[rng.integers(3)](int(rng.integers(1, 5))) for i in range(rng.integers(1, 6))}
    groups = grid(**values)
    groups = groups[rng.random(len(groups)) < 0.8].reset_index(drop=True).head(60)
    looks = Looks(groups)
    left = groups[list(looks.channels.colour)].drop_duplicates() if looks.channels.colour else []
    seen = {
        (tuple(np.round(c, 6)), m, p) for c, m, p in zip(looks.colours, looks.markers, looks.panels, strict=True)
    }  # fmt: skip
    if len(left) <= 20:
        assert len(seen) == len(groups)
    assert len({*looks.panels}) <= MOST_PANELS
    assert {*looks.markers} <= {*MARKERS, None}
    if looks.bar is None:
        assert len(looks.named_colours()) == len(left)
    else:
        assert len(left) > MOST_NAMED


def table(groups, t=(0.0, 0.1, 1.0, 10.0)):
    """Curves of these groups, whose theory is a tenth above."""
    rows = groups.loc[groups.index.repeat(len(t))].reset_index(drop=True)
    rows["t"] = np.tile(t, len(groups))
    rows["gamma_network_mean"] = rows["gamma_mean"] = 0.5 + rows["t"]
    rows["gamma_network_se"] = rows["gamma_se"] = np.nan
    rows["gamma_theory_mean"] = 1.1 * rows["gamma_network_mean"]
    return rows


def test_the_legend_says_what_each_look_is(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("mfnet.figures.style.Drawn.savefig", lambda figure, path: figures.append(figure))
    curves = table(grid(M=[10, 20], alpha=MANY, **{"data.flip": [0.0, 0.1]}))
    draw_against_time(curves, ["M", "alpha", "data.flip"], "gamma", tmp_path / "a.png")
    finals = curves[curves["t"] == 10.0].reset_index(drop=True)
    draw_against_setting(finals, ["M", "alpha", "data.flip"], "gamma", "alpha", tmp_path / "b.png")
    time, setting = ([text.get_text() for text in figure.legends[0].get_texts()] for figure in figures)
    flips = [r"flip $\epsilon$ = 0", r"flip $\epsilon$ = 0.1"]
    assert time == ["network", "theory", *(rf"$\alpha$ = {alpha:g}" for alpha in MANY), *flips]
    assert [axes.get_title() for axes in figures[0].axes] == ["$M$ = 10", "$M$ = 20"]
    assert setting == ["network", "theory", "$M$ = 10", "$M$ = 20", *flips]
    assert len(figures[1].axes) == 1
    for axes in figures[0].axes:
        assert sum(len(lines.get_paths()) for lines in axes.collections if lines.get_paths()) > 20
