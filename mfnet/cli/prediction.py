"""``mfnet predict``: the theory alone."""

from __future__ import annotations

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from mfnet.cli.build import draw_of_run, mean_field, observation_times, trust_of
from mfnet.cli.compose import complete
from mfnet.cli.run import shown
from mfnet.record.directory import RunDirectory, curve_columns
from mfnet.record.series import GAMMA, SERIES


def predict(config: DictConfig) -> None:
    """The theory's history, without training, in the directory that Hydra has made."""
    directory = RunDirectory(HydraConfig.get().runtime.output_dir)
    config = complete(config)
    unit, times = observation_times(config)
    curves = instantiate(config.theory).of_draw(lambda: draw_of_run(config)).series(times)
    columns = {"k": np.arange(len(times)), "t": times}
    for name, curve in curves.items():
        columns |= curve_columns(name, curve)
    rows = [{name: values[k].item() for name, values in columns.items()} for k in range(len(times))]
    directory.write_history(rows)

    tabled = [series for series in SERIES.values() if series.name in curves]
    print(f"{'t':>12}" + "".join(f"{series.name:>14}" for series in tabled))
    for k in np.unique(np.linspace(0, len(times) - 1, 21).round().astype(int)):
        print(f"{times[k]:>12.5g}" + "".join(f"{curves[series.name].value[k]:>14.8g}" for series in tabled))
    gamma_star = mean_field(config).gamma_star
    if np.isfinite(gamma_star):
        print(f"{GAMMA.name} ends at {gamma_star:.8g}")
    print(f"unit of time {unit:g}")
    if trusted := trust_of(config, times):
        print(f"\ntrustworthy for M={config.M} and N={config.N}:")
        print("\n".join(f"  {entry}" for entry in trusted))
    print(shown(directory.history))
