"""What a run learns from, and when it is observed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import lightning
import numpy as np
import torch
from jaxtyping import Float

from mfnet.data.examples import Examples
from mfnet.data.task import Task, examples_of, task_of
from mfnet.setup.errors import SettingError


class ScheduleLoader:
    """Yields the intervals (t_k, t_{k+1}) between observations; Lightning's "batches".

    Its state is the number of the next interval, so that Lightning continues a run where it stopped.

    Args:
        times: Observation times; of R runs side by side (K, R), of which intervals are lists.
    """

    def __init__(self, times: Float[np.ndarray, "K ..."]):
        self.times = times
        self._next = 0

    def __len__(self) -> int:
        return len(self.times) - 1

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        while self._next < len(self):
            k = self._next
            self._next += 1
            yield self.times[k].tolist(), self.times[k + 1].tolist()

    def state_dict(self) -> dict[str, Any]:
        return {"next": self._next}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._next = state_dict["next"]


class ObservedData(lightning.LightningDataModule):
    """A task and a schedule. To add a data set, subclass it and write `draw`, or give a function to `OwnData`.

    A network learns from the training set of the task, the same at each step. To learn online, from new examples at
    each step, write `examples_at` too; the training set of the task then is what is observed, and no step sees it. Such
    a run needs a flow of fixed steps, such as `mfnet.flow.Rotation`, and one network. It never ends for satisfied
    examples.

    Args:
        schedule: Observation times t_0 = 0 < t_1 < … < t_K in mean-field time (`mfnet.record.schedule`).

    Attributes:
        task: The task, after `setup`.
        law_known: Whether the theory knows the law of the projections (ŵ*·x, |x|) from the settings of this class.
            Otherwise it takes those of the training set that is drawn. A subclass that writes another `draw` must say
            so again.
        online: Whether it gives new examples at each step: whether the class has written `examples_at`.
    """

    task: Task
    law_known: bool = False
    online: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "examples_at" in vars(cls):
            cls.online = True
        if "draw" in vars(cls) and "law_known" not in vars(cls):
            cls.law_known = False

    def __init__(self, schedule: Float[np.ndarray, " K"]):
        super().__init__()
        self.schedule = schedule

    @abstractmethod
    def draw(self) -> Task | tuple[Any, ...]:
        """``(x, y), (x_test, y_test), direction``, or a `Task`, in tensors or arrays (`mfnet.data.task.task_of`).

        Inputs x are (N, d), labels y ±1, and the direction ŵ* is a unit vector; without one, it is that of ⟨yx⟩. It
        should give the same at each call: sizes, theory and training may each ask for it.
        """

    @property
    def origin(self) -> str:
        """What a message calls this data set."""
        return f"data {type(self).__module__}.{type(self).__qualname__}"

    def read(self) -> Task:
        """What `draw` gives, checked, in float64 on the CPU.

        Raises:
            SettingError: If it is no task.
        """
        return task_of(self.draw(), self.origin)

    def examples_at(self, step: int) -> Examples | tuple[Any, Any]:
        """New training examples ``(x, y)`` of step 0, 1, … of the flow, in tensors or arrays; the same at each call."""
        raise NotImplementedError(f"{self.origin} has a fixed training set")

    def read_at(self, step: int) -> Examples:
        """What `examples_at` gives, checked, in float64 on the CPU.

        Raises:
            SettingError: If these are no examples, or not of the dimension of the task.
        """
        with _drawing_in(torch.float32):  # within a step, Lightning has set that of the network
            examples = examples_of(self.examples_at(step), "new", self.origin)
        (_, d), (_, found) = self.task.train.x.shape, examples.x.shape
        if found != d:
            raise SettingError(f"{self.origin}: new inputs have d={found}, and those of its training set have d={d}")
        return examples

    def require_dimension(self, d: int) -> None:
        """Compares the inputs with those that a network takes, after `setup`.

        Raises:
            SettingError: If they have another dimension than ``d``.
        """
        found = self.task.train.x.shape[1]
        if found != d:
            raise SettingError(f"{self.origin}: inputs have d={found}, and the network takes d={d}; use d={found}")

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
            self.task = self.read()

    def train_dataloader(self) -> ScheduleLoader:
        return ScheduleLoader(self.schedule)


@contextmanager
def _drawing_in(dtype: torch.dtype) -> Iterator[None]:
    """Inside, tensors have this type where nothing else is said: the same generator draws other numbers in another."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
