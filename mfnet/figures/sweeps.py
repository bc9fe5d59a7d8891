"""Averages over the seeds of a sweep: a series against time, or its final value against a setting."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from mfnet.figures import style
from mfnet.record.series import GAMMA, MEAN_FORCE, SERIES, SLIDING, UNSATISFIED

#: Most groups that colours of their own tell apart; more are coloured by a number, if there is one.
MOST_NAMED = 8

#: Most groups that a legend has room for.
MOST_LINES = 12

#: Most values of a second setting that have a panel each.
MOST_PANELS = 6
PANELS_IN_A_ROW = 3

#: Series whose axis is linear however far their values are spread.
LINEAR = (GAMMA.name, UNSATISFIED.name, MEAN_FORCE, SLIDING)

_TILTED = {"rotation": 45.0, "ha": "right", "rotation_mode": "anchor"}

_SYMBOLS = {"M": "$M$", "N": "$N$", "d": "$d$", "alpha": r"$\alpha$", "h": "$h$", "data.flip": r"flip $\epsilon$"}


def draw_against_time(curves: pd.DataFrame, by: Sequence[str], series: str, path: Path) -> Path:
    """Mean curves of the groups that differ in ``by``, shaded by the standard error, with the theory beside them.

    Args:
        curves: A row a group and time: ``by``, ``t``, and ``_mean``, ``_se`` of ``SERIES_network``, ``SERIES_theory``.
        by: The settings that tell groups apart.
        series: What is drawn.
        path: The file.
    """
    curves = curves[curves["t"] > 0.0]
    numbers, groups = _groups(curves, by)
    network, theory = f"{series}_network", f"{series}_theory_mean"
    logarithmic = series not in LINEAR and _spread(curves[f"{network}_mean"])
    with _Sheet(path, groups) as sheet:
        for axes, members in sheet.divide(curves.groupby(numbers)):
            for number, group in members.items():
                t, mean, error = (group[name].to_numpy() for name in ("t", f"{network}_mean", f"{network}_se"))
                if np.isfinite(error).any():
                    lower = np.maximum(mean - error, 1e-6 * mean) if logarithmic else mean - error
                    shaded = (_shown(lower, logarithmic), mean + error)
                    axes.fill_between(t, *shaded, color=sheet.colours[number], alpha=0.25, lw=0)
            sheet.lines(axes, members, "t", f"{network}_mean", "-", 1.8, logarithmic)
            if theory in curves:
                sheet.lines(axes, members, "t", theory, "--", 1.2, logarithmic)
        for axes in sheet.axes:
            style.log_time(axes, curves["t"].min(), curves["t"].max())
            style.plain_ticks(axes.xaxis)
        if logarithmic:  # as far as the network goes: predictions go on to any smallness
            shown = curves[f"{network}_mean"]
            sheet.set_logarithmic(0.7 * shown[shown > 0.0].min(), 1.4 * shown.max())
        sheet.set_label(_label(series))
        spread = bool(curves[f"{network}_se"].notna().any())
        sheet.explain("-", "--" if theory in curves else None, spread=spread)
    return path


def draw_against_setting(finals: pd.DataFrame, by: Sequence[str], series: str, against: str, path: Path) -> Path:
    """Final values of a series against a setting, with their standard errors, and where the theory ended.

    Args:
        finals: A row a group: ``by``, and ``_mean``, ``_se`` of ``SERIES``, ``SERIES_theory``.
        by: The settings that tell groups apart, ``against`` among them.
        series: What is drawn.
        against: The setting on the horizontal axis; one that is not a number has a place for each value.
        path: The file.
    """
    numbers, groups = _groups(finals, [name for name in by if name != against])
    theory = f"{series}_theory_mean"
    numeric = _is_number(finals[against])
    places, names = (finals[against], None) if numeric else pd.factorize(finals[against].map(_value))
    logarithmic = series not in LINEAR and _spread(finals[f"{series}_mean"])
    with _Sheet(path, groups) as sheet:
        beside = 0.0 if numeric else 0.6 * ((numbers + 0.5) / len(groups) - 0.5)
        placed = finals.assign(place=places + beside).sort_values("place")
        for axes, members in sheet.divide(placed.groupby(numbers)):
            points = pd.concat(members.values())
            colours = [sheet.colours[number] for number, group in members.items() for _ in range(len(group))]
            mean, error = points[f"{series}_mean"].to_numpy(), points[f"{series}_se"].to_numpy()
            lower = np.maximum(mean - error, 1e-6 * mean) if logarithmic else mean - error
            axes.scatter(points["place"], _shown(mean, logarithmic), 28.0, facecolors="none", edgecolors=colours)
            axes.vlines(points["place"], _shown(lower, logarithmic), mean + error, colors=colours, lw=2.2)
            if theory in finals:
                predicted = _shown(points[theory].to_numpy(), logarithmic)
                own = [sheet.theory(number) for number, group in members.items() for _ in range(len(group))]
                axes.scatter(points["place"], predicted, 28.0, c=own, marker="x", linewidths=1.2)
            if numeric:
                sheet.lines(axes, members, "place", f"{series}_mean", "-", 1.0, logarithmic)
                if theory in finals:
                    sheet.lines(axes, members, "place", theory, "--", 1.0, logarithmic)
        if logarithmic:
            sheet.set_logarithmic()
        for axes in sheet.axes:
            axes.set_xlabel(_symbol(against))
            if names is not None:
                tilted: Any = _TILTED if sum(map(len, names)) > 40 else {}
                axes.set_xticks(range(len(names)), list(names), **tilted)
                axes.set_xlim(-0.5, len(names) - 0.5)
                axes.grid(visible=False, axis="x")
            else:
                if _spread(finals[against]) and (finals[against] > 0).all():
                    axes.set_xscale("log")
                if finals[against].nunique() <= MOST_NAMED:
                    values = np.unique(finals[against])
                    axes.set_xticks(values, [_value(value) for value in values])
                    axes.xaxis.minorticks_off()
        sheet.set_label(f"{_label(series)} at the end" if series in SERIES else series)
        spread = bool(finals[f"{series}_se"].notna().any())
        predicted_as = ("x--" if numeric else "x") if theory in finals else None
        sheet.explain("o-" if numeric else "o", predicted_as, spread=spread)
    return path


def _groups(table: pd.DataFrame, by: Sequence[str]) -> tuple[pd.Series, pd.DataFrame]:
    """Number of the group of each row, and what tells the groups apart."""
    if not by:
        return pd.Series(0, index=table.index), pd.DataFrame(index=[0])
    numbers = table.groupby(list(by), dropna=False, sort=False).ngroup()
    return numbers, table[list(by)].drop_duplicates(ignore_index=True)


class _Sheet:
    """A figure whose groups have colours, and panels where they are many; it is written when its block ends.

    Attributes:
        axes: The panels.
        panel: Number of the panel of each group.
        colours: Colour of each group.
    """

    def __init__(self, path: Path, groups: pd.DataFrame):
        self.groups = groups
        many = len(groups) > MOST_NAMED
        numeric = [name for name in map(str, groups) if _is_number(groups[name])]
        shade = numeric[0] if numeric and (many or len(groups.columns) == 1) else None
        few = [name for name in map(str, groups) if groups[name].nunique(dropna=False) <= MOST_PANELS and name != shade]
        self._divided = few[0] if many and few else None
        panels = groups.groupby(self._divided, dropna=False).ngroup() if self._divided else np.zeros(len(groups), int)
        self.panel = list(panels)
        self._bar: ScalarMappable | None = None
        if shade is None:
            sequence = color_sequences["tab10" if len(groups) <= 10 else "tab20"]
            self.colours: list[Any] = [sequence[i % len(sequence)] for i in range(len(groups))]
            if len(groups) == 1:
                self.colours = [style.NETWORK]
        else:
            values = groups[shade].to_numpy(np.float64)
            logarithmic = _spread(groups[shade]) and bool((values > 0.0).all())
            limits = float(values.min()), float(values.max())
            scale = ScalarMappable(LogNorm(*limits) if logarithmic else Normalize(*limits), style.SHADES)
            if many:
                self._bar, self._shade = scale, shade
            self.colours = list(scale.to_rgba(values))
        count = max(self.panel) + 1
        self._shape = math.ceil(count / PANELS_IN_A_ROW), min(count, PANELS_IN_A_ROW)
        width, height = (8.4, 5.0) if count == 1 else (3.0 + 3.6 * self._shape[1], 4.2 * self._shape[0])
        self._figure = style.figure(path, width, height)

    def theory(self, number: int) -> Any:
        """Colour of a group's prediction: its own, where there are several."""
        return self.colours[number] if len(self.colours) > 1 else style.THEORY

    def __enter__(self) -> _Sheet:
        self._drawn: Figure = self._figure.__enter__()
        grid = list(self._drawn.subplots(*self._shape, sharey=True, squeeze=False).ravel())
        self.axes: list[Axes] = grid[: max(self.panel) + 1]
        for axes in grid[len(self.axes) :]:
            axes.set_axis_off()
        if self._divided:
            for number, axes in enumerate(self.axes):
                value = self.groups[self._divided][self.panel.index(number)]
                axes.set_title(f"{_symbol(self._divided)} = {_value(value)}", fontsize=13)
        return self

    def __exit__(self, *raised: Any) -> None:
        self._figure.__exit__(*raised)

    def divide(self, grouped: Any) -> Iterator[tuple[Axes, dict[int, pd.DataFrame]]]:
        """Each panel with its groups by number."""
        members: list[dict[int, pd.DataFrame]] = [{} for _ in self.axes]
        for number, group in grouped:
            members[self.panel[number]][number] = group
        yield from zip(self.axes, members, strict=True)

    def lines(
        self,
        axes: Axes,
        members: Mapping[int, pd.DataFrame],
        x: str,
        y: str,
        look: str,
        width: float,
        logarithmic: bool,
    ) -> None:
        """A line a group, through a column of the network (solid) or of the theory (dashed)."""
        paths = [np.column_stack([group[x], _shown(group[y].to_numpy(), logarithmic)]) for group in members.values()]
        colours = [self.theory(number) if look == "--" else self.colours[number] for number in members]
        axes.add_collection(LineCollection(paths, colors=colours, linestyles=look, linewidths=width))
        axes.autoscale_view()

    def set_label(self, label: str) -> None:
        """Names the vertical axis, at the left of each row."""
        for axes in self.axes[:: self._shape[1]]:
            axes.set_ylabel(label)

    def set_logarithmic(self, *limits: float) -> None:
        """Makes the vertical axis logarithmic, between limits or as it is."""
        self.axes[0].set_yscale("log")
        self.axes[0].set_ylim(*limits)
        style.plain_ticks(self.axes[0].yaxis)

    def explain(self, network: str, theory: str | None, *, spread: bool) -> None:
        """The legend: how network and theory are drawn, and which group has which colour.

        Args:
            network, theory: How points and lines are drawn.
            spread: Whether the spread over several runs is.
        """
        last = self.axes[-1]
        one = len(self.groups) == 1
        look: dict[str, Any] = {"mfc": "none", "color": self.colours[0] if one else style.GUIDE}
        last.plot([], [], network, **look, label=r"network, mean $\pm$ s.e." if spread else "network")
        if theory:
            last.plot([], [], theory, color=style.THEORY if one else style.GUIDE, lw=1.2, label="theory")
        if self._bar is not None:
            bar = self._drawn.colorbar(self._bar, ax=self.axes, label=_symbol(self._shade))
            values = np.unique(self.groups[self._shade])
            if len(values) <= MOST_PANELS:
                bar.set_ticks(list(values), labels=[_value(value) for value in values])
                bar.minorticks_off()
        elif not one:
            for colour, (_, group) in zip(self.colours[:MOST_LINES], self.groups[:MOST_LINES].iterrows(), strict=True):
                names = (x if isinstance(x, str) else f"{_symbol(str(key))} = {_value(x)}" for key, x in group.items())
                name = ", ".join(names)
                last.plot([], [], color=colour, label=name)
            if len(self.groups) > MOST_LINES:
                last.plot([], [], " ", label=f"… and {len(self.groups) - MOST_LINES} more")
        self._drawn.legend(loc="outside right upper")


def _is_number(values: pd.Series) -> bool:
    """Whether every value has a place on an axis of numbers: null has none."""
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return numeric and bool(values.notna().all())


def _spread(values: pd.Series) -> bool:
    """Whether the positive values differ by more than a factor of 10."""
    positive = values[values > 0.0]
    return len(positive) > 0 and bool(positive.max() > 10.0 * positive.min())


def _shown(values: np.ndarray, logarithmic: bool) -> np.ndarray:
    """Values that the axis can show: a logarithmic one leaves out zeros."""
    return np.where(values > 0.0, values, np.nan) if logarithmic else values


def _label(series: str) -> str:
    known = SERIES.get(series)
    return f"{known.label} {known.symbol}" if known else series.replace("_", " ")


def _symbol(setting: str) -> str:
    return _SYMBOLS.get(setting, setting)


def _value(value: Any) -> str:
    if pd.isna(value):
        return "null"
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
