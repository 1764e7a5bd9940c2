"""Every source of randomness has its own generator, and all of them descend from the run's seed.

So two arms with one seed start from the same weights where their layers agree, and see the same
images in the same order.
"""

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What randomness is for; each purpose has a stream of its own under one seed."""

    WEIGHTS = 0
    ORDER = 1
    DROPOUT = 2
    SUBSET = 3


def generator(seed: int, stream: Stream, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one purpose, independent of those for the others (`numpy.SeedSequence`)."""
    state = np.random.SeedSequence(seed, spawn_key=(stream,)).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))
