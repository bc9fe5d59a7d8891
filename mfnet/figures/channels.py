"""How a figure tells the groups of a sweep apart: one visual channel a setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import color_sequences
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize

from mfnet.figures import style

#: Most groups of a panel, and most colours that a legend names; more values of a number have a colour bar.
MOST_NAMED = 8

#: Most values of a setting that have a panel each.
MOST_PANELS = 6

#: A marker a value.
MARKERS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class Channels:
    """Which settings are told apart by what.

    Attributes:
        colour: By colour: one, or also those for which no other channel is left.
        marker: By markers.
        panel: By panels.
    """

    colour: tuple[str, ...]
    marker: str | None = None
    panel: str | None = None

    @classmethod
    def of(cls, groups: pd.DataFrame) -> Channels:
        """The channels of groups: a row a group, a column a setting.

        Colour, which shows order, goes to the number with the most values, or else to the setting with the most. Of the
        others the first with few values has markers, and the next one panels; where there are many groups, the first
        has panels.
        """
        values = {str(name): column.nunique(dropna=False) for name, column in groups.items()}
        names = [name for name, n in values.items() if n > 1]
        if not names:
            return cls(())
        numbers = {str(name): is_number(column) for name, column in groups.items()}
        colour = max(names, key=lambda name: (numbers[name], values[name]))
        rest = [name for name in names if name != colour]
        limits = {"marker": len(MARKERS), "panel": MOST_PANELS}
        taken: dict[str, str] = {}
        for channel in sorted(limits, reverse=len(groups) > MOST_NAMED):
            if few := [name for name in rest if values[name] <= limits[channel]]:
                taken[channel] = few[0]
                rest.remove(few[0])
        return cls((colour, *rest), taken.get("marker"), taken.get("panel"))


class Looks:
    """The look of each group.

    Args:
        groups: A row a group, a column a setting.

    Attributes:
        channels: Which settings are told apart by what.
        colours: Colour of each group.
        markers: Marker of each group; None where markers tell nothing.
        panels: Number of the panel of each group.
        bar: The scale of the colours, where they are too many to be named.
    """

    def __init__(self, groups: pd.DataFrame):
        self.groups, self.channels = groups, Channels.of(groups)
        self.bar: ScalarMappable | None = None
        self.colours = self._colours()
        marker, panel = (self._numbers(name) for name in (self.channels.marker, self.channels.panel))
        self.markers = [MARKERS[i] if self.channels.marker else None for i in marker]
        self.panels = panel

    def _numbers(self, name: str | None) -> list[int]:
        """Number of each group's value of a setting, among all that there are."""
        return [0] * len(self.groups) if name is None else pd.factorize(self._keys((name,)))[0].tolist()

    def _keys(self, names: tuple[str, ...]) -> pd.Series:
        """What each group has of some settings, in words."""
        texts = [self.groups[name].map(lambda value, name=name: label(name, value)) for name in names]
        return pd.Series([", ".join(parts) for parts in zip(*texts, strict=True)], dtype="object")

    def _colours(self) -> list[Any]:
        names = self.channels.colour
        if not names:
            return [style.NETWORK] * len(self.groups)
        if len(names) == 1 and is_number(self.groups[names[0]]):
            values = self.groups[names[0]].to_numpy(np.float64)
            logarithmic = spans_decades(self.groups[names[0]]) and bool((values > 0.0).all())
            limits = float(values.min()), float(values.max())
            scale = ScalarMappable(LogNorm(*limits) if logarithmic else Normalize(*limits), style.SHADES)
            if len(np.unique(values)) > MOST_NAMED:
                self.bar = scale
            return list(scale.to_rgba(values))
        numbers = pd.factorize(self._keys(names))[0]
        sequence = color_sequences["tab10" if max(numbers) < 10 else "tab20"]
        return [sequence[i % len(sequence)] for i in numbers]

    def named_colours(self) -> dict[str, Any]:
        """What each colour stands for."""
        names = self.channels.colour
        return dict(zip(self._keys(names), self.colours, strict=True)) if names else {}

    def named_markers(self) -> dict[str, str]:
        """What each marker stands for."""
        name = self.channels.marker
        return dict(zip(self._keys((name,)), map(str, self.markers), strict=True)) if name else {}

    def named_panels(self) -> list[str]:
        """What each panel shows; nothing where there is one."""
        name = self.channels.panel
        return list(dict.fromkeys(self._keys((name,)))) if name else []


_SYMBOLS = {"M": "$M$", "N": "$N$", "d": "$d$", "alpha": r"$\alpha$", "h": "$h$", "data.flip": r"flip $\epsilon$"}


def symbol(setting: str) -> str:
    """What a figure calls a setting."""
    return _SYMBOLS.get(setting, setting)


def label(setting: str, value: Any) -> str:
    """A value of a setting; a name says itself what it is."""
    return value if isinstance(value, str) else f"{symbol(setting)} = {shown(value)}"


def shown(value: Any) -> str:
    """A value."""
    if pd.isna(value):
        return "null"
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def is_number(values: pd.Series) -> bool:
    """Whether every value has a place on an axis of numbers: null has none."""
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return numeric and bool(values.notna().all())


def spans_decades(values: pd.Series) -> bool:
    """Whether the positive values differ by more than a factor of 10."""
    positive = values[values > 0.0]
    return len(positive) > 0 and bool(positive.max() > 10.0 * positive.min())
