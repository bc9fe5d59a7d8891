"""The LightningModule: a network, its rescaled loss and its flow, observed at scheduled times."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import lightning
import torch
from torch import Tensor

from mfnet.data import Examples, ObservedData
from mfnet.drive import Batch
from mfnet.flow import Flow, Objective, StopReason
from mfnet.losses import MarginLoss
from mfnet.network import MeanFieldNetwork
from mfnet.observables import node_projections, order_parameter
from mfnet.series import GAMMA, LOSS, TEST_ERROR, TRAIN_ERROR, UNSATISFIED
from mfnet.training.metrics import ErrorRate, UnsatisfiedFraction
from mfnet.training.observation import Observation


class MeanFieldModule(lightning.LightningModule):
    """Trains a network on the rescaled loss L = ⟨ℓ(αy(f − f₀))⟩/α² of eq. 8.

    A training step is one interval of the schedule: the flow goes from t_k to t_{k+1}, then the network is
    observed. ``trainer.global_step`` is the index k of the observation.

    Args:
        network: The network.
        loss: The margin loss ℓ.
        alpha: Scale α of the loss.
        flow: Makes the flow from an objective.

    Attributes:
        observation: The latest observation.
        train_batch, test_batch: The examples, on the device, during a fit.
        direction: The reference direction ŵ*, likewise.
        stop_reason: How the run ended, when it has.
    """

    observation: Observation

    def __init__(self, network: MeanFieldNetwork, loss: MarginLoss, alpha: float, flow: Callable[[Objective], Flow]):
        super().__init__()
        self.automatic_optimization = False
        self.network, self.loss, self.alpha, self.make_flow = network, loss, alpha, flow
        self.stop_reason: StopReason | None = None
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
        return self.make_flow(
            Objective(self.network, self.loss, self.alpha, source=lambda _: self.train_batch, fixed=True)
        )

    def on_fit_start(self) -> None:
        """Brings the task to the device and observes the initial network."""
        task = cast(ObservedData, self.trainer.datamodule).task  # type: ignore[attr-defined]  # set by fit
        self.train_batch, self.test_batch = self._batch(task.train), self._batch(task.test)
        self.direction = task.direction.to(self.device, self.network.w.dtype)
        self.w_par0, _ = node_projections(self.network.w0, self.direction)
        self.observation = self.observe(k=0, t=0.0)

    def _batch(self, examples: Examples) -> Batch:
        x, y = examples.to(self.device, self.network.w.dtype)
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
                if float(observation.train_margins.min()) >= self.loss.h:
                    flow.stop_reason = StopReason.ALL_SATISFIED
            else:
                flow.stop_reason = StopReason.DIVERGED
        self.stop_reason = flow.stop_reason
        if self.stop_reason is not None:
            self.trainer.should_stop = True
        elif self.trainer.global_step == self.trainer.num_training_batches:
            self.stop_reason = StopReason.T_MAX

    @torch.no_grad()
    def observe(self, k: int, t: float) -> Observation:
        """Everything that is reported of the present network."""
        train, test = self._margins(self.train_batch), self._margins(self.test_batch)
        w_par, w_perp = node_projections(self.network.w, self.direction)
        gamma = order_parameter(self.network.a, w_par, self.network.a0, self.w_par0)
        series = {
            GAMMA.name: float(gamma),
            UNSATISFIED.name: float(self.unsatisfied(train)),
            LOSS.name: float(self.loss(train).double().mean()) / self.alpha**2,
            TRAIN_ERROR.name: float(self.train_error(train)),
            TEST_ERROR.name: float(self.test_error(test)),
        }
        return Observation(k, t, series, self.network.a.detach().clone(), w_par, w_perp, train)

    def _margins(self, batch: Batch) -> Tensor:
        return self.alpha * batch.y * (self.network.output(batch.x) - batch.f0)
