"""One network's evaluator on a GPU that has the units for it: passes in one kernel, whose arrays stay on the chip.

What a pass by torch writes to memory, z of all nodes and examples, costs as much there as the products themselves
(`mfnet.flow.fused_kernel`). Measured on an H200 with N = M = 10⁵, d = 100, all examples forced: milliseconds of rates
and margins under given forces, by torch's products (`mfnet.flow.streamed.Streamed`) and by the kernel, and their
errors against float64 with N = 4000, M = 400:

=========  ========  =======  ==============  ==============
precision  streamed  fused    rates           outputs
=========  ========  =======  ==============  ==============
full       166       57       1.1e-7          1.6e-7
tf32       82        25       4.3e-4          5.0e-6
bf16       105       12       1.0e-2          2.6e-3
=========  ========  =======  ==============  ==============

At full precision that is 1.4 times the rate of torch's product of large float32 matrices. Under present forces, which
take two passes, it is 95 ms for 243. Small problems cost their launches: with N = 10⁵, M = 400 given forces take 0.5 ms
for 0.8, and present ones 1.3 for 0.8.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mfnet.flow.evaluator import Evaluator
from mfnet.flow.streamed import grouped
from mfnet.network import ACTIVATIONS, Networks, Nodes

#: Nodes and examples of a launch, at most, so that what it is given and gives stays small (measured: 663 MiB in all
#: with 10⁵ of both).
LAUNCH_NODES, LAUNCH_ROWS = 2**14, 2**17

#: Compute capabilities, major, on which the kernel was measured.
MEASURED = (9,)


class Fused(Evaluator):
    """The evaluator of one network in float32; its tensors have a first dimension of 1.

    A factor of a product is the sum of three bfloat16 numbers at full precision, of two for 'tf32', which is more exact
    than TF32 itself, and one for 'bf16'.
    """

    name = "fused"

    def outputs(self, nodes: Nodes) -> Float[Tensor, "1 N"]:
        output = self._pass(nodes, None, None, outputs=True, sums=False)[0]
        return self.processes.sum_nodes(output).div_(self.networks.M)[None]

    def rates(self, nodes: Nodes, force: Float[Tensor, "1 N"], n_forced: Sequence[int]) -> Float[Tensor, "1 M k"]:
        signed = force[0] * self.y[0]
        group = grouped(signed != 0.0, n_forced[0])
        _, a, w = self._pass(nodes, group, signed, outputs=False, sums=True)
        return self._rates(nodes, a[None], w[None])

    def rates_and_margins(
        self, nodes: Nodes, force: Float[Tensor, "1 N"], n_forced: Sequence[int]
    ) -> tuple[Float[Tensor, "1 M k"], Float[Tensor, "1 N"]]:
        signed = force[0] * self.y[0]
        n_idle = len(signed) - n_forced[0]
        group = grouped(signed != 0.0, n_forced[0])
        output, a, w = self._pass(nodes, group, signed, outputs=True, sums=True)
        if n_idle > 0:
            idle = grouped(signed == 0.0, n_idle)
            output += self._pass(nodes, idle, None, outputs=True, sums=False)[0]
        rates = self._rates(nodes, a[None], w[None])
        return rates, self._margins(self.processes.sum_nodes(output).div_(self.networks.M)[None])

    def present_rates_and_margins(self, nodes: Nodes) -> tuple[Float[Tensor, "1 M k"], Float[Tensor, "1 N"]]:
        """In two passes: the forces are known when all nodes have been seen."""
        margins = self.margins(nodes)
        force = self.loss.force(margins)
        return self.rates(nodes, force, force.count_nonzero(dim=1).tolist()), margins

    def _pass(
        self,
        nodes: Nodes,
        group: Int[Tensor, " r"] | None,
        signed: Float[Tensor, " N"] | None,
        *,
        outputs: bool,
        sums: bool,
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " M"], Float[Tensor, "M d"]]:
        """Σ_i a_i σ(z_i) of the examples of a group, 0 of the others, and Σ φyσ(z), Σ φyσ′(z)x over them.

        Args:
            nodes: The nodes.
            group: Which examples; None for all.
            signed: Their φy, where sums are asked for.
            outputs, sums: What is asked for; the rest is 0.
        """
        from mfnet.flow import fused_kernel as kernel  # Triton is not everywhere

        x, y, a, w = self.x[0], self.y[0], nodes.a[0], nodes.w[0]
        parts = kernel.PARTS[self.networks.precision]
        blocks = kernel.BLOCKS[parts]
        output, sums_a, sums_w = torch.zeros_like(y), torch.zeros_like(a), torch.zeros_like(w)
        n = len(x) if group is None else len(group)
        for first in range(0, n, LAUNCH_ROWS):
            some = slice(first, first + LAUNCH_ROWS)
            rows = None if group is None else group[some]
            own, forces = (x, signed) if group is not None else (x[some], None if signed is None else signed[some])
            plain, times = kernel.split(own, parts, blocks.rows, rows=rows, factors=forces)
            forces = forces if rows is None or forces is None else forces[rows]
            seen = y.new_zeros(plain.n)
            for start in range(0, len(a), LAUNCH_NODES):
                which = slice(start, start + LAUNCH_NODES)
                weights, _ = kernel.split(w[which], parts, blocks.nodes, scale=1.0 / math.sqrt(self.networks.d))
                found = kernel.sums_of(
                    *(weights, a[which], plain, times, forces, self.activation.name, self.networks.d),
                    outputs=outputs,
                    sums=sums,
                )
                if found.outputs is not None:
                    seen += found.outputs
                if found.a is not None:
                    sums_a[which] += found.a
                if found.w is not None:
                    sums_w[which] += found.w
            if outputs:
                output[some if rows is None else rows] = seen
        return output, sums_a, sums_w


def fuses(networks: Networks, x: Float[Tensor, "N d"]) -> bool:
    """Whether `Fused` can evaluate these networks on these inputs, on a device on which that was measured."""
    if not x.is_cuda or x.dtype is not torch.float32 or torch.cuda.get_device_capability(x.device)[0] not in MEASURED:
        return False
    return works(x.device) and knows(networks)


def knows(networks: Networks) -> bool:
    """Whether the kernel knows the activation, and its programs have room for all components of an input."""
    from mfnet.flow import fused_kernel as kernel

    own = ACTIVATIONS.get(networks.activation.name) is networks.activation
    return own and networks.activation.name in kernel.KNOWN and networks.d <= kernel.MOST_INPUTS


@cache
def works(device: torch.device) -> bool:
    """Whether Triton is here and makes a kernel that runs; says why not, once, where it is and does not."""
    try:
        from mfnet.flow import fused_kernel as kernel
    except ImportError:
        return False
    try:
        kernel.split(torch.zeros(1, 1, device=device), 1, 16)
    except Exception as error:  # it needs a compiler, a folder to write to, and a driver that it knows
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"mfnet: the fused kernel does not work here, torch's products are used: {line}", file=sys.stderr)
        return False
    return True
