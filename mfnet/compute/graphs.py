"""Many small operations as one: CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: What can be recorded: tensors to tensors, by operations that depend on their shapes and nothing else.
Function = Callable[..., tuple[Tensor, ...]]


class Recorded:
    """A function whose operations a GPU is given all at once; recorded at the first call, and anew for other shapes.

    A launch takes the host longer than a small operation takes the device (measured on an H200, 16 sub-steps of 10⁴
    examples: 1.5 ms one by one, 0.3 ms recorded).

    Args:
        function: The function. It must not wait for the device.
    """

    def __init__(self, function: Function):
        self.function = function
        self._shapes: list[tuple[torch.Size, torch.dtype]] = []

    @staticmethod
    def possible(example: Tensor) -> bool:
        """Whether functions of tensors like this one can be recorded."""
        return example.is_cuda and torch.backends.cuda.is_built()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs, which the next call overwrites."""
        shapes = [(each.shape, each.dtype) for each in inputs]
        if shapes == self._shapes:
            for own, new in zip(self._inputs, inputs, strict=True):
                own.copy_(new)
        else:
            self._record(inputs)
            self._shapes = shapes
        self._graph.replay()
        return self._outputs

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = [each.clone() for each in inputs]
        aside = torch.cuda.Stream()  # what is made at a first use, such as workspaces, must not be part of the graph
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self.function(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = self.function(*self._inputs)
