"""Averages over seeds: of how runs ended, and of their curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from mfnet.collection.collection import Collection
from mfnet.collection.files import NETWORK
from mfnet.collection.run import COMPLETE, FAILED, UNFINISHED
from mfnet.collection.settings import is_seed
from mfnet.record.series import MEAN_FORCE, SLIDING
from mfnet.record.stop_reason import StopReason

#: What is zero once no example exerts a force; every other series stays as it is.
_ZERO_AT_REST = (f"{MEAN_FORCE}{NETWORK}", f"{SLIDING}{NETWORK}")


def grouping(collection: Collection, by: Sequence[str] | None = None) -> list[str]:
    """The settings that tell groups apart: ``by``, or else all that varied but seeds.

    Raises:
        ValueError: If a setting of ``by`` did not vary.
    """
    if by is None:
        return [name for name in collection.varied if not is_seed(name)]
    names = [name if name in collection.varied else f"{name}.name" for name in by]  # loss is loss.name
    for name, given in zip(names, by, strict=True):
        if name not in collection.varied:
            raise ValueError(f"{given} did not vary; what did is {', '.join(collection.varied) or 'nothing'}")
    return names


def finals(collection: Collection, by: Sequence[str] | None = None) -> pd.DataFrame:
    """How runs ended: a row a group of runs that agree in ``by``, by default in all that varied but seeds.

    ``n`` is the number of runs averaged over, those that are complete, without duplicates. ``unfinished`` and
    ``failed`` count the others, and ``stop_reasons`` says how all ended (``all_satisfied 3, t_max 1``). Each number of
    the table of runs has its mean, its sample standard deviation (missing for n = 1) and the standard error of its
    mean: ``test_error_mean``, ``test_error_std``, ``test_error_se``.
    """
    by, runs = grouping(collection, by), _counted(collection)
    averaged = numbers(runs)
    group = _group(runs, by)
    complete = runs["state"] == COMPLETE
    reasons = runs["stop_reason"].fillna(runs["state"]).groupby(group).agg(_counts)
    columns = {name: runs[name].groupby(group).first() for name in by} | {"n": complete.groupby(group).sum()}
    columns |= {state: (runs["state"] == state).groupby(group).sum() for state in (UNFINISHED, FAILED)}
    columns |= {"stop_reasons": reasons.astype("str")}
    grouped = runs[averaged].where(complete).groupby(group)
    mean, std, count = grouped.mean(), grouped.std(), grouped.count()
    for name in averaged:
        columns |= {f"{name}_mean": mean[name], f"{name}_std": std[name], f"{name}_se": std[name] / count[name] ** 0.5}
    return pd.DataFrame(columns).reset_index(drop=True)


def _counts(reasons: pd.Series) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.value_counts().items())


def curves(collection: Collection, by: Sequence[str] | None = None) -> pd.DataFrame:
    """Averaged histories: a row a group and time, with ``n`` and ``_mean``, ``_std``, ``_se`` of each column.

    The times of a group are the scheduled ones that any of its runs has reached, and that of its last observation.
    Where a run has no observation it counts by its values between two of them, linear in ln t (in t before its first
    observation after t = 0). Runs end early, between scheduled times: after its end a run that is at rest (all
    examples satisfied, under a loss that then has no force) keeps its values, but for ``mean_force`` and ``sliding``,
    which are zero; any other run counts no longer than it was observed. So does every prediction. Duplicates are left
    out; unfinished and failed runs count as far as they went.
    """
    by, runs = grouping(collection, by), _counted(collection)
    runs = runs[runs["run"].isin(collection.history["run"])]
    columns = _after("t", collection.history)
    values = collection.history[["t", *columns]].to_numpy()
    rows = collection.history.groupby("run", sort=False).indices
    group = _group(runs, by)
    first: list[int] = []
    parts: list[dict[str, np.ndarray]] = []
    for _, members in runs.groupby(group):
        histories = [values[rows[run]] for run in members["run"]]
        scheduled = [
            history[: None if StopReason.read(reason).at_observation else -1, 0]
            for history, reason in zip(histories, members["stop_reason"].fillna(StopReason.INTERRUPTED), strict=True)
        ]
        t = np.unique(np.concatenate([*scheduled, [max(history[-1, 0] for history in histories)]]))
        at = [_at(t, history, columns, at_rest) for history, at_rest in zip(histories, members["at_rest"], strict=True)]
        first += [members.index[0]] * len(t)
        parts.append({"t": t} | _statistics(np.stack(at), columns))
    keys = runs.loc[first, by].reset_index(drop=True)
    return keys.assign(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {})


def numbers(runs: pd.DataFrame) -> list[str]:
    """Columns of the table of runs that can be averaged: numbers that say how runs ended."""
    results = [name for name in _after("at_rest", runs) if name != "replicas"]
    return [name for name in results if pd.api.types.is_numeric_dtype(runs[name])]


def _counted(collection: Collection) -> pd.DataFrame:
    left_out = [run for run, _ in collection.duplicates]
    return collection.runs[~collection.runs["run"].isin(left_out)]


def _after(column: str, table: pd.DataFrame) -> list[str]:
    """Names of the columns behind one."""
    names = [str(name) for name in table.columns]
    return names[names.index(column) + 1 :]


def _group(runs: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """Number of the group of each run, in the order of the values of ``by``."""
    return runs.groupby(list(by), dropna=False).ngroup() if by else pd.Series(0, index=runs.index)


def _at(
    t: Float[np.ndarray, " K"], history: Float[np.ndarray, "k c"], columns: Sequence[str], at_rest: bool
) -> Float[np.ndarray, "K columns"]:
    """A history, whose first column is its times, at the times ``t``; NaN where it does not count."""
    own = history[:, 0]
    first = own[min(1, len(own) - 1)] or 1.0
    where, observed = (np.where(x < first, x / first, 1.0 + np.log(np.maximum(x, first) / first)) for x in (t, own))
    after = t > own[-1]
    result = np.empty((len(t), len(columns)))
    for j, name in enumerate(columns):
        result[:, j] = np.interp(where, observed, history[:, j + 1])
        if not (at_rest and name.endswith(NETWORK)):
            result[after, j] = np.nan
        elif name in _ZERO_AT_REST:
            result[after, j] = 0.0
    return result


def _statistics(values: Float[np.ndarray, "n K c"], columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Number of runs with a value of any series, and mean, standard deviation and standard error of each column."""
    there = ~np.isnan(values)
    count = there.sum(axis=0)
    mean = np.divide(np.nansum(values, axis=0), count, out=np.full(count.shape, np.nan), where=count > 0)
    squares = np.nansum((values - mean) ** 2, axis=0)
    std = np.sqrt(np.divide(squares, count - 1, out=np.full(count.shape, np.nan), where=count > 1))
    se = std / np.sqrt(np.maximum(count, 1))
    network = [name.endswith(NETWORK) for name in columns]
    result = {"n": count[:, network].max(axis=1)}
    for j, name in enumerate(columns):
        result |= {f"{name}_mean": mean[:, j], f"{name}_std": std[:, j], f"{name}_se": se[:, j]}
    return result
