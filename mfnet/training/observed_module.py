"""What every run is to Lightning and to its callbacks, whether it trains one network or many."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import cast

import lightning

from mfnet.data import ObservedData, Task
from mfnet.ensemble import EnsembleFlow, Replicas
from mfnet.flow import Flow, StoppingRules, StopReason
from mfnet.losses import MarginLoss
from mfnet.network import MeanFieldNetwork
from mfnet.training.observation import Observation


class ObservedModule(lightning.LightningModule):
    """A module whose training step is one interval of the schedule, after which it is observed.

    ``trainer.global_step`` is the index k of the observation.

    Attributes:
        network: The nodes.
        loss: The margin loss ℓ.
        rules: When to stop before the end of the schedule.
        observation: The latest observation.
        stop_reason: How the run ended, when it has.
    """

    network: MeanFieldNetwork | Replicas
    observation: Observation

    def __init__(self, loss: MarginLoss, rules: StoppingRules | None):
        super().__init__()
        self.automatic_optimization = False
        self.loss = loss
        self.rules = StoppingRules() if rules is None else rules
        self.stop_reason: StopReason | None = None

    @property
    @abstractmethod
    def flow(self) -> Flow | EnsembleFlow:
        """The flow, an optimizer of Lightning's."""

    @property
    def task(self) -> Task:
        """The whole task, during a fit; the first replica's."""
        return cast(ObservedData, self.trainer.datamodule).task  # type: ignore[attr-defined]  # set by fit

    def _end_interval(self, reason: StopReason | None) -> None:
        """Ends the run for a reason, or when the schedule does."""
        self.stop_reason = reason
        if reason is not None:
            self.trainer.should_stop = True
        elif self.trainer.global_step == self.trainer.num_training_batches:
            self.stop_reason = StopReason.T_MAX


@dataclass
class Watch:
    """What the rules that are seen at observations remember of one network.

    Attributes:
        lowest_test_error: Lowest test error so far.
        displacement: Time and displacement of the last observation.
    """

    lowest_test_error: float = math.inf
    displacement: tuple[float, float] = (0.0, 0.0)

    def reason(
        self, rules: StoppingRules, t: float, unsatisfied: float, test_error: float, displacement: float
    ) -> StopReason | None:
        """What ends the run at this observation, if anything does."""
        if 1.0 - unsatisfied >= rules.satisfied:
            return StopReason.ALL_SATISFIED if unsatisfied == 0.0 else StopReason.ENOUGH_SATISFIED
        self.lowest_test_error = min(self.lowest_test_error, test_error)
        if rules.test_error_rise and test_error > rules.test_error_rise * self.lowest_test_error:
            return StopReason.TEST_ERROR_ROSE
        if rules.stationary is not None:
            (t_before, before), self.displacement = self.displacement, (t, displacement)
            if before > 0.0 and math.log(displacement / before) < rules.stationary * math.log(t / t_before):
                return StopReason.STATIONARY
        return None
