"""Averages over the seeds of a sweep: a series against time, or its final value against a setting."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mfnet.figures import style
from mfnet.figures.channels import MOST_NAMED, Looks, is_number, shown, spans_decades, symbol
from mfnet.record.series import GAMMA, MEAN_FORCE, SERIES, SLIDING, UNSATISFIED

#: Most groups that a legend has room for.
MOST_LINES = 12

PANELS_IN_A_ROW = 3

#: Markers along a curve.
MARKED = 6

#: Series whose axis is linear however far their values are spread.
LINEAR = (GAMMA.name, UNSATISFIED.name, MEAN_FORCE, SLIDING)

_TILTED = {"rotation": 45.0, "ha": "right", "rotation_mode": "anchor"}


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
    logarithmic = series not in LINEAR and spans_decades(curves[f"{network}_mean"])
    with _Sheet(path, groups) as sheet:
        for axes, members in sheet.divide(curves.groupby(numbers)):
            for number, group in members.items():
                t, mean, error = (group[name].to_numpy() for name in ("t", f"{network}_mean", f"{network}_se"))
                if np.isfinite(error).any():
                    lower = np.maximum(mean - error, 1e-6 * mean) if logarithmic else mean - error
                    shaded = (_visible(lower, logarithmic), mean + error)
                    axes.fill_between(t, *shaded, color=sheet.looks.colours[number], alpha=0.25, lw=0)
            if theory in curves:
                sheet.lines(axes, members, "t", theory, "--", 1.2, logarithmic)
                sheet.mark(axes, members, "t", theory, logarithmic, small=True)
            sheet.lines(axes, members, "t", f"{network}_mean", "-", 1.8, logarithmic)
            sheet.mark(axes, members, "t", f"{network}_mean", logarithmic)
        for axes in sheet.axes:
            style.log_time(axes, curves["t"].min(), curves["t"].max())
            style.plain_ticks(axes.xaxis)
        if logarithmic:  # as far as the network goes: predictions go on to any smallness
            seen = curves[f"{network}_mean"]
            sheet.set_logarithmic(0.7 * seen[seen > 0.0].min(), 1.4 * seen.max())
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
    mean, error, theory = (f"{series}_{column}" for column in ("mean", "se", "theory_mean"))
    numeric = is_number(finals[against])
    places, names = (finals[against], None) if numeric else pd.factorize(finals[against].map(shown))
    logarithmic = series not in LINEAR and spans_decades(finals[mean])
    with _Sheet(path, groups) as sheet:
        beside = 0.0 if numeric else 0.6 * ((numbers + 0.5) / len(groups) - 0.5)
        placed = finals.assign(place=places + beside).sort_values("place")
        for axes, members in sheet.divide(placed.groupby(numbers)):
            for number, group in members.items():
                at, middle, half = (group[name].to_numpy() for name in ("place", mean, error))
                lower = np.maximum(middle - half, 1e-6 * middle) if logarithmic else middle - half
                axes.vlines(
                    at, _visible(lower, logarithmic), middle + half, colors=[sheet.looks.colours[number]], lw=2.2
                )
            if numeric:
                sheet.lines(axes, members, "place", mean, "-", 1.0, logarithmic)
                if theory in finals:
                    sheet.lines(axes, members, "place", theory, "--", 1.0, logarithmic)
            sheet.points(axes, members, mean, logarithmic)
            if theory in finals:
                sheet.points(axes, members, theory, logarithmic, small=True)
        if logarithmic:
            sheet.set_logarithmic()
        for axes in sheet.axes:
            axes.set_xlabel(symbol(against))
            if names is not None:
                tilted: Any = _TILTED if sum(map(len, names)) > 40 else {}
                axes.set_xticks(range(len(names)), list(names), **tilted)
                axes.set_xlim(-0.5, len(names) - 0.5)
                axes.grid(visible=False, axis="x")
            else:
                if spans_decades(finals[against]) and (finals[against] > 0).all():
                    axes.set_xscale("log")
                if finals[against].nunique() <= MOST_NAMED:
                    values = np.unique(finals[against])
                    axes.set_xticks(values, [shown(value) for value in values])
                    axes.xaxis.minorticks_off()
        sheet.set_label(f"{_label(series)} at the end" if series in SERIES else series)
        spread = bool(finals[error].notna().any())
        marked = sheet.looks.channels.marker is not None
        predicted_as = ("" if marked else "x") + ("--" if numeric else "")
        sheet.explain(
            ("" if marked else "o") + ("-" if numeric else ""),
            predicted_as or "." if theory in finals else None,
            spread=spread,
        )
    return path


def _groups(table: pd.DataFrame, by: Sequence[str]) -> tuple[pd.Series, pd.DataFrame]:
    """Number of the group of each row, and what tells the groups apart."""
    if not by:
        return pd.Series(0, index=table.index), pd.DataFrame(index=[0])
    numbers = table.groupby(list(by), dropna=False, sort=False).ngroup()
    return numbers, table[list(by)].drop_duplicates(ignore_index=True)


class _Sheet:
    """A figure of groups, with a panel or several; it is written when its block ends.

    Attributes:
        looks: How each group looks.
        axes: The panels.
    """

    def __init__(self, path: Path, groups: pd.DataFrame):
        self.looks = Looks(groups)
        count = max(self.looks.panels) + 1
        self._shape = math.ceil(count / PANELS_IN_A_ROW), min(count, PANELS_IN_A_ROW)
        width, height = (8.4, 5.0) if count == 1 else (3.0 + 3.6 * self._shape[1], 4.2 * self._shape[0])
        self._figure = style.figure(path, width, height)

    @property
    def _one(self) -> bool:
        """Whether there is a single group."""
        return len(self.looks.colours) == 1

    def _theory(self, number: int) -> Any:
        """Colour of a group's prediction: its own, where there are several."""
        return style.THEORY if self._one else self.looks.colours[number]

    def __enter__(self) -> _Sheet:
        self._drawn: Figure = self._figure.__enter__()
        grid = list(self._drawn.subplots(*self._shape, sharey=True, squeeze=False).ravel())
        self.axes: list[Axes] = grid[: max(self.looks.panels) + 1]
        for axes in grid[len(self.axes) :]:
            axes.set_axis_off()
        for axes, name in zip(self.axes, self.looks.named_panels(), strict=False):
            axes.set_title(name, fontsize=13)
        return self

    def __exit__(self, *raised: Any) -> None:
        self._figure.__exit__(*raised)

    def divide(self, grouped: Any) -> Iterator[tuple[Axes, dict[int, pd.DataFrame]]]:
        """Each panel with its groups by number."""
        members: list[dict[int, pd.DataFrame]] = [{} for _ in self.axes]
        for number, group in grouped:
            members[self.looks.panels[number]][number] = group
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
        paths = [np.column_stack([group[x], _visible(group[y].to_numpy(), logarithmic)]) for group in members.values()]
        colours = [self._theory(number) if look == "--" else self.looks.colours[number] for number in members]
        axes.add_collection(LineCollection(paths, colors=colours, linestyles=look, linewidths=width))
        axes.autoscale_view()

    def mark(
        self,
        axes: Axes,
        members: Mapping[int, pd.DataFrame],
        x: str,
        y: str,
        logarithmic: bool,
        *,
        small: bool = False,
    ) -> None:
        """Markers along the line of each group, where they tell groups apart; those of different groups stand apart."""
        if self.looks.channels.marker is None:
            return
        for place, (number, group) in enumerate(members.items()):
            first = (place / len(members) + (0.5 if small else 0.0)) % 1.0
            chosen = np.unique(((np.arange(MARKED) + first) / MARKED * len(group)).astype(int))
            self._scatter(axes, number, group.iloc[chosen], x, y, logarithmic, small=small)

    def points(
        self, axes: Axes, members: Mapping[int, pd.DataFrame], y: str, logarithmic: bool, *, small: bool = False
    ) -> None:
        """A point a row of each group, of the network or, small, of the theory."""
        for number, group in members.items():
            self._scatter(axes, number, group, "place", y, logarithmic, small=small)

    def _scatter(
        self, axes: Axes, number: int, rows: pd.DataFrame, x: str, y: str, logarithmic: bool, *, small: bool
    ) -> None:
        at = rows[x], _visible(rows[y].to_numpy(), logarithmic)
        marker = self.looks.markers[number]
        if small and marker is None:
            axes.scatter(*at, 28.0, color=self._theory(number), marker="x", linewidths=1.2, zorder=3.0)
        elif small:
            axes.scatter(*at, 12.0, color=self._theory(number), marker=marker, linewidths=0.0, zorder=3.0)
        else:
            colour = self.looks.colours[number]
            axes.scatter(*at, 36.0, facecolors="white", edgecolors=[colour], marker=marker or "o", zorder=2.5)

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
        """The legend: how network and theory are drawn, and which setting has which colour and marker.

        Args:
            network, theory: How points and lines are drawn.
            spread: Whether the spread over several runs is.
        """
        last, looks = self.axes[-1], self.looks
        own = looks.colours[0] if self._one else style.GUIDE
        last.plot([], [], network or "o", mfc="none", color=own, label="network" + r", mean $\pm$ s.e." * spread)
        if theory:
            last.plot([], [], theory, color=style.THEORY if self._one else style.GUIDE, lw=1.2, label="theory")
        if looks.bar is not None:
            (name,) = looks.channels.colour
            bar = self._drawn.colorbar(looks.bar, ax=self.axes, label=symbol(name))
            style.plain_ticks(bar.ax.yaxis)
        else:
            named = looks.named_colours()
            for name, colour in list(named.items())[:MOST_LINES]:
                last.plot([], [], color=colour, label=name)
            if len(named) > MOST_LINES:
                last.plot([], [], " ", label=f"… and {len(named) - MOST_LINES} more")
        for name, marker in looks.named_markers().items():
            last.plot([], [], marker, color=style.GUIDE, mfc="white", ms=6.0, label=name)
        self._drawn.legend(loc="outside right upper")


def _visible(values: np.ndarray, logarithmic: bool) -> np.ndarray:
    """Values that the axis can show: a logarithmic one leaves out zeros."""
    return np.where(values > 0.0, values, np.nan) if logarithmic else values


def _label(series: str) -> str:
    known = SERIES.get(series)
    return f"{known.label} {known.symbol}" if known else series.replace("_", " ")
