"""What M = ∞ would do on this very training set, by a network: the prediction where no closed theory holds.

**The method.** Balanced nodes (`mfnet.theory.initial`) are trained on the run's own examples, with its activation, loss
and α, by the flow that the run has by default (`mfnet.flow.averaged`). There are M′ = 8d of them at first, and 2M′ in
another network; M′ is doubled until the two agree, or 2M′ is as large as allowed. The curves are those of 2M′, and
their bands the difference from those of M′.

The run's own nodes can be laid into it: they are carried along as passive nodes, with no part in the output, by the
averaged forces and the steps of the 2M′ nodes.

**When to use it.** Wherever examples are few: rich and late, with flipped labels, on real data, with an activation or a
loss of one's own, of which the other theories know nothing. It says nothing of what finite M does, which is the point:
what is left between it and a network is that. On infinitely many examples `mfnet.theory.MeanField` is exact and free.

**Measured** (`mfnet validate infinite-width`; d = 25, hinge, h = 1, normal inputs; to 20 natural times for α ≤ 0.05, 30
for α = 1, 60 for α = 10³): against the mean of 4 independent networks of M = 100d on the same examples ("net"), beside
the kernel closure; minimum and final test error, the largest deviation of ⟨φ̄⟩ and of the instantaneous n_u, which
chatters while examples slide (two networks of M = 100d on the same examples differ in it by up to 0.05), and seconds on
a busy core.

               minimum                final                  largest deviation of       seconds
====  ===  ===  =====  =====  =======  =====  =====  =======  ====  ====  =======  =====  ====  =======
α     N/d  ε    net    ours   closure  net    ours   closure  ⟨φ̄⟩   ours  closure  2M′/d  ours  closure
====  ===  ===  =====  =====  =======  =====  =====  =======  ====  ====  =======  =====  ====  =======
10⁻³  10   0    .0639  .0653  .0510    .0659  .0668  .0512    .005  .019  .077     32     2     0.2
10⁻³  10   .05  .101   .100   .0983    .164   .167   .121     .003  .027  .120     32     3     0.2
10⁻³  40   0    .0396  .0413  .0290    .0421  .0420  .0295    .002  .011  .048     16     3     0.6
10⁻³  40   .05  .0544  .0545  .0423    .155   .150   .0592    .003  .012  .116     16     25    1.0
0.05  10   0    .0638  .0645  .0563    .0649  .0655  .0563    .007  .035  .072     16     3     0.4
0.05  10   .05  .101   .101   .0963    .159   .156   .121     .004  .054  .070     16     4     0.8
0.05  40   0    .0386  .0390  .0385    .0416  .0420  .0400    .003  .016  .033     32     4     0.4
0.05  40   .05  .0563  .0573  .0500    .124   .117   .0915    .004  .023  .097     16     21    1.1
1     10   0    .0638  .0645  .0645    .0646  .0650  .0645    .005  .012  .036     32     4     0.6
1     10   .05  .0995  .104   .100     .152   .156   .138     .006  .031  .056     16     4     0.7
1     40   0    .0403  .0398  .0390    .0445  .0440  .0423    .003  .011  .026     32     6     1.0
1     40   .05  .0561  .0578  .0498    .122   .121   .106     .003  .023  .068     16     13    1.1
10³   10   0    .0718  .0722  .0683    .0734  .0722  .0700    .013  .036  .044     64     6     0.5
10³   10   .05  .108   .113   .104     .155   .159   .152     .017  .030  .078     64     7     0.6
10³   40   0    .0457  .0450  .0437    .0486  .0467  .0475    .005  .009  .032     64     10    1.0
10³   40   .05  .0572  .0590  .0585    .0892  .0915  .0905    .005  .011  .066     64     10    1.0
====  ===  ===  =====  =====  =======  =====  =====  =======  ====  ====  =======  =====  ====  =======

47 of 48 minima, finals and ⟨φ̄⟩ are within 5 % or 0.02 outright, all within these and 3 standard errors of the networks.

On three pairs of Fashion-MNIST (d = 784, α = 1, 2M′ = 16d; one independent network, of 10d to 20d nodes), whose test
error still falls at the end:

=====================  ====  =====  ===  =====  =====  ====================
pair                   N     M      t    net    ours   deviation of ⟨φ̄⟩, n_u
=====================  ====  =====  ===  =====  =====  ====================
sandals, sneakers      2000  8000   150  .0450  .0465  .003, .011
pullovers, coats       4000  16000  225  .1270  .1300  .003, .006
T-shirts, shirts       2000  8000   175  .1555  .1570  .008, .008
=====================  ====  =====  ===  =====  =====  ====================
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mfnet.compute.seeding import generator
from mfnet.flow.averaged import Averaged, AveragedState, expected_share
from mfnet.flow.evaluator import Batch, Evaluator
from mfnet.flow.motion import moved
from mfnet.flow.objective import Objective
from mfnet.flow.stopping import StoppingRules
from mfnet.network import ACTIVATIONS, LOSSES, MarginLoss, MeanFieldNetwork, activation_of, loss_of
from mfnet.network.networks import Nodes, precision_for
from mfnet.network.observables import ObservedSeries, node_projections
from mfnet.record.series import MEAN_FORCE, TEST_ERROR
from mfnet.record.stop_reason import StopReason
from mfnet.setup.pieces import resolved
from mfnet.theory import Curve, Draw, Theory
from mfnet.theory.arrays import Array
from mfnet.theory.cost import tell
from mfnet.theory.overlay import Nodes as Trajectories
from mfnet.theory.overlay import drawn_nodes

#: Drive evaluations of a run, about, by which its cost is told before it starts.
EVALUATIONS = 100


class _Recorded(Averaged):
    """The flow of a single network, which keeps the time and the averaged forces of every step."""

    def __init__(self, objective: Objective):
        super().__init__(objective)
        self.taken: list[tuple[float, Float[Tensor, "1 N"]]] = []

    def _turn(self, evaluator: Evaluator, state: AveragedState, *rest: Any) -> tuple[AveragedState, bool]:
        state, accepted = super()._turn(evaluator, state, *rest)
        if accepted:
            self.taken.append((state.progress[0].t, state.force))
        return state, accepted


class _Followed(NamedTuple):
    """A network that was followed: its series at the times asked for, and what passive nodes need."""

    series: dict[str, Float[Array, " T"]]
    flow: _Recorded


@dataclass(frozen=True, eq=False)
class InfiniteWidth(Theory):
    """Prediction of one run by balanced networks on its examples; without `of_draw` there is nothing to predict.

    Costs about twice a run with 2M′ nodes (M′, 2M′ and what came before), on the CPU; says so before it starts
    if that is more than seconds. A run that ends between two observations asks again, at M′ and 2M′ alone. The
    averaged forces are kept, 4 or 8 bytes an example and step.

    Args:
        alpha: Scale α; from 100 on it computes in float64.
        h: Margin h.
        activation: A name, a dotted name, or what `mfnet.network.activation_of` takes.
        loss: Likewise, `mfnet.network.loss_of`.
        a_std, w_std: Initial standard deviations A and B.
        seed: Of the run, which balanced nodes are drawn from for another purpose.
        first: M′ at first, in units of 4d.
        largest: 2M′ at most, likewise.
        rtol: Difference of the test error between M′ and 2M′, relative: root mean square over times, of the minimum,
            and at the last time.
        atol: Difference of ⟨φ̄⟩ between them, the largest; it is n_u, averaged over what slides along the margin.
        draw: The run; `of_draw` gives it.

    Raises:
        ValueError: For an argument that is not allowed.
    """

    alpha: float
    h: float = 1.0
    activation: Any = "relu"
    loss: Any = "hinge"
    a_std: float = 1.0
    w_std: float = 1.0
    seed: int = 0
    first: int = 2
    largest: int = 16
    rtol: float = 0.05
    atol: float = 0.02
    draw: Draw | None = None
    _solved: dict[bytes, tuple[_Followed, _Followed]] = field(default_factory=dict, init=False, repr=False)
    _chosen: list[int] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("first", "largest"):
            if not isinstance(value := getattr(self, name), int) or value < 1:
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1, in units of 4d nodes")
        if self.largest < 2 * self.first:
            raise ValueError(f"largest={self.largest} is below twice first={self.first}: 2M′ is compared with M′")
        for name in ("rtol", "atol"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name}={getattr(self, name)!r} must be above 0")

    def of_draw(self, draw: Callable[[], Draw]) -> InfiniteWidth:
        return replace(self, draw=draw())

    @property
    def _actual(self) -> Draw:
        if self.draw is None:
            raise ValueError("InfiniteWidth predicts one run: give it the run's draw, .of_draw(lambda: draw)")
        return self.draw

    def sizes(self, t: Float[Array, " T"]) -> tuple[int, int]:
        """(M′, 2M′) that were chosen."""
        self._solve(t)
        return self._chosen[0], 2 * self._chosen[0]

    def series(self, t: Float[Array, " T"]) -> dict[str, Curve]:
        small, large = self._solve(t)
        curves = {}
        for name, value in large.series.items():
            band = np.abs(value - small.series[name])
            curves[name] = Curve(value, value - band, value + band)
        return curves

    def nodes(
        self, t: Float[Array, " T"], a0: Float[Array, " n"], w_par0: Float[Array, " n"], w_perp0: Float[Array, " n"]
    ) -> Trajectories | None:
        flow, draw = self._solve(t)[1].flow, self._actual
        found = drawn_nodes(draw, a0, w_par0)
        if found is None:
            return None
        like = flow.objective.networks.a
        start = (torch.as_tensor(values[found])[None].to(like) for values in (draw.a0, draw.w0))
        direction = torch.as_tensor(draw.direction).to(like)[None]
        passive, rows = _Passive(flow, Nodes(*start)), []
        for until in t:
            passive.advance_to(float(until))
            a, w = passive.nodes
            rows.append([values[0].double().numpy() for values in (a, *node_projections(w, direction))])
        return Trajectories(*(np.array(column) for column in zip(*rows, strict=True)))

    def _solve(self, t: Float[Array, " T"]) -> tuple[_Followed, _Followed]:
        """The networks of M′ and 2M′ nodes; solved once for each ``t``, and M′ chosen once."""
        if t.tobytes() in self._solved:
            return self._solved[t.tobytes()]
        unit = 4 * self._actual.x.shape[1]
        M = self._chosen[0] if self._chosen else self.first * unit
        small = self._follow(M, t, tell=True)
        while True:
            large = self._follow(2 * M, t)
            if self._chosen or self.largest * unit < 4 * M or self._agree(small, large):
                break
            M, small = 2 * M, large
        self._chosen[:] = [M]
        self._solved[t.tobytes()] = small, large
        return small, large

    def _agree(self, small: _Followed, large: _Followed) -> bool:
        """Whether two networks are the same within tolerances."""
        less, more = (one.series[TEST_ERROR.name] for one in (small, large))
        resolved = 1.0 / len(self._actual.y_test)
        relative = np.abs(less - more) / np.maximum(more, resolved)
        least = abs(less.min() - more.min()) / max(more.min(), resolved)
        typical, final = np.sqrt(np.mean(relative**2)), relative[-1]
        forces = np.abs(small.series[MEAN_FORCE] - large.series[MEAN_FORCE]).max()
        return bool(max(typical, least, final) <= self.rtol and forces <= self.atol)

    def _follow(self, M: int, t: Float[Array, " T"], *, tell: bool = False) -> _Followed:
        """Trains M balanced nodes, and looks at them at times ``t``; NaN from where the flow ends for a bad reason."""
        draw, loss = self._actual, self._loss
        dtype = torch.float64 if precision_for(self.alpha) == "float64" else torch.float32
        network = MeanFieldNetwork(
            M,
            draw.x.shape[1],
            activation_of(resolved("network.activation", self.activation, ACTIVATIONS)),
            generator=generator(self.seed, "infinite width", M),
            init="balanced",
            a_std=self.a_std,
            w_std=self.w_std,
            dtype=dtype,
        )
        x, y, x_test, y_test, direction = (torch.as_tensor(each).to(dtype) for each in draw[2:7])
        flow = _Recorded(Objective(network, loss, self.alpha, lambda _: Batch(x, y), fixed=True))
        at_rest = float(loss.force(torch.full((1, 1), self.h, dtype=torch.float64))) == 0.0
        flow.rules = StoppingRules(satisfied=1.0 if at_rest else math.inf)
        if tell:
            self._tell(flow, M)
        observed = ObservedSeries(network, loss, flow.objective.alpha, direction[None])
        f0, rows = network.output(x_test, initial=True), []
        for until in t:
            ended = flow.stop_reason is not None
            if until > flow.t:
                flow.step(until=float(until))
            margins = flow.margins()
            test = self.alpha * y_test * (network.output(x_test) - f0)
            row = observed(observed.nodes(), margins, test[None])
            row[MEAN_FORCE] = np.zeros(1) if ended else flow.observed[MEAN_FORCE]  # the flow's is of before it ended
            lost = flow.stop_reason not in (None, StopReason.ALL_SATISFIED)
            rows.append({name: math.nan if lost else float(values[0]) for name, values in row.items()})
        return _Followed({name: np.array([row[name] for row in rows]) for name in rows[0]}, flow)

    def _tell(self, flow: _Recorded, M: int) -> None:
        """Says what it costs, if that is more than seconds, by the time of one pass over the examples, half a drive."""
        evaluator, nodes = flow.objective.parts()[0]
        flow.margins()  # which begins, and takes what is done once
        started = time.monotonic()
        evaluator.margins(nodes)
        seconds = 2.0 * EVALUATIONS * (time.monotonic() - started) * (M + 2 * M) / M
        what = f"infinite_width trains M={M} and {2 * M} nodes, N={evaluator.N}"
        tell(what, seconds, ", and more for each doubling")

    @property
    def _loss(self) -> MarginLoss:
        return loss_of(resolved("loss.name", self.loss, LOSSES), self.h)


class _Passive:
    """Nodes that have no part in the output, carried through the steps of a flow by the method of `Averaged`.

    Args:
        flow: The flow, which has been there.
        nodes: Where they start.
    """

    def __init__(self, flow: _Recorded, nodes: Nodes):
        self._evaluator, self._steps = flow.objective.evaluators[0], iter([*flow.taken, None])
        self._next = next(self._steps)
        self.nodes, self._change = nodes, torch.zeros(())
        self._t, self._dt, self._force = 0.0, 0.0, 0.0

    def advance_to(self, t: float) -> None:
        """Takes all steps that end by ``t``."""
        with self._evaluator.threads():
            while self._next is not None and self._next[0] <= t:
                self._take(*self._next)
                self._next = next(self._steps)

    def _take(self, t: float, force: Float[Tensor, "1 N"]) -> None:
        evaluator, dt, total = self._evaluator, t - self._t, float(force.abs().sum(dtype=torch.float64))
        n_forced = force.count_nonzero(dim=1).tolist()
        rates = evaluator.rates(self.nodes, force, n_forced)
        expected = self._change * expected_share(dt, self._dt, total, self._force)
        self.nodes = moved(evaluator.activation, self.nodes, torch.add(rates, expected, alpha=0.5), [dt])
        self._change = evaluator.rates(self.nodes, force, n_forced) - rates
        self._t, self._dt, self._force = t, dt, total
