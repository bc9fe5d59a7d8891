"""The LightningModule of an ensemble: replicas that are trained side by side and observed together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mfnet.data import Examples, ReplicatedData
from mfnet.ensemble import Batches, EnsembleAveraged, EnsembleFlow, Replicas
from mfnet.ensemble.drive import Nodes, outputs
from mfnet.ensemble.problem import root_mean_square
from mfnet.flow import StoppingRules, StopReason
from mfnet.losses import MarginLoss
from mfnet.network import MeanFieldNetwork
from mfnet.observables import error_count, node_projections, order_parameter, unsatisfied_count
from mfnet.series import DISPLACEMENT, GAMMA, LOSS, MEAN_FORCE, SLIDING, TEST_ERROR, TRAIN_ERROR, UNSATISFIED
from mfnet.training.observation import EnsembleObservation
from mfnet.training.observed_module import ObservedModule, Watch

#: Makes the flow from replicas, loss, the scale α of each, and what gives their examples.
MakeFlow = Callable[[Replicas, MarginLoss, Tensor, Callable[[], Batches]], EnsembleFlow]


class EnsembleModule(ObservedModule):
    """Trains R networks, each on the task that `ReplicatedData` has drawn for it, as `MeanFieldModule` trains one.

    The run goes on while any replica does; one that has ended keeps the values of its last observation.

    Args:
        networks: The networks.
        loss: The margin loss ℓ.
        alpha: Scale α of the loss of each.
        flow: Makes the flow.
        seeds: Seed of each, for the files.
        rules: When each stops before the end of the schedule; by default, when all its examples are satisfied.

    Attributes:
        train_batches, test_batches: All examples, on the device, during a fit.
        directions: The reference directions ŵ*, likewise.
    """

    network: Replicas
    observation: EnsembleObservation

    def __init__(
        self,
        networks: Sequence[MeanFieldNetwork],
        loss: MarginLoss,
        alpha: Float[Tensor, " R"],
        flow: MakeFlow,
        seeds: Sequence[int],
        rules: StoppingRules | None = None,
    ):
        super().__init__(loss, rules)
        self.network, self.alpha, self.make_flow, self.seeds = Replicas(networks), alpha, flow, seeds
        self._watches = [Watch() for _ in networks]
        self._values: dict[str, Tensor] = {}

    @property
    def flow(self) -> EnsembleFlow:
        """The flow, an optimizer of Lightning's."""
        flow = self.optimizers(use_pl_optimizer=False)
        assert isinstance(flow, EnsembleFlow)
        return flow

    def configure_optimizers(self) -> EnsembleFlow:
        """The flow on the training sets."""
        flow = self.make_flow(self.network, self.loss, self.alpha, lambda: self.train_batches)
        flow.rules = self.rules
        return flow

    def on_fit_start(self) -> None:
        """Brings the tasks to the device and observes the initial networks."""
        tasks = cast(ReplicatedData, self.trainer.datamodule).tasks  # type: ignore[attr-defined]  # set by fit
        self.train_batches = self._batches([task.train for task in tasks])
        self.test_batches = self._batches([task.test for task in tasks])
        self.directions = torch.stack([task.direction for task in tasks]).to(self.device, self.network.w.dtype)
        seen, self._values = self._values, {}
        self.observation = self.observe(0, 0.0, torch.ones(len(tasks), dtype=torch.bool))
        if seen:  # the run goes on from a checkpoint
            self._values = seen

    def _batches(self, examples: Sequence[Examples]) -> Batches:
        x, y = (torch.stack(part).to(self.device, self.network.w.dtype) for part in zip(*examples, strict=True))
        return Batches(x, y, outputs(self.network.activation, Nodes(self.network.a0, self.network.w0), x))

    def training_step(self, batch: tuple[float, float], batch_idx: int) -> None:
        """Goes through one interval of the schedule and observes its end."""
        _, until = batch
        flow = self.flow
        moving = flow.running
        if not bool(moving.any()):
            return self._end_interval(flow.stop_reason)
        self.optimizers().step(until=until)  # type: ignore[union-attr]  # one optimizer
        moving &= torch.tensor([reason is not StopReason.DIVERGED for reason in flow.stop_reasons])
        if bool(moving.any()):
            self.observation = self.observe(self.trainer.global_step, flow.t, moving)
            self.log_dict(self.observation.series, logger=False, prog_bar=False)
            self._apply_rules(moving)
        self._end_interval(flow.stop_reason)

    def _apply_rules(self, moving: Bool[Tensor, " R"]) -> None:
        """Ends replicas for what was observed of them."""
        flow, rules, (t, values) = self.flow, self.rules, (self.observation.t, self.observation.replicas)
        for r in moving.nonzero().squeeze(1).tolist():
            if flow.stop_reasons[r] is not StopReason.DIVERGED:
                seen = (float(values[s.name][r]) for s in (UNSATISFIED, TEST_ERROR, DISPLACEMENT))
                reason = self._watches[r].reason(rules, t, *seen)
                flow.stop_reasons[r] = reason or flow.stop_reasons[r]

    @torch.no_grad()
    def observe(self, k: int, t: float, moving: Bool[Tensor, " R"]) -> EnsembleObservation:
        """What is reported of the replicas, looking anew at those that are ``moving``; what is not finite ends one."""
        flow, network, margins = self.flow, self.network, self.flow.margins()
        with flow.threads():
            new = self._series(moving.nonzero().squeeze(1).to(self.device), margins)
        if isinstance(flow, EnsembleAveraged):
            new |= {MEAN_FORCE: flow.mean_force[moving], SLIDING: flow.sliding[moving]}
        finite = torch.stack(list(new.values())).isfinite().all(dim=0)
        for r in moving.nonzero().squeeze(1)[~finite].tolist():
            flow.stop_reasons[r] = StopReason.DIVERGED
        seen = moving.nonzero().squeeze(1)[finite]
        for name, values in new.items():
            self._values.setdefault(name, torch.zeros(len(network), dtype=torch.float64))[seen] = values[finite]
        replicas = {name: values.numpy().copy() for name, values in self._values.items()}
        means = {name: float(np.mean(values)) for name, values in replicas.items()}
        first = network.a[0].clone(), *node_projections(network.w[0], self.directions[0])
        return EnsembleObservation(k, t, means, *first, margins[0].clone(), replicas, flow.times.numpy().copy())

    def _series(self, there: Int[Tensor, " r"], margins: Float[Tensor, "R N"]) -> dict[str, Float[Tensor, " r"]]:
        """Series of some replicas, on the host."""
        network, directions = self.network, self.directions[there]
        nodes, train = Nodes(network.a[there], network.w[there]), margins[there]
        x, y, f0 = (values[there] for values in self.test_batches)
        alpha = self.alpha.to(x)[there, None]
        test = alpha * y * (outputs(network.activation, nodes, x) - f0)
        w_par, w_par0 = (torch.vmap(node_projections)(w, directions)[0] for w in (nodes.w, network.w0[there]))
        initial = Nodes(network.a0[there], network.w0[there])
        moved = Nodes(nodes.a - initial.a, nodes.w - initial.w)
        unsatisfied = torch.vmap(lambda m: unsatisfied_count(m, self.loss.h))
        errors = torch.vmap(error_count)
        series = {
            GAMMA.name: torch.vmap(order_parameter)(nodes.a, w_par, network.a0[there], w_par0),
            UNSATISFIED.name: unsatisfied(train).double() / train.shape[1],
            LOSS.name: self.loss(train).double().mean(dim=1) / self.alpha.to(self.device)[there].square(),
            TRAIN_ERROR.name: errors(train).double() / train.shape[1],
            TEST_ERROR.name: errors(test).double() / test.shape[1],
            DISPLACEMENT.name: root_mean_square(moved) / root_mean_square(initial),
        }
        return {name: values.double().cpu() for name, values in series.items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves what was last seen of each replica."""
        checkpoint["rules"] = [asdict(watch) for watch in self._watches]
        checkpoint["values"] = self._values

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores it."""
        self._watches = [Watch(**watch) for watch in checkpoint["rules"]]
        self._values = checkpoint["values"]
