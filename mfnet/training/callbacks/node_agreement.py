"""Measures how closely nodes follow each theory, and which part of their motion no theory of one direction knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from mfnet.network.observables import node_projections, r_squared, share_outside
from mfnet.record.series import UNSATISFIED
from mfnet.theory import Curve
from mfnet.theory.overlay import Nodes
from mfnet.training import tags
from mfnet.training.callbacks.observer import Observer
from mfnet.training.callbacks.theory_overlay import TheoryOverlay, overlays
from mfnet.training.module import MeanFieldModule
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

    def __init__(
        self, n: int = 1000, principal: int = 10, r2: float = 0.97, moved: float = 0.9, unsatisfied: float = 0.03
    ):
        self.n, self.principal, self.unsatisfied = n, principal, unsatisfied
        self.least = {R2_A: r2, R2_W_PAR: r2, R2_MOVED: moved}
        self._row: dict[str, float] = {}
        self._basis: Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that this process, the only one that has callbacks, has all nodes."""
        assert isinstance(pl_module, MeanFieldModule)
        if pl_module.n_replicas > 1:
            raise ValueError("NodeAgreement looks at one network: leave it out, or the replicas")
        if pl_module.network.processes.divide == "nodes":
            raise ValueError("NodeAgreement needs all nodes on one process: divide the run by rows, or leave it out")

    def on_observation(self, trainer: Trainer, module: MeanFieldModule, observation: Observation) -> None:
        network = module.network
        if self._basis is None:
            self._basis = leading_directions(module.task.train.x, module.task.direction, self.principal).to(network.w)
        moved = network.w.detach() - network.w0
        observation.series[OUTSIDE] = share_outside(moved, self._basis[:1])
        observation.series[OUTSIDE_PRINCIPAL] = share_outside(moved, self._basis)
        self._row = {}
        for overlay in overlays(trainer):
            predicted = self._prediction(overlay, module, observation)
            if predicted is not None:
                measures = self._measures(module, observation, predicted)
                self._row |= {f"{measure}_{overlay.name}": value for measure, value in measures.items()}
                if trainer.logger is not None:
                    for measure, value in measures.items():
                        tags.write_curve(overlay.writer(trainer), measure, Curve(np.array([value])), observation.k)

    def columns(self) -> Mapping[str, float]:
        return self._row

    def summary(self, history: Mapping[str, Float[np.ndarray, " K"]]) -> Mapping[str, Any]:
        theories = [name.removeprefix(f"{R2_A}_") for name in history if name.startswith(f"{R2_A}_")]
        return {"nodes": {name: self._departure(history, name) for name in theories}}

    def _departure(self, history: Mapping[str, Float[np.ndarray, " K"]], theory: str) -> dict[str, Any]:
        """Until when nodes and the unsatisfied fraction followed ``theory``, and what was seen where nodes did not."""
        network, predicted = (history[f"{UNSATISFIED.name}_{side}"] for side in ("network", theory))
        within = {measure: history[f"{measure}_{theory}"] >= least for measure, least in self.least.items()}
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

    def _prediction(self, overlay: TheoryOverlay, module: MeanFieldModule, observation: Observation) -> Nodes | None:
        """Predicted nodes at the present observation; of shape (1, n)."""
        network = module.network
        initial = (network.a0, *node_projections(network.w0, module.directions[0]))
        start = Nodes(*(values[None, : self.n].double().cpu().numpy() for values in initial))
        predicted = overlay.nodes(observation.k, observation.t, start)
        return predicted and Nodes(*(values[-1:] for values in predicted))

    def _measures(self, module: MeanFieldModule, observation: Observation, predicted: Nodes) -> dict[str, float]:
        a, w_par = (values[: self.n].double().cpu().numpy() for values in (observation.a, observation.w_par))
        a0, w_par0 = (
            values[: self.n].double().cpu().numpy() for values in (module.series.a0[0], module.series.w_par0[0])
        )
        moved = np.stack([a - a0, w_par - w_par0])
        predicted_moved = np.stack([predicted.a[0] - a0, predicted.w_par[0] - w_par0])
        return {
            R2_A: r_squared(a, predicted.a[0]),
            R2_W_PAR: r_squared(w_par, predicted.w_par[0]),
            R2_MOVED: r_squared(moved, predicted_moved) if observation.t > 0.0 else 1.0,
        }


def leading_directions(x: Float[Tensor, "N d"], direction: Float[Tensor, " d"], n: int) -> Float[Tensor, "k d"]:
    """An orthonormal basis: ``direction``, then what ``n`` leading principal directions of ``x`` add to its span."""
    mean, squares = x.mean(dim=0), x.new_zeros(x.shape[1], x.shape[1])
    for part in x.split(ROWS):  # which may be more than memory holds
        centred = part - mean
        squares.addmm_(centred.T, centred)
    principal = torch.linalg.eigh(squares).eigenvectors[:, -n:].flip(1)
    return torch.linalg.qr(torch.column_stack([direction, principal])).Q.T[: x.shape[1]]
