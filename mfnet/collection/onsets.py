"""The onset of overfitting in averaged curves: measured, and as an overlaid theory has it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mfnet.record.series import TEST_ERROR, UNSATISFIED
from mfnet.theory import Onset, onset


def onsets(curves: pd.DataFrame, by: Sequence[str], side: str = "network") -> pd.DataFrame:
    """Where the mean test error of each group of curves is least: a row a group, by `mfnet.theory.onset`.

    Beside ``by`` it has ``t``, ``unsatisfied`` and ``test_error`` there, and ``inside``: whether the error rose
    afterwards.

    Args:
        curves: A row a group and time (`mfnet.collection.curves`); times without a value are left out.
        by: The settings that tell groups apart.
        side: 'network', or the name of an overlay.
    """
    error, unsatisfied = f"{TEST_ERROR.name}_{side}_mean", f"{UNSATISFIED.name}_{side}_mean"
    rows = []
    for key, group in curves.dropna(subset=[error, unsatisfied]).groupby(list(by)):
        found = onset(*(group[name].to_numpy() for name in ("t", error, unsatisfied)))
        rows.append({**dict(zip(by, key, strict=True)), **found._asdict()})
    return pd.DataFrame(rows, columns=[*by, *Onset._fields])


def until_first_end(curves: pd.DataFrame, runs: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The part of each group's curves that all of its runs have reached.

    Predictions of single runs end with them: later, the mean is over those that are left.

    Args:
        curves: A row a group and time (`mfnet.collection.curves`).
        runs: A row a run, with ``t_end``.
        by: The settings that tell groups apart.
    """
    first = runs.groupby(list(by))["t_end"].min().rename("first_end").reset_index()
    merged = curves.merge(first, on=list(by))
    return merged[merged["t"] <= merged["first_end"]].drop(columns="first_end")
