"""The LightningModule: a network, its rescaled loss and its flow, observed at scheduled times."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import lightning
import torch

from mfnet.data import Examples, ObservedData, Task
from mfnet.drive import Batch, margins_of
from mfnet.flow import Averaged, Flow, Objective, StoppingRules, StopReason
from mfnet.losses import MarginLoss
from mfnet.network import MeanFieldNetwork
from mfnet.observables import node_projections, order_parameter
from mfnet.series import DISPLACEMENT, GAMMA, LOSS, MEAN_FORCE, SLIDING, TEST_ERROR, TRAIN_ERROR, UNSATISFIED
from mfnet.training.metrics import ErrorRate, UnsatisfiedFraction, whole_value
from mfnet.training.observation import Observation

#: What a checkpoint holds of every node.
_NODES = ("network.a", "network.w", "network.a0", "network.w0")


class MeanFieldModule(lightning.LightningModule):
    """Trains a network on the rescaled loss L = ⟨ℓ(αy(f − f₀))⟩/α² of eq. 8.

    A training step is one interval of the schedule: the flow goes from t_k to t_{k+1}, then the network is
    observed. ``trainer.global_step`` is the index k of the observation.

    Args:
        network: The network.
        loss: The margin loss ℓ.
        alpha: Scale α of the loss.
        flow: Makes the flow from an objective.
        rules: When to stop before the end of the schedule; by default, when all examples are satisfied.

    Attributes:
        observation: The latest observation, of all examples and nodes on every process.
        train_batch, test_batch: This process's examples, on the device, during a fit.
        direction: The reference direction ŵ*, likewise.
        stop_reason: How the run ended, when it has.
    """

    observation: Observation

    def __init__(
        self,
        network: MeanFieldNetwork,
        loss: MarginLoss,
        alpha: float,
        flow: Callable[[Objective], Flow],
        rules: StoppingRules | None = None,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.network, self.loss, self.alpha, self.make_flow = network, loss, alpha, flow
        self.rules = StoppingRules() if rules is None else rules
        self.stop_reason: StopReason | None = None
        self._lowest_test_error, self._displacement = math.inf, (0.0, 0.0)
        self.unsatisfied = UnsatisfiedFraction(loss.h)
        self.train_error, self.test_error = ErrorRate(), ErrorRate()

    @property
    def flow(self) -> Flow:
        """The flow, an optimizer of Lightning's."""
        flow = self.optimizers(use_pl_optimizer=False)
        assert isinstance(flow, Flow)
        return flow

    def configure_optimizers(self) -> Flow:
        """The flow on the training set."""
        flow = self.make_flow(
            Objective(self.network, self.loss, self.alpha, source=lambda _: self.train_batch, fixed=True)
        )
        flow.rules = self.rules
        return flow

    def on_fit_start(self) -> None:
        """Brings the task to the device and observes the initial network."""
        task = self.task
        self.train_batch, self.test_batch = self._batch(task.train), self._batch(task.test)
        self.direction = task.direction.to(self.device, self.network.w.dtype)
        gather = self.network.processes.gather_nodes
        self.a0, self.w_par0 = gather(self.network.a0), gather(node_projections(self.network.w0, self.direction)[0])
        squares = self.network.a0.double().square().sum() + self.network.w0.double().square().sum()
        self.size0 = math.sqrt(float(self.network.processes.sum_nodes(squares)) / self.network.M)
        self.observation = self.observe(k=0, t=0.0)

    @property
    def task(self) -> Task:
        """The whole task, during a fit."""
        return cast(ObservedData, self.trainer.datamodule).task  # type: ignore[attr-defined]  # set by fit

    def _batch(self, examples: Examples) -> Batch:
        own = Examples(*map(self.network.processes.take_rows, examples))
        x, y = own.to(self.device, self.network.w.dtype)
        return Batch(x, y, self.network.output(x, initial=True))

    def training_step(self, batch: tuple[float, float], batch_idx: int) -> None:
        """Goes through one interval of the schedule and observes its end."""
        _, until = batch
        self.optimizers().step(until=until)  # type: ignore[union-attr]  # one optimizer
        flow = self.flow
        if flow.stop_reason is not StopReason.DIVERGED:
            observation = self.observe(k=self.trainer.global_step, t=flow.t)
            if all(map(math.isfinite, observation.series.values())):
                self.observation = observation
                self.log_dict(observation.series, logger=False, prog_bar=False)
                flow.stop_reason = self._rule_that_applies(observation) or flow.stop_reason
            else:
                flow.stop_reason = StopReason.DIVERGED
        self.stop_reason = flow.stop_reason
        if self.stop_reason is not None:
            self.trainer.should_stop = True
        elif self.trainer.global_step == self.trainer.num_training_batches:
            self.stop_reason = StopReason.T_MAX

    def _rule_that_applies(self, observation: Observation) -> StopReason | None:
        """What ends the run at this observation, if anything does."""
        rules, series = self.rules, observation.series
        satisfied = 1.0 - series[UNSATISFIED.name]
        if satisfied >= rules.satisfied:
            return StopReason.ALL_SATISFIED if satisfied == 1.0 else StopReason.ENOUGH_SATISFIED
        self._lowest_test_error = min(self._lowest_test_error, series[TEST_ERROR.name])
        if rules.test_error_rise and series[TEST_ERROR.name] > rules.test_error_rise * self._lowest_test_error:
            return StopReason.TEST_ERROR_ROSE
        if rules.stationary is not None:
            (t_before, before), now = self._displacement, series[DISPLACEMENT.name]
            self._displacement = (observation.t, now)
            if before > 0.0 and math.log(now / before) < rules.stationary * math.log(observation.t / t_before):
                return StopReason.STATIONARY
        return None

    @torch.no_grad()
    def observe(self, k: int, t: float) -> Observation:
        """Everything that is reported of the present network."""
        processes = self.network.processes
        train, test = self.flow.margins(), margins_of(self.network, self.test_batch, self.alpha)
        nodes = (self.network.a.detach().clone(), *node_projections(self.network.w, self.direction))
        a, w_par, w_perp = map(processes.gather_nodes, nodes)
        loss = processes.sum_rows(self.loss(train).double().sum()) / processes.count_rows(len(train))
        series = {
            GAMMA.name: float(order_parameter(a, w_par, self.a0, self.w_par0)),
            UNSATISFIED.name: whole_value(self.unsatisfied, train),
            LOSS.name: float(loss) / self.alpha**2,
            TRAIN_ERROR.name: whole_value(self.train_error, train),
            TEST_ERROR.name: whole_value(self.test_error, test),
            DISPLACEMENT.name: self.flow.displacement() / self.size0,
        }
        if isinstance(flow := self.flow, Averaged):
            series |= {MEAN_FORCE: flow.mean_force, SLIDING: flow.sliding}
        return Observation(k, t, series, a, w_par, w_perp, processes.gather_rows(train))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves all nodes, so that any number of processes can go on; called by every process."""
        state = checkpoint["state_dict"]
        state.update({name: self.network.processes.gather_nodes(state[name]) for name in _NODES})
        checkpoint["rules"] = {"lowest_test_error": self._lowest_test_error, "displacement": self._displacement}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes this process's share of the nodes."""
        state = checkpoint["state_dict"]
        state.update({name: self.network.processes.take_nodes(state[name]) for name in _NODES})
        seen = checkpoint["rules"]
        self._lowest_test_error, self._displacement = seen["lowest_test_error"], tuple(seen["displacement"])
