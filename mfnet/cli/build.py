"""What a config describes: the network, the draw of a run, the theory and the times of observation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from mfnet.record.schedule import round_to_digit
from mfnet.theory import Draw, MeanField, Trust, trust

if TYPE_CHECKING:
    from mfnet.network import MeanFieldNetwork


def network_of(config: DictConfig, **options: Any) -> MeanFieldNetwork:
    """The network with its initial nodes."""
    from mfnet.compute.seeding import generator
    from mfnet.network import MeanFieldNetwork

    source = generator(config.seed, "network")
    scales = {"a_std": config.network.a_std, "w_std": config.network.w_std}
    return MeanFieldNetwork(config.M, config.d, config.network.activation, generator=source, **scales, **options)


def with_seed(config: DictConfig, seed: int) -> DictConfig:
    """``config`` as a run of its own would have it."""
    replica = config.copy()
    replica.seed = seed
    return replica


def draw_of_run(config: DictConfig) -> Draw:
    """What a run with these settings draws, for a theory of that run."""
    import torch

    from mfnet.training.callbacks.theory_overlay import draw_of

    return draw_of(network_of(config, dtype=torch.float64), instantiate(config.data, schedule=np.zeros(1)).draw())


def mean_field(config: DictConfig) -> MeanField:
    """The mean-field solution, of the actual training set where the data have no law."""
    solution: MeanField = instantiate(config.mean_field).of_draw(lambda: draw_of_run(config))
    return solution


def observation_times(config: DictConfig) -> tuple[float, np.ndarray]:
    """The theory's unit of time, to one digit, and the observation times."""
    unit = round_to_digit(mean_field(config).time_scale)
    return unit, instantiate(config.schedule, time_scale=unit)


def trust_of(config: DictConfig, times: np.ndarray) -> list[Trust]:
    """Until when each prediction is trustworthy, between the first and the last of the times; unknown for real data."""
    solution = instantiate(config.mean_field)
    if solution.needs_draw:
        return []
    looked = np.union1d(times, np.geomspace(times[1], times[-1], 100)[1:-1]) if len(times) > 2 else times
    return trust(solution, config.M, config.N, looked)
