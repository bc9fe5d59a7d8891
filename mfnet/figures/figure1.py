"""The four panels of the paper's Fig. 1: nodes, clock, and who is satisfied when."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mfnet.figures import style
from mfnet.record.contents import Arrays, Contents

#: Nodes whose trajectories are drawn, the first ones.
NODES = 10


def draw(run: Contents) -> Figure:
    """Draws the saved history, nodes and examples, without a missing theory."""
    history, nodes, examples = run.history, run.arrays["nodes"], run.arrays["examples"]
    with style.drawing(10.0, 7.6) as figure:
        panels = figure.subplots(2, 2).ravel()
        shown = {name: values[:, :NODES] if values.ndim == 2 else values for name, values in nodes.items()}
        whose = "first replica" if "gamma_network_std" in history else "network"
        until = run.trusted_until("theory", "nodes")
        _nodes(panels[0], shown, until, "a", r"$a_i$", whose)
        _nodes(panels[1], shown, until, "w_par", r"$w^\parallel_i$", whose)
        _clock(panels[2], run)
        _satisfaction(panels[3], examples, until)
        style.letter(panels)
        for axes in panels:
            style.log_time(axes, history["t"][1], history["t"][-1])
        reached = examples["t_sat"][np.isfinite(examples["t_sat"]) & (examples["t_sat"] > 0.0)]
        if len(reached) > 0 and reached.min() < history["t"][-1]:
            panels[3].set_xlim(reached.min() / 1.5, history["t"][-1])
            style.plain_ticks(panels[3].xaxis)
    return figure


def _nodes(axes: Axes, nodes: Arrays, until: float, name: str, label: str, whose: str) -> None:
    """Trajectories of single nodes: circles, with the theory's hyperbolas as lines."""
    colours = color_sequences["tab10"]
    for i, values in enumerate(nodes[name].T):
        colour = colours[i % len(colours)]
        axes.plot(nodes["t"], values, "o", color=colour, markerfacecolor="none")
        if f"{name}_theory" in nodes:
            style.predicted(axes, nodes["t"], nodes[f"{name}_theory"][:, i], until, color=colour)
    axes.plot([], [], "o", color=style.GUIDE, markerfacecolor="none", label=whose)
    if f"{name}_theory" in nodes:
        axes.plot([], [], color=style.GUIDE, label="theory")
        style.tell_of_fading(axes, nodes["t"][-1], [until])
    axes.set_ylabel(label)
    axes.legend(loc="upper left")


def _clock(axes: Axes, run: Contents) -> None:
    """γ(t): linear at first, then logarithmic with slope ¼ in the rich regime."""
    history = run.history
    t, gamma = history["t"], history["gamma_network"]
    axes.plot(t, gamma, "o", color=style.NETWORK, markerfacecolor="none", label="network")
    style.spread(axes, history, "gamma", style.NETWORK, r"network $\pm$ std (replicas)")
    axes.set_ylabel(r"$\gamma$")
    if "gamma_theory" in history:
        theory = history["gamma_theory"]
        until = run.trusted_until("theory", "gamma")
        style.predicted(axes, t, theory, until, color=style.THEORY, label=style.named(run, "theory"))
        style.band(axes, history, "gamma_theory", until, style.THEORY, r"$\pm\sigma$ (finite $M$)")
        axes.plot(t[1:], theory[1] * t[1:] / t[1], ":", color=style.GUIDE, label=r"$\propto t$")
        if theory[-1] > 1.0:
            late = t > t[-1] / 100.0
            slope = theory[-1] + np.log(t[late] / t[-1]) / 4.0
            axes.plot(t[late], slope, "--", color=style.GUIDE, label=r"$\frac{1}{4}\ln t$")
        seen = np.concatenate([theory, gamma])
        axes.set_ylim(min(0.0, 1.1 * np.nanmin(seen)), 1.1 * np.nanmax(seen))
    others = [name for name in run.theories if name != "theory" and f"gamma_{name}" in history]
    for name, line in zip(others, itertools.cycle(style.DASHES), strict=False):
        until, label = run.trusted_until(name, "gamma"), name.replace("_", " ")
        style.predicted(axes, t, history[f"gamma_{name}"], until, linestyle=line, color=style.SECOND, label=label)
        style.band(axes, history, f"gamma_{name}", until, style.SECOND)
    shown = [name for name in run.theories if f"gamma_{name}" in history]
    style.tell_of_fading(axes, t[-1], [run.trusted_until(name, "gamma") for name in shown])
    axes.legend(loc="upper left")


def _satisfaction(axes: Axes, examples: Arrays, until: float) -> None:
    """Projection of examples against the time when they were first satisfied."""
    true = examples["x_par"] > 0
    axes.plot(examples["t_sat"][true], examples["x_par"][true], ".", color=style.NETWORK, ms=3, label="examples")
    if not true.all():
        axes.plot(
            examples["t_sat"][~true],
            -examples["x_par"][~true],
            "x",
            color=style.SECOND,
            ms=4,
            label="on the wrong side",
        )
    if "x_theory" in examples:
        t, look = examples["t"], {"color": style.THEORY, "ls": "--"}
        style.predicted(axes, t, examples["x_theory"], until, color=style.THEORY, label="theory")
        if "x_theory_lo" in examples:
            style.predicted(axes, t, examples["x_theory_lo"], until, **look, label=r"$\pm\sigma_M$")
            style.predicted(axes, t, examples["x_theory_hi"], until, **look)
        style.tell_of_fading(axes, t[-1], [until])
    axes.set_ylim(0.0, 1.05 * np.abs(examples["x_par"]).max())
    axes.set_ylabel(r"$|\hat w^*\!\cdot x|$")
    axes.legend(loc="upper right")
