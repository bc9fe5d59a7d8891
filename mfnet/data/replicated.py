"""The tasks of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence

from mfnet.data.datamodule import ObservedData
from mfnet.data.task import Task
from mfnet.setup.errors import SettingError


class ReplicatedData(ObservedData):
    """A task for each replica, all of one size; what looks at one task sees the first.

    Args:
        parts: Data of each replica, on one schedule.
    """

    def __init__(self, parts: Sequence[ObservedData]):
        super().__init__(parts[0].schedule)
        self.parts, self.law_known = parts, all(part.law_known for part in parts)

    @property
    def origin(self) -> str:
        return self.parts[0].origin

    def draw(self) -> Task:
        for part in self.parts:
            part.setup("fit")
        self._tasks = [part.task for part in self.parts]
        shapes = {(tuple(task.train.x.shape), tuple(task.test.x.shape)) for task in self._tasks}
        if len(shapes) > 1:
            found = ", ".join(f"{train} and {test}" for train, test in sorted(shapes))
            raise SettingError(f"{self.origin}: replicas need inputs of one shape, training and test, and have {found}")
        return self._tasks[0]

    @property
    def tasks(self) -> Sequence[Task]:
        return self._tasks
