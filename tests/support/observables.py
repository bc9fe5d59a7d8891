"""What a user writes to look at a run, well and badly."""

from __future__ import annotations

import numpy as np
import torch
from lightning.pytorch import Callback

from mfnet.theory import Curve, MeanField, Nodes, Theory
from mfnet.training import Observer


def largest(observation):
    return observation.a.abs().amax(dim=1)


def power(observation, exponent=1.0):
    return largest(observation) ** exponent


def no_number(observation):
    return float("nan")


class Twice(Observer):
    """Counts its observations, and keeps count in checkpoints."""

    def __init__(self, name):
        self.name, self.seen = name, 0

    def observe(self, observation):
        self.seen += 1
        return {self.name: np.full(observation.n_replicas, float(self.seen))}

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state_dict):
        self.seen = state_dict["seen"]


class Bad(Observer):
    """Misuses the record in one way, from the observation ``since`` on; before, it adds the series ``mine``."""

    def __init__(self, how, since=0):
        self.how, self.since = how, since

    def observe(self, observation):
        if observation.k < self.since:
            return {"mine": 1.0}
        return WAYS[self.how](observation)

    def compare(self, observation, prediction):
        return {"gamma": 1.0} if self.how == "measure" else {}

    def arrays(self, observation, predictions):
        return {"../out": {}} if self.how == "file" else {"own": {"x": [1]}} if self.how == "list" else {}

    def summary(self, history, theories):
        return {"stop_reason": 1} if self.how == "overwrites" else {"x": torch.ones(1)} if self.how == "tensor" else {}


def _raises(observation):
    raise RuntimeError("no such\nluck")


WAYS = {
    "raises": _raises,
    "shape": lambda _: {"mine": np.zeros(3)},
    "nothing": lambda _: None,
    "number": lambda _: 1.0,
    "identifier": lambda _: {"my-name": 1.0},
    "no_name": lambda _: {1: 1.0},
    "taken": lambda _: {"gamma": 1.0},
    "summary": lambda _: {"steps": 1.0},
    "later": lambda _: {"mine": 1.0, "new": 1.0},
    "missing": lambda _: {},
    "text": lambda _: {"mine": "one"},
    "complex": lambda _: {"mine": torch.tensor(1j)},
    "measure": lambda _: {"mine": 1.0},
    "file": lambda _: {"mine": 1.0},
    "list": lambda _: {"mine": 1.0},
    "overwrites": lambda _: {"mine": 1.0},
    "tensor": lambda _: {"mine": 1.0},
}


class Assigns(Callback):
    """What does not work: it says so."""

    def on_train_batch_end(self, trainer, pl_module, *_):
        pl_module.observation.series["assigned"] = 1.0


class Fails(Callback):
    """Raises at an observation."""

    def __init__(self, k):
        self.k = k

    def on_train_batch_end(self, trainer, pl_module, *_):
        if pl_module.observation.k == self.k:
            raise OSError("gone")


class Stops(Callback):
    """Ends a run at an observation."""

    def __init__(self, k):
        self.k = k

    def on_train_batch_end(self, trainer, pl_module, *_):
        trainer.should_stop = pl_module.observation.k == self.k


class Banded(Theory):
    """A theory with a band around everything that the mean-field solution says, and a series of its own."""

    def __init__(self):
        self.model = MeanField(20)

    def series(self, t):
        curves = {name: Curve(c.value, c.value - 0.1, c.value + 0.1) for name, c in self.model.series(t).items()}
        return {**curves, "largest": Curve(t, t - 1.0, t + 1.0)}

    def nodes(self, t, a0, w_par0, w_perp0):
        return self.model.nodes(t, a0, w_par0, w_perp0)

    def satisfaction(self, t):
        return self.model.satisfaction(t)


class Drawn(Banded):
    """Speaks of the actual draw, and of nodes alone."""

    def of_draw(self, draw):
        assert draw().a0.ndim == 1
        return self

    def series(self, t):
        return {}


class Wrong(Theory):
    """Returns what cannot be recorded."""

    def __init__(self, what="series"):
        self.what = what

    def series(self, t):
        if self.what == "raises":
            raise ZeroDivisionError("by 0")
        return {"gamma": t[1:]} if self.what == "series" else {}

    def nodes(self, t, a0, w_par0, w_perp0):
        return Nodes(a0, w_par0, w_perp0) if self.what == "nodes" else None

    def satisfaction(self, t):
        return 1.0 if self.what == "satisfaction" else None


class Late(Theory):
    """Fails off the schedule, where a run ends early."""

    def __init__(self):
        self.asked = 0

    def series(self, t):
        self.asked += 1
        return {"gamma": t if self.asked == 1 else t[1:]}


class Colliding(Theory):
    """Has ``x`` as its own series."""

    def __init__(self, name):
        self.name = name

    def series(self, t):
        return {self.name: t}
