"""Names of what is written to TensorBoard; network and theory share them, so that their curves share charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from torch.utils.tensorboard.summary import hparams

from mfnet.record.series import GAMMA, SERIES
from mfnet.theory import Curve

#: Name of the run that holds the network's own curves, and of that which holds how it ended.
NETWORK, FINAL = "network", "final"

#: What TensorBoard says of a chart.
STEPS = (
    "The step is the number k of the observation. Observations are spaced evenly in ln t, so that the axis is "
    "logarithmic in mean-field time t; the columns k and t of history.csv say which time a step is."
)


def value(series: str) -> str:
    """Tag of a series; the clock, on which all others hang, comes first in TensorBoard's order."""
    return f"{'clock' if series == GAMMA.name else 'curves'}/{series}"


def band(series: str) -> tuple[str, str]:
    """Tags of the lower and upper edge of a band."""
    return f"curves_band/{series}_lower", f"curves_band/{series}_upper"


def node(parameter: str, i: int) -> str:
    """Tag of a parameter of the i-th logged node."""
    return f"node_{parameter}/{i}"


def points(series: str, curve: Curve) -> dict[str, float]:
    """The last point of a curve, if there is one; without a band the edges are the value itself: a line."""
    central = float(curve.value[-1])
    if not math.isfinite(central):  # the theory does not say anything of this time
        return {}
    lower, upper = (central if edge is None else float(edge[-1]) for edge in (curve.lower, curve.upper))
    return dict(zip((value(series), *band(series)), (central, lower, upper), strict=True))


def scalars(numbers: Mapping[str, float], described: str = "") -> Summary:
    """Many scalars in one event, which takes less than a tenth of the time of one each.

    Args:
        numbers: By tag.
        described: What TensorBoard says of each chart; it reads that of the first event alone.
    """
    if not described:
        return Summary(value=[Summary.Value(tag=tag, simple_value=number) for tag, number in numbers.items()])
    kind = SummaryMetadata(summary_description=described, plugin_data={"plugin_name": "scalars"})
    values = [Summary.Value(tag=tag, simple_value=number, metadata=kind) for tag, number in numbers.items()]
    return Summary(value=values)


def margin_layout(observed: Sequence[str]) -> dict[str, dict[str, list[object]]]:
    """Custom Scalars: one Margin chart a series; the theory's band, and the network's line, or band over replicas."""
    labels = {name: SERIES[name].label if name in SERIES else name.replace("_", " ") for name in [*SERIES, *observed]}
    return {"Network against theory": {label: ["Margin", [value(name), *band(name)]] for name, label in labels.items()}}


def end(config: Mapping[str, Any], series: Mapping[str, float]) -> list[Summary]:
    """HParams: settings and final metrics, in a run of their own, whose every scalar TensorBoard takes for a metric.

    No run says what the experiment is: TensorBoard would believe one of them for all, whereas by itself it finds every
    setting of any run, and shows those first that differ.
    """
    metrics = {f"{FINAL}/{name}": number for name, number in series.items()}
    _, *session = hparams(hyperparameters(config), metrics)
    return [scalars(metrics), *session]


def hyperparameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """What tells one run from another in the HParams table: the paper's symbols and the choices, as plain values."""
    flat: dict[str, Any] = {key: entry for key, entry in config.items() if isinstance(entry, int | float)}
    flat["flow"] = str(config["flow"]["_target_"]).rpartition(".")[2]
    for group in ("network", "loss", "data", "flow"):
        for key, entry in config[group].items():
            named = key in config or key.startswith(("_", "n_"))
            if isinstance(entry, int | float | str | list) and not named:
                flat[f"{group}.{key}"] = str(entry) if isinstance(entry, list) else entry
    return flat
