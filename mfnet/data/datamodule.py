"""What a run learns from, and when it is looked at."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import lightning
import numpy as np
from jaxtyping import Float
from torch import Tensor

from mfnet.data.examples import Examples


class Task(NamedTuple):
    """Training and test examples, and the reference direction ŵ*, a unit vector."""

    train: Examples
    test: Examples
    direction: Float[Tensor, " d"]


class ScheduleLoader:
    """Yields the intervals (t_k, t_{k+1}) between observations; Lightning's "batches".

    Its state is the number of the next interval, so that Lightning continues a run where it stopped.
    """

    def __init__(self, times: Float[np.ndarray, " K"]):
        self.times = times
        self._next = 0

    def __len__(self) -> int:
        return len(self.times) - 1

    def __iter__(self) -> Iterator[tuple[float, float]]:
        while self._next < len(self):
            k = self._next
            self._next += 1
            yield float(self.times[k]), float(self.times[k + 1])

    def state_dict(self) -> dict[str, Any]:
        return {"next": self._next}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._next = state_dict["next"]


class ObservedData(lightning.LightningDataModule):
    """A task and a schedule. To add a data set, subclass it and write `draw`.

    Args:
        schedule: Observation times t_0 = 0 < t_1 < … < t_K in mean-field time (`mfnet.record.schedule`).
    """

    task: Task

    def __init__(self, schedule: Float[np.ndarray, " K"]):
        super().__init__()
        self.schedule = schedule

    @abstractmethod
    def draw(self) -> Task:
        """The examples, in float64 on the CPU; called once, before training."""

    @property
    def tasks(self) -> Sequence[Task]:
        """The task of every replica."""
        return [self.task]

    @property
    def fitted(self) -> Mapping[str, np.ndarray]:
        """What was fitted to the training set, and is saved with the run; by default nothing."""
        return {}

    def setup(self, stage: str) -> None:
        if not hasattr(self, "task"):
            self.task = self.draw()

    def train_dataloader(self) -> ScheduleLoader:
        return ScheduleLoader(self.schedule)
