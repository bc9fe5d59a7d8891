"""Measures how closely nodes follow each theory, and which part of their motion no theory of one direction knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from mfnet.network.observables import node_projections, r_squared, share_outside
from mfnet.record.series import UNSATISFIED
from mfnet.theory.overlay import Nodes
from mfnet.theory.prediction import Prediction
from mfnet.training.callbacks.observer import Observer, Value
from mfnet.training.observation import Observation

#: Series that this callback adds to each observation: shares of Σ|w − w₀|² that are not along ŵ*, and not in its span
#: with leading principal directions of the training inputs.
OUTSIDE, OUTSIDE_PRINCIPAL = "outside", "outside_principal"

#: Measures of agreement, one a theory: R² of a, of w∥, and of their displacements taken together.
R2_A, R2_W_PAR, R2_MOVED = "r2_a", "r2_w_par", "r2_moved"

#: Rows of a part of the inputs.
ROWS = 4096


class NodeAgreement(Observer):
    """Adds to the history, for each theory that predicts nodes, the R² of a and w∥, and the shares of other motion.

    R² = 1 − Σ(v − v̂)²/Σ(v − ⟨v⟩)² over nodes. While nodes have hardly moved, that of a and w∥ is near 1 whatever is
    predicted; that of displacements, ``r2_moved``, is the stricter measure, and says the same for every α: it does not
    change while all examples are unsatisfied.

    ``summary.json`` says under ``nodes`` until when each measure was within its tolerance, and what was seen at the
    first observation where the nodes were not.

    Args:
        n: Number of nodes that are compared; all if there are fewer.
        principal: Number of leading principal directions.
        r2: Least R² of a and of w∥ at which nodes are said to follow,
        moved: and least R² of their displacements: the one that counts where nodes are lazy.
        unsatisfied: Largest deviation of the unsatisfied fraction at which it is.
    """

    of_one_network: ClassVar[bool] = True

    def __init__(
        self, n: int = 1000, principal: int = 10, r2: float = 0.97, moved: float = 0.9, unsatisfied: float = 0.03
    ):
        self.n, self.principal, self.unsatisfied = n, principal, unsatisfied
        self.least = {R2_A: r2, R2_W_PAR: r2, R2_MOVED: moved}
        self._basis: Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._basis = None

    def observe(self, observation: Observation) -> Mapping[str, Value]:
        network, task = observation.networks, observation.tasks[0]
        if self._basis is None:
            self._basis = leading_directions(task.train.x, task.direction, self.principal).to(network.w)
        moved = observation.w[0] - network.initial_nodes.w[0]
        return {
            OUTSIDE: share_outside(moved, self._basis[:1]),
            OUTSIDE_PRINCIPAL: share_outside(moved, self._basis),
        }

    def compare(self, observation: Observation, prediction: Prediction) -> Mapping[str, float]:
        a0, w0 = (values[0] for values in observation.networks.initial_nodes)
        direction = observation.tasks[0].direction.to(w0)
        initial = (a0, *node_projections(w0, direction))
        start = Nodes(*(values[None, : self.n].double().cpu().numpy() for values in initial))
        predicted = prediction.nodes(observation.k, observation.t, start)
        if predicted is None:
            return {}
        a, w_par = (values[0, : self.n].double().cpu().numpy() for values in (observation.a, observation.w_par))
        moved = np.stack([a - start.a[0], w_par - start.w_par[0]])
        predicted_moved = np.stack([predicted.a[-1] - start.a[0], predicted.w_par[-1] - start.w_par[0]])
        return {
            R2_A: r_squared(a, predicted.a[-1]),
            R2_W_PAR: r_squared(w_par, predicted.w_par[-1]),
            R2_MOVED: r_squared(moved, predicted_moved) if observation.t > 0.0 else 1.0,
        }

    def summary(self, history: Mapping[str, Float[np.ndarray, " K"]], theories: list[str]) -> Mapping[str, Any]:
        compared = [name for name in theories if f"{R2_A}_{name}" in history]
        since = {name: np.isfinite(history[f"{R2_A}_{name}"]) for name in compared}  # of a run that it came to later
        return {
            "nodes": {
                name: self._departure({column: values[seen] for column, values in history.items()}, name)
                for name, seen in since.items()
                if seen.any()
            }
        }

    def _departure(self, history: Mapping[str, Float[np.ndarray, " K"]], theory: str) -> dict[str, Any]:
        """Until when nodes and the unsatisfied fraction followed ``theory``, and what was seen where nodes did not."""
        network, predicted = (history.get(f"{UNSATISFIED.name}_{side}") for side in ("network", theory))
        assert network is not None
        within = {measure: history[f"{measure}_{theory}"] >= least for measure, least in self.least.items()}
        if predicted is not None:  # a theory may speak of nodes alone
            within[UNSATISFIED.name] = np.abs(network - predicted) <= self.unsatisfied
        last = {name: len(holds) - 1 if holds.all() else int(np.argmin(holds)) - 1 for name, holds in within.items()}
        leaves = min(last[measure] for measure in self.least)
        departed, then = leaves + 1 < len(network), min(leaves + 1, len(network) - 1)
        return {
            "departed": departed,
            "until": float(history["t"][leaves]),
            "because": [name for name in self.least if departed and last[name] == leaves],
            "tolerance": {**self.least, UNSATISFIED.name: self.unsatisfied},
            "within_until": {name: float(history["t"][k]) for name, k in last.items()},
            **{
                f"{name}_then": float(history[f"{name}_network"][then])
                for name in (UNSATISFIED.name, OUTSIDE, OUTSIDE_PRINCIPAL)
            },
        }


def leading_directions(x: Float[Tensor, "N d"], direction: Float[Tensor, " d"], n: int) -> Float[Tensor, "k d"]:
    """An orthonormal basis: ``direction``, then what ``n`` leading principal directions of ``x`` add to its span."""
    mean, squares = x.mean(dim=0), x.new_zeros(x.shape[1], x.shape[1])
    for part in x.split(ROWS):  # which may be more than memory holds
        centred = part - mean
        squares.addmm_(centred.T, centred)
    principal = torch.linalg.eigh(squares).eigenvectors[:, -n:].flip(1)
    return torch.linalg.qr(torch.column_stack([direction, principal])).Q.T[: x.shape[1]]
