"""``mfnet predict``: the theory alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mfnet.cli import sweep
from mfnet.cli.arguments import Arguments
from mfnet.cli.grid import Sweep
from mfnet.cli.jobs import check_directories, check_predictions, draw_of, single
from mfnet.cli.run import in_its_directory, reserved, shown
from mfnet.cli.system import written
from mfnet.record.directory import RunDirectory, curve_columns
from mfnet.record.series import GAMMA, SERIES
from mfnet.setup.errors import SettingError
from mfnet.setup.setup import Setup
from mfnet.setup.theories import NOTHING_DRAWN, Theories


def predict(arguments: Arguments, typed: Sequence[str]) -> int:
    """Runs the command, inside the source of its arguments, and returns its exit status.

    Raises:
        SettingError: If a setting is wrong; then nothing was written.
    """
    if arguments.multirun:
        if not any(override.startswith("hydra.sweep.dir=") for override in arguments.overrides):
            arguments.overrides.append("hydra.sweep.dir=multirun/predicted_${now:%Y-%m-%d_%H-%M-%S-%f}")
        swept = Sweep.read(arguments)
        if not swept.is_grid:
            raise SettingError("hydra/sweeper: mfnet predict sweeps over a grid; leave it out")
        jobs = list(swept.jobs())
        check_predictions(jobs)
        check_directories(jobs, in_sweep=True)
        return sweep.launch(swept, [[job] for job in jobs], _in_sweep)
    job = single(arguments)
    check_predictions([job])
    check_directories([job])
    with written(job.directory), reserved(job):
        return in_its_directory(job, lambda _: _predict(job.setup, RunDirectory(job.directory)))


def _in_sweep(config: DictConfig) -> None:
    _predict(Setup.resolved(config), RunDirectory(HydraConfig.get().runtime.output_dir))


def _predict(setup: Setup, directory: RunDirectory) -> int:
    """Writes and prints the theory's history."""
    theories = Theories(setup, partial(draw_of, setup), NOTHING_DRAWN)
    times = theories.times
    prediction = theories.prediction("theory", times)
    curves = prediction.curves
    columns = {"k": np.arange(len(times)), "t": times}
    for name, curve in curves.items():
        columns |= curve_columns(name, curve)
    rows = [{name: values[k].item() for name, values in columns.items()} for k in range(len(times))]
    directory.write_history(rows)

    tabled = [series for series in SERIES.values() if series.name in curves]
    print(f"{'t':>12}" + "".join(f"{series.name:>14}" for series in tabled))
    for k in np.unique(np.linspace(0, len(times) - 1, 21).round().astype(int)):
        print(f"{times[k]:>12.5g}" + "".join(f"{curves[series.name].value[k]:>14.8g}" for series in tabled))
    if np.isfinite(gamma_star := theories.solution.gamma_star):
        print(f"{GAMMA.name} ends at {gamma_star:.8g}")
    print(f"unit of time {theories.unit:g}")
    if (because := theories.reasons.get("theory")) is not None:
        print(f"theory {prediction.theory.trusted_as}: {because}")
    if trusted := theories.trusted(times):
        print(f"\ntrustworthy for M={setup.M} and N={setup.N}:")
        print("\n".join(f"  {entry}" for entry in trusted))
    print(shown(directory.history))
    return 0
