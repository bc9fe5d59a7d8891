"""The hydrodynamic equation itself against networks: activations and label rules that have no closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Float

from mfnet.claims.claim import Evidence, Row, claim, near
from mfnet.claims.effort import Effort
from mfnet.claims.simulation import nodes_at, seeds, setup_of
from mfnet.figures.claims import Line, Plot
from mfnet.flow import Euler
from mfnet.setup.setup import Setup
from mfnet.theory import Hydrodynamic

#: The moment ⟨a g(v)⟩ that a rule makes grow.
MOMENTS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "sign": ("⟨a v⟩", lambda v: v[..., 0]),
    "threshold": ("⟨a v⟩", lambda v: v[..., 0]),
    "shell": ("⟨a v²⟩", lambda v: v[..., 0] ** 2),
    "xor": ("⟨a v₁v₂⟩", lambda v: v[..., 0] * v[..., 1]),
    "clusters": ("⟨a (v₁² − v₂²)⟩", lambda v: v[..., 0] ** 2 - v[..., 1] ** 2),
}

#: Times at which networks are looked at, by activation and rule; the label of an even rule moves no odd activation.
TIMES: dict[tuple[str, str], tuple[float, ...]] = {
    **{(activation, rule): (5.0, 10.0, 20.0, 40.0, 60.0) for activation in ("tanh", "erf") for rule in ("sign", "threshold")},
    **{("sigmoid", rule): (10.0, 20.0, 40.0, 60.0, 80.0) for rule in ("sign", "threshold")},
    **{("relu_squared", rule): (1.0, 2.0, 3.0, 4.0, 5.0) for rule in ("sign", "threshold", "shell", "clusters")},
    ("relu_squared", "xor"): (1.0, 2.0, 3.0, 4.0, 5.0),
    ("relu", "shell"): (20.0, 40.0, 60.0, 80.0, 100.0),
    ("relu", "xor"): (20.0, 40.0, 60.0, 80.0, 100.0),
    ("relu", "clusters"): (5.0, 10.0, 20.0, 30.0, 60.0),
    **{(activation, rule): (60.0,) for activation in ("tanh", "erf", "sigmoid") for rule in ("shell", "xor", "clusters")},
}
