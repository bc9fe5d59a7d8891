"""The tasks of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence

from mfnet.data.datamodule import ObservedData, Task


class ReplicatedData(ObservedData):
    """A task for each replica, all of one size; what looks at one task sees the first.

    Args:
        parts: Data of each replica, on one schedule.
    """

    def __init__(self, parts: Sequence[ObservedData]):
        super().__init__(parts[0].schedule)
        self.parts = parts

    def draw(self) -> Task:
        self._tasks = [part.draw() for part in self.parts]
        return self._tasks[0]

    @property
    def tasks(self) -> Sequence[Task]:
        return self._tasks
