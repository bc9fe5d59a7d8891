"""What has no closed form, solved by the hydrodynamic equation: ``experiment=hydrodynamics``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mfnet.collection import Collection
from mfnet.figures import latent, style
from mfnet.figures.experiments import saved
from mfnet.record.directory import RunDirectory
from mfnet.record.series import DISPLACEMENT, UNSATISFIED
from mfnet.theory import Hydrodynamic

#: Colours of activations.
COLOURS = {"relu": style.NETWORK, "tanh": style.SECOND}

#: Levels of the nodes' density, relative to its largest value.
LEVELS = (0.05, 0.2, 0.5, 0.8)

Run = tuple[dict[str, Any], RunDirectory]


def draw(collection: Collection, path: Path) -> Path:
    """n_u and how far nodes move, their density in (a, v), and F over the latent directions; theory beside network."""
    runs: dict[tuple[str, str], Run] = {}
    for directory in saved.directories(collection):
        config = directory.read_summary()["config"]
        runs[config["network"]["activation"], config["data"]["rule"]] = config, directory
    rules = [rule for rule in ("sign", "shell", "xor") if any(rule == other for _, other in runs)]
    with style.figure(path, 20.0, 5.0 * (1 + len(rules[1:]))) as figure:
        panels = figure.subplots(len(rules), 4, squeeze=False)
        for row, rule in zip(panels, rules, strict=True):
            chosen = {activation: run for (activation, other), run in runs.items() if other == rule}
            _series(row[0], chosen, UNSATISFIED.name, UNSATISFIED.symbol, rule)
            _series(row[1], chosen, DISPLACEMENT.name, DISPLACEMENT.symbol, rule)
            for axes, (activation, run) in zip(row[2:], sorted(chosen.items()), strict=False):
                if rule == "sign":
                    _density(axes, run, activation)
                elif rule == "shell":
                    _along(axes, run, activation)
            if rule == "xor":
                _plane(row[2], row[3], chosen["relu"])
        style.letter(panels.ravel())
    return path


def _series(axes: Axes, runs: dict[str, Run], name: str, symbol: str, rule: str) -> None:
    """A series of each activation: network as points, theory as a line."""
    for activation, (_, directory) in sorted(runs.items()):
        history, colour = directory.read_history(), COLOURS.get(activation, style.GUIDE)
        t = history["t"]
        axes.plot(t, history[f"{name}_network"], "o", color=colour, mfc="none", label=f"{activation}, network")
        axes.plot(t, history[f"{name}_theory"], color=colour, label=f"{activation}, eq. 5")
    style.log_time(axes, t[1], t[-1])
    axes.set_ylabel(symbol)
    axes.set_title(rule, fontsize=13)
    axes.legend()


def _density(axes: Axes, run: Run, activation: str) -> None:
    """Nodes in the plane of (a, v) at the last observation, over the levels of the density of eq. 5."""
    config, directory = run
    nodes = directory.read_arrays(directory.nodes)
    t = float(nodes["t"][-1])
    along, across = _turned(nodes["a"][-1], nodes["w_par"][-1])
    axes.plot(along, across, ".", color=style.NETWORK, ms=3.0, label="network")
    model = Hydrodynamic(**{name: value for name, value in config["hydrodynamic"].items() if name != "_target_"})
    a, v, value = (part[0] for part in model.density([t]))
    axes.contour(
        *_turned(a, v), value, levels=[level * value.max() for level in LEVELS], colors=style.THEORY, linewidths=1.4
    )
    axes.plot([], [], color=style.THEORY, label="eq. 5")
    axes.set_xlabel(r"$(a+v)/\sqrt{2}$")
    axes.set_ylabel(r"$(a-v)/\sqrt{2}$")
    axes.set_title(f"{activation}, $t$ = {style.number(t)}", fontsize=13)
    axes.legend()


def _turned(a: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Along a = v, where the density is widened, and across, where it is narrowed."""
    return (a + v) / math.sqrt(2.0), (a - v) / math.sqrt(2.0)


def _along(axes: Axes, run: Run, activation: str) -> None:
    """αF against u."""
    config, directory = run
    latent.line(axes, directory.read_arrays(directory.path / "latent.npz"), config["alpha"], config["h"], "theory")
    axes.set_title(activation, fontsize=13)


def _plane(network: Axes, theory: Axes, run: Run) -> None:
    """αF in the plane of (u₁, u₂)."""
    config, directory = run
    arrays = directory.read_arrays(directory.path / "latent.npz")
    latent.network_plane(network, arrays, config["alpha"], config["h"])
    latent.theory_plane(theory, np.asarray(arrays["output_theory"]), arrays["u_grid"], config["alpha"], config["h"])
