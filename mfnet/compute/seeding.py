"""Random numbers by (seed, purpose, step): no global state, so that a run can be cut and continued anywhere."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """A CPU generator that depends on its three keys alone; streams of different keys are independent."""
    entropy = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), step])
    return torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1)))
