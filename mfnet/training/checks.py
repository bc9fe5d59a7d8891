"""Asks the classes that a setup names what they can do, before any work starts."""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lightning
import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import Logger

from mfnet.compute.launch import launch
from mfnet.data import ObservedData
from mfnet.flow import Flow
from mfnet.flow.surrogate import WRITTEN_OUT
from mfnet.network.networks import TILE_ELEMENTS
from mfnet.record.schedule import MOST_STEPS
from mfnet.record.series import SERIES
from mfnet.setup.checks import check_memory, check_targets, unknown
from mfnet.setup.errors import InvalidSettingError, SettingError
from mfnet.setup.pieces import Builder, name_of, told
from mfnet.setup.settings import BY_KEY
from mfnet.setup.setup import Setup
from mfnet.setup.theories import OF_ALL_NODES, OF_ONE_RUN, ON_A_FIXED_SET, refused
from mfnet.theory.prediction import Prediction
from mfnet.training.build import Pieces, activation, loss
from mfnet.training.callbacks.observer import Observer
from mfnet.training.sinks import TensorBoard
from mfnet.training.sinks.tags import FINAL, NETWORK

#: Packages that loggers of Lightning's need, each an extra of mfnet's.
NEEDS = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}

#: Copies that a step on a GPU makes, at most: of the examples by forecasts, in float32, and of the nodes.
FORECASTS, NODES = 6, 16

_ONLINE_ALONE = "data that are new at each step go with one network; use replicas=1 and a sweep over seed"


def n_processes(setup: Setup) -> int:
    """Processes of a run, on all machines."""
    devices, nodes = setup.trainer["devices"], setup.trainer["nodes"]
    assert isinstance(devices, int)
    assert isinstance(nodes, int)
    return devices * nodes


def check_pieces(pieces: Pieces) -> None:
    """Checks every class that a setup names: its kind, its arguments, and whether it goes with the others.

    Raises:
        SettingError: For the first that does not.
    """
    setup = pieces.setup
    builder = Builder(setup.config, setup.objects)
    data = _check_kind(builder, "data", ObservedData)
    if not data.law_known and setup.mean_field.get("inputs") != "empirical":
        allowed = f"{name_of(data)} has a law that the theory does not know; use mean_field.inputs=empirical"
        raise InvalidSettingError("mean_field.inputs", setup.mean_field.get("inputs"), allowed)
    flow = _check_kind(builder, "flow", Flow)
    check_targets(builder, tuple(setup.config))
    loss(setup)
    _check_flow(setup, flow, online=data.online)
    _check_callbacks(setup, builder)
    _check_loggers(setup, builder)
    _check_trainer(setup)
    check_theories(pieces, online=data.online)
    if launch().rank == 0:
        check_memory(setup.config)
        check_gpu_memory(pieces)


def check_gpu_memory(pieces: Pieces) -> None:
    """Checks that the examples and nodes of a process fit into the free memory of its GPU, if it takes one.

    The estimate counts what grows with the run: all examples, also those that are mapped from a file on the CPU, what
    forecasts make of them, and the nodes of a step with those of the last. A tile of a pass over the examples is added.

    Raises:
        InvalidSettingError: If they do not.
    """
    setup = pieces.setup
    if setup.trainer["accelerator"] == "cpu" or not torch.cuda.is_available():
        return
    config, divide, processes = setup.config, setup.trainer["divide"], n_processes(setup)
    bytes_ = 8 if pieces.precision == "float64" else 4
    n_train, n_test = (config["data"].get(key, 0) for key in ("n_train", "n_test"))
    n_train, n_test = (n // (processes if divide == "rows" else 1) for n in (n_train or setup.N, n_test))
    nodes = setup.M // (processes if divide == "nodes" else 1)
    forecasts = FORECASTS * 4 * n_train if n_train <= WRITTEN_OUT["cuda"] else 4 * n_train
    of_examples = (bytes_ * (n_train + n_test) + forecasts) * (setup.d + 2)
    needed = (
        setup.replicas * (of_examples + bytes_ * NODES * nodes * (setup.d + 1)) + 2 * bytes_ * TILE_ELEMENTS["cuda"]
    )
    free = min(_free_memory(i) for i in range(min(setup.trainer["devices"], torch.cuda.device_count())))
    if needed > free:
        raise InvalidSettingError(
            f"N={setup.N}, d={setup.d}, M",
            setup.M,
            f"needs about {needed / 2**30:.3g} GiB of a GPU's memory, and {free / 2**30:.3g} GiB are free; use "
            "trainer.accelerator=cpu, or more trainer.devices",
        )


def _free_memory(device: int) -> float:
    """Bytes of a GPU's memory that are free, or all where the driver does not say."""
    try:
        return float(torch.cuda.mem_get_info(device)[0])
    except (RuntimeError, AssertionError, AttributeError):
        return float(torch.cuda.get_device_properties(device).total_memory)


def _check_kind(builder: Builder, key: str, kind: type) -> Any:
    """The class behind a piece, which must be of a kind; or an object of that kind.

    Raises:
        InvalidSettingError: If it is not.
    """
    target = builder.target(key)
    right = issubclass(target, kind) if inspect.isclass(target) else isinstance(target, kind)
    if not right:
        wanted = f"must be a class derived from {kind.__module__.partition('.')[0]}'s {kind.__qualname__}"
        raise InvalidSettingError(f"{key}._target_", name_of(target), wanted)
    return target


def _check_flow(setup: Setup, flow: type[Flow[Any]], *, online: bool) -> None:
    """Whether the flow can follow these networks, on these data."""
    chosen = activation(setup)
    if flow.only_homogeneous and not chosen.homogeneous:
        raise InvalidSettingError(
            "network.activation", setup.network["activation"], f"{flow.only_homogeneous}; use flow=averaged"
        )
    if flow.only_one_network and setup.replicas > 1:
        raise InvalidSettingError("replicas", setup.replicas, f"{flow.only_one_network}; use flow=averaged")
    if flow.only_one_process and n_processes(setup) > 1:
        use = "use flow=rotation or flow=euler"
        raise InvalidSettingError("trainer.devices", setup.trainer["devices"], f"{flow.only_one_process}; {use}")
    if online and flow.only_fixed:
        use = "use flow=rotation, flow=euler or flow=sgd"
        raise InvalidSettingError("flow._target_", name_of(flow), f"{flow.only_fixed}; {use}")
    if online and setup.replicas > 1:
        raise InvalidSettingError("replicas", setup.replicas, _ONLINE_ALONE)


def _check_callbacks(setup: Setup, builder: Builder) -> None:
    """Whether what looks at the run can look at it."""
    refused_here = refused(setup)
    for key in callback_keys(setup):
        target = builder.target(key)
        kind = target if inspect.isclass(target) else type(target)
        if issubclass(kind, EarlyStopping):
            use = "use stop.test_error_rise=1.2, stop.stationary=0.01, stop.satisfied or schedule.t_max"
            raise InvalidSettingError(key, kind.__name__, f"looks once an epoch, and a run is one epoch; {use}")
        if issubclass(kind, Observer):
            if setup.replicas > 1 and kind.of_one_network:
                raise InvalidSettingError(key, kind.__name__, OF_ONE_RUN)
            if refused_here == OF_ALL_NODES and kind.of_all_nodes:
                raise InvalidSettingError(key, kind.__name__, refused_here)
        elif not issubclass(kind, Callback) and (inspect.isclass(target) or not callable(target)):
            wanted = "must be a callback of Lightning's, an Observer, or a function of an observation"
            raise InvalidSettingError(key, name_of(target), wanted)


def callback_keys(setup: Setup) -> Iterator[str]:
    """Where the settings name what looks at the run."""
    yield from (f"callbacks.{name}" for name in setup.callbacks)
    more = setup.trainer.get("callbacks", [])
    if not isinstance(more, list):
        raise InvalidSettingError("trainer.callbacks", more, "must be a list; or name it, +callbacks.NAME._target_=…")
    for i, entry in enumerate(more):
        if not isinstance(entry, Mapping) or "_target_" not in entry:
            raise InvalidSettingError(
                f"trainer.callbacks.{i}", entry, "must name a class, or a function, by its _target_"
            )
        yield f"trainer.callbacks.{i}"


def _check_loggers(setup: Setup, builder: Builder) -> None:
    for name in setup.logger:
        key = f"logger.{name}"
        target = builder.target(key)
        kind = target if inspect.isclass(target) else type(target)
        if not issubclass(kind, Logger | TensorBoard):
            raise InvalidSettingError(f"{key}._target_", name_of(target), "must be a logger of Lightning's")
        package = NEEDS.get(kind.__name__)
        if package is not None and importlib.util.find_spec(package) is None:
            raise InvalidSettingError("logger", name, f"needs {package}: pip install 'mfnet[{package}]'")


def _check_trainer(setup: Setup) -> None:
    """Whether options that are not mfnet's are Lightning's."""
    options = inspect.signature(lightning.Trainer).parameters
    for name, value in setup.trainer.items():
        if f"trainer.{name}" not in BY_KEY and name not in options:
            raise unknown(f"trainer.{name}", value)


def check_theories(pieces: Pieces, *, online: bool) -> None:
    """Checks that every theory that is laid over the run can be made of its settings, and go with it.

    Args:
        pieces: Of the run.
        online: Whether its data are new at each step.

    Raises:
        InvalidSettingError: For the first that cannot.
    """
    theories, why_not = pieces.theories, ON_A_FIXED_SET if online else refused(pieces.setup)
    check_names(theories.names)
    for name in theories.names:
        key = name if name == "theory" else f"overlay.{name}"
        theory = theories.named(name)
        if why_not and theory.needs_draw:
            raise InvalidSettingError(f"{key}._target_", name_of(theory), why_not)


def check_names(names: Sequence[str]) -> None:
    """Checks that each name of a theory tells its columns, arrays and TensorBoard run from all others.

    Args:
        names: ``theory``, then those of overlays.

    Raises:
        InvalidSettingError: For the first that does not.
    """
    taken = {f"{NETWORK}{end}": "a column of the network's" for end in ("", "_std", "_se")}
    taken |= {FINAL: "a run in TensorBoard", "par": "the array x_par", "theory": "the theory"}
    for name in names:
        taken |= {f"{name}_{edge}": f"the band of {name}" for edge in ("lo", "hi")}
    for name in names[1:]:
        if name in taken:
            raise InvalidSettingError("overlay", name, f"{taken[name]} has this name; name the theory otherwise")
        if not name.isidentifier():
            raise InvalidSettingError("overlay", name, "the name of a theory has letters, digits and _ only")


def check_steps(pieces: Pieces, times: Float[np.ndarray, " K"]) -> None:
    """Checks that the flow can be made of its settings, and reach the last time in a possible number of steps.

    Raises:
        InvalidSettingError: If it cannot.
    """
    flow = pieces.flow
    if not isinstance(flow, functools.partial):
        return
    _check_optimizer(flow.keywords.get("optimizer"))
    made_by: Any = flow.func
    n_steps = made_by.steps_at_least(times, **flow.keywords)
    if not n_steps <= MOST_STEPS:
        given = {name: value for name, value in pieces.setup.flow.items() if isinstance(value, int | float)}
        named = ", ".join(f"flow.{name}={value}" for name, value in given.items() if name[0] != "_")
        asked = f"{named or name_of(made_by)} to t={times[-1]:g}"
        raise SettingError(f"{asked}: would be {n_steps:.2g} steps or more, and {MOST_STEPS:.0e} are most")


def _check_optimizer(optimizer: Any) -> None:
    """Lets an optimizer of torch's look at its settings, with a parameter to try."""
    if not isinstance(optimizer, functools.partial):
        return
    lr = {} if optimizer.keywords.get("lr") is not None else {"lr": 1.0}
    try:
        optimizer([torch.zeros(1)], **lr)
    except Exception as error:  # of many kinds
        raise InvalidSettingError("flow.optimizer", name_of(optimizer.func), told(error)) from error


def check_columns(predictions: Sequence[Prediction]) -> None:
    """Checks that no two theories have a column of the history in common, as ``x`` of ``a_b`` and ``x_a`` of ``b``.

    Raises:
        InvalidSettingError: If two have.
    """
    taken = {f"{name}_{NETWORK}": NETWORK for name in SERIES}
    for prediction in predictions:
        own = type(prediction.theory).__module__.partition(".")[0] != "mfnet"
        series = {*SERIES, *(prediction.curves if own else ())}  # mfnet's are not solved for that
        for column in (f"{name}_{prediction.name}{edge}" for name in series for edge in ("", "_lo", "_hi")):
            if (other := taken.setdefault(column, prediction.name)) != prediction.name:
                key = prediction.name if prediction.name == "theory" else f"overlay.{prediction.name}"
                raise InvalidSettingError(key, name_of(prediction.theory), f"{other} has a column {column} too")


def check_devices(setup: Setup) -> None:
    """Checks that the devices asked for are there, and that as many processes can be started.

    Raises:
        InvalidSettingError: If they are not.
    """
    accelerator, devices, nodes = (setup.trainer[key] for key in ("accelerator", "devices", "nodes"))
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if accelerator == "gpu" and n_gpus == 0:
        raise InvalidSettingError("trainer.accelerator", "gpu", "no GPU is available to torch here; use auto or cpu")
    if accelerator != "cpu" and 0 < n_gpus < devices:
        raise InvalidSettingError(
            "trainer.devices", devices, f"torch sees {n_gpus} GPU here; use no more, or trainer.accelerator=cpu"
        )
    started = launch()
    if nodes > 1 and started.by not in ("torchrun", "srun"):
        problem = "start it with torchrun --nnodes on each machine, or with srun (README)"
        raise InvalidSettingError("trainer.nodes", nodes, problem)
    alone = started.by == "srun" and devices * nodes == 1  # the first task runs it
    if started.by in ("torchrun", "srun") and not alone:
        machines = started.size // started.per_node
        if (devices, nodes) != (started.per_node, machines):
            problem = f"{started.by} has started {started.per_node} on each of {machines} nodes"
            raise InvalidSettingError("trainer.devices", devices, problem)
