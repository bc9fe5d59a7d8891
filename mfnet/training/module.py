"""The LightningModule: networks, their rescaled loss and their flow, observed at scheduled times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

import lightning
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mfnet.data import Examples, ObservedData, Task
from mfnet.flow import Batch, Flow, Objective, StoppingRules, StopReason
from mfnet.flow.stopping import ObservedSoFar
from mfnet.network import MeanFieldNetwork, Replicas
from mfnet.network.losses import MarginLoss
from mfnet.network.observables import ObservedSeries
from mfnet.record.series import DISPLACEMENT, TEST_ERROR, UNSATISFIED
from mfnet.setup.errors import SettingError
from mfnet.training.moment import Moment
from mfnet.training.observation import Observation

#: Why a run cannot begin.
NOT_FINITE = "what is seen at t = 0 is not finite: the initial nodes or the inputs are too large for their type"

#: What a checkpoint holds of every node.
_NODES = ("network.a", "network.w", "network.a0", "network.w0")


class MeanFieldModule(lightning.LightningModule):
    """Trains networks on the rescaled loss L = ⟨ℓ(αy(f − f₀))⟩/α² of eq. 8.

    A training step is one interval of the schedule: the flow goes from t_k to t_{k+1}, then the networks are observed.
    ``trainer.global_step`` is the index k of the observation. Replicas are trained each on the task that
    `ReplicatedData` has drawn for it. The run goes on while any of them does; one that has ended keeps the values of
    its last observation. Data that are `online` give the flow new examples at each step, and the training set of the
    task is observed alone. What callbacks can read as ``trainer.callback_metrics`` is every series, by its name.

    It goes with any trainer of Lightning's, of one epoch, and data that have a schedule:

    >>> from mfnet.data import SphericalData
    >>> from mfnet.flow import Averaged
    >>> from mfnet.network.losses import Hinge
    >>> network = MeanFieldNetwork(M=20, d=5, generator=torch.Generator().manual_seed(0))
    >>> data = SphericalData(d=5, n_train=100, n_test=100, seed=0, schedule=np.array([0.0, 0.5, 1.0]))
    >>> module = MeanFieldModule(network, Hinge(h=1.0), alpha=1.0, flow=Averaged)
    >>> quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    >>> trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", **quiet)
    >>> trainer.fit(module, datamodule=data)
    >>> str(module.stop_reason), module.observation.t, sorted(module.observation.series)[:3]
    ('t_max', 1.0, ['displacement', 'gamma', 'loss'])

    Args:
        network: The network, or `Replicas`.
        loss: The margin loss ℓ, of all or of each.
        alpha: Scale α of the loss, likewise.
        flow: Makes the flow from an objective.
        rules: When each stops before the end of the schedule; by default, when all its examples are satisfied.
        seeds: Seed of each replica, for the files.

    Attributes:
        observation: The latest observation, of all examples and nodes on every process.
        stop_reason: How the run ended, when it has.
        stepping: Whether the flow is on its way between two observations; what was seen is recorded then.
        interrupted: Whether it is to be interrupted there.
        seen, test: The loss on the observed training and test sets; a flow follows the first, unless it learns online.
        train_batches, test_batches: This process's examples of each replica, on the device, during a fit.
        directions: The reference direction ŵ* of each, likewise.
    """

    observation: Observation

    def __init__(
        self,
        network: MeanFieldNetwork | Replicas,
        loss: MarginLoss | Sequence[MarginLoss],
        alpha: float | Sequence[float] | Float[Tensor, " R"],
        flow: Callable[[Objective], Flow[Any]],
        rules: StoppingRules | None = None,
        seeds: Sequence[int] = (),
    ):
        super().__init__()
        self.automatic_optimization = False
        self.network, self.loss, self.make_flow, self.seeds = network, loss, flow, seeds
        self.rules = StoppingRules() if rules is None else rules
        self.seen = Objective(network, loss, alpha, source=lambda _: self.train_batches, fixed=True)
        self.test = Objective(network, loss, alpha, source=lambda _: self.test_batches, fixed=True)
        self.stop_reason: StopReason | None = None
        self.stepping = self.interrupted = False
        self._so_far = [ObservedSoFar()] * self.n_replicas
        self._last: dict[str, Float[np.ndarray, " R"]] = {}

    @property
    def latest(self) -> Mapping[str, Float[np.ndarray, " R"]]:
        """Every series at the latest observation, of each replica."""
        return self._last

    @property
    def moment(self) -> Moment:
        """The run at the latest observation, for its record."""
        flow = self.flow
        of_networks = (flow.objective.evaluators[0].name, str(self.network.w.dtype).removeprefix("torch."))
        return Moment(
            self.observation, self._last, flow.progress, self.stop_reason, self.alpha, self.seeds, *of_networks
        )

    @property
    def at_observation(self) -> bool:
        """Whether the networks are as they were observed and recorded, on their way to the next observation."""
        return self.stepping and [p.t for p in self.flow.progress] == self.observation.times.tolist()

    @property
    def n_replicas(self) -> int:
        """Number of replicas; 1 for a network alone."""
        return len(self.alpha)

    @property
    def alpha(self) -> Float[Tensor, " R"]:
        """Scale α of each replica."""
        return self.seen.alpha

    @property
    def flow(self) -> Flow[Any]:
        """The flow, an optimizer of Lightning's."""
        flow = self.optimizers(use_pl_optimizer=False)
        assert isinstance(flow, Flow)
        return flow

    @property
    def task(self) -> Task:
        """The whole task, during a fit; the first replica's."""
        return self._data.task

    @property
    def _data(self) -> ObservedData:
        return cast(ObservedData, self.trainer.datamodule)  # type: ignore[attr-defined]  # set by fit

    def configure_optimizers(self) -> Flow[Any]:
        """The flow on the training sets, or on new examples at each step."""
        objective = self.seen
        if self._data.online:
            objective = Objective(self.network, self.loss, self.alpha, self._new_batches, fixed=False)
        flow = self.make_flow(objective)
        flow.rules = self.rules
        return flow

    def _new_batches(self, step: int) -> list[Batch]:
        """The examples of a step of learning online."""
        return self._batches([self._data.read_at(step)])

    def on_fit_start(self) -> None:
        """Brings the tasks to the device and observes the initial networks."""
        self._data.require_dimension(self.network.d)
        tasks = self._data.tasks
        self.train_batches = self._batches([task.train for task in tasks])
        self.test_batches = self._batches([task.test for task in tasks])
        self.directions = torch.stack([task.direction for task in tasks]).to(self.device, self.network.w.dtype)
        last, self._last = self._last, {}
        self.series = ObservedSeries(self.network, self.seen.margin_loss, self.alpha, self.directions)
        if not self._observe(0, 0.0, np.ones(self.n_replicas, dtype=bool)):
            raise SettingError(NOT_FINITE)
        self._last = last or self._last  # of the checkpoint that the run goes on from

    def _batches(self, examples: Sequence[Examples]) -> list[Batch]:
        take = self.network.processes.take_rows
        own = [Examples(*map(take, each)).to(self.device, self.network.w.dtype) for each in examples]
        return [Batch(*each) for each in own]

    def training_step(self, batch: tuple[Any, Any], batch_idx: int) -> None:
        """Goes through one interval of the schedule, or one of each replica, and observes its end."""
        _, until = batch
        moving = self.moving
        if moving.any():
            self.stepping = True  # and still if it is left by an exception
            if self.interrupted:
                raise KeyboardInterrupt
            self.optimizers().step(until=until)  # type: ignore[union-attr]  # one optimizer
            self.stepping = False
            moving &= np.array([p.stop_reason is not StopReason.DIVERGED for p in self.flow.progress])
            if moving.any() and self._observe(self.trainer.global_step, self.flow.t, moving):
                seen = {name: torch.tensor(value) for name, value in self.observation.series.items()}
                self.trainer.callback_metrics.update(seen)  # ten times as fast as self.log_dict
                self._apply_rules(moving)
        self.stop_reason = self._reason()
        if self.stop_reason is not None:
            self.trainer.should_stop = True

    @property
    def moving(self) -> Bool[np.ndarray, " R"]:
        """Which replicas are on their way to the next observation."""
        return self.flow.running

    def _reason(self) -> StopReason | None:
        """How the run has ended, if it has."""
        at_the_end = self.trainer.global_step == self.trainer.num_training_batches
        return self.flow.stop_reason or (StopReason.T_MAX if at_the_end else None)

    def _apply_rules(self, moving: Bool[np.ndarray, " R"]) -> None:
        """Ends replicas for what was observed of them."""
        seen = [self.observation.replicas[series.name] for series in (UNSATISFIED, TEST_ERROR, DISPLACEMENT)]
        if not self.flow.objective.fixed:  # no training set can be satisfied
            seen[0] = np.ones(self.n_replicas)
        reasons: list[StopReason | None] = [None] * self.n_replicas
        for r in np.flatnonzero(moving):
            t, values = float(self.observation.times[r]), (float(series[r]) for series in seen)
            self._so_far[r], reasons[r] = self._so_far[r].and_now(self.rules, t, *values)
        self.flow.end(reasons)

    @torch.no_grad()
    def _observe(self, k: int, t: float, moving: Bool[np.ndarray, " R"]) -> bool:
        """Looks at the replicas that are moving; ends those that are not finite, and returns whether any is."""
        flow, nodes = self.flow, self.series.nodes()
        train = flow.margins() if flow.objective.fixed else self.seen.margins()
        new = self.series(nodes, train, self.test.margins()) | flow.observed
        finite = moving & np.isfinite(list(new.values())).all(axis=0)
        flow.end([StopReason.DIVERGED if lost else None for lost in moving & ~finite])
        if not finite.any():
            return False
        last = self._last
        self._last = {name: np.where(finite, values, last.get(name, values)) for name, values in new.items()}
        margins = self.network.processes.gather_rows(train, dim=1)
        times = np.array([p.t for p in flow.progress])
        h = float(torch.as_tensor(self.seen.margin_loss.h).flatten()[0])
        self.observation = Observation(k, t, dict(self._last), self.network, nodes, margins, self._data.tasks, times, h)
        return True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves all nodes, so that any number of processes can go on; called by every process."""
        state, gather = checkpoint["state_dict"], self.network.processes.gather_nodes
        state.update({name: gather(state[name], dim=self._node_dim) for name in _NODES})
        checkpoint["so_far"] = [asdict(so_far) for so_far in self._so_far]
        checkpoint["last"] = {name: torch.from_numpy(values) for name, values in self._last.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes this process's share of the nodes."""
        state, take = checkpoint["state_dict"], self.network.processes.take_nodes
        state.update({name: take(state[name], dim=self._node_dim) for name in _NODES})
        self._so_far = [ObservedSoFar(**so_far) for so_far in checkpoint["so_far"]]
        self._last = {name: values.numpy().copy() for name, values in checkpoint["last"].items()}

    @property
    def _node_dim(self) -> int:
        """Dimension of the nodes in the parameters."""
        return self.network.a.ndim - 1
