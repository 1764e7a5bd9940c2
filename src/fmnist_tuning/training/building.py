"""A run's generators, network and optimizer, as they are before the first step.

Every source of randomness has its own generator, which the run's seed determines. So two arms with
one seed start from the same weights where their layers agree, and see the same images in the same
order.
"""

from enum import IntEnum
from typing import Final

import numpy as np
import torch
from torch import nn

from fmnist_tuning.data.images import Images, ImageSet
from fmnist_tuning.sweeps.choices import Initialization
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.training.averaging import Average
from fmnist_tuning.training.initialization import initialize
from fmnist_tuning.training.model import FashionCNN
from fmnist_tuning.training.state import State

FUSED: Final = {"cpu": ("Adagrad", "Adam", "AdamW", "SGD"), "cuda": ("Adam", "AdamW", "SGD")}
CAPTURABLE: Final = ("Adadelta", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop")
"""Optimizers that can keep their step count on the GPU, where a CUDA graph can advance it."""


class Stream(IntEnum):
    """The purposes of randomness; each has a stream of its own under one seed."""

    WEIGHTS = 0
    ORDER = 1
    DROPOUT = 2
    SUBSET = 3
    AUGMENTATION = 4


def generator(seed: int, stream: Stream, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one purpose, independent of those for the others (`numpy.SeedSequence`)."""
    state = np.random.SeedSequence(seed, spawn_key=(stream,)).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def select_images(data: ImageSet, seed: int, **choice: object) -> Images:
    """The images of a run; `choice` are arguments of `ImageSet.select`.

    Raises:
        DataError: When there are fewer images than the run needs.
    """
    return data.select(**choice, generator=generator(seed, Stream.SUBSET))  # type: ignore[arg-type]


def build_model(
    seed: int,
    device: torch.device,
    *,
    initialization: Initialization = "default",
    **architecture: object,
) -> FashionCNN:
    """A `FashionCNN` with the initial weights of `seed`, the same on every kind of device."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(seed, Stream.WEIGHTS).get_state())
        model = FashionCNN(
            dropout_generator=generator(seed, Stream.DROPOUT, device),
            **architecture,  # type: ignore[arg-type]
        )
    initialize(model, generator(seed, Stream.WEIGHTS), initialization=initialization)
    # Images with one channel have the same layout in both formats, so the weights' format decides.
    # This one is faster on a CPU.
    return model.to(device).to(memory_format=torch.channels_last)


def build_optimizer(
    model: nn.Module, *, optimizer: str, learning_rate: float, weight_decay: float, momentum: float
) -> torch.optim.Optimizer:
    """An optimizer by its name in `torch.optim`, in its fused form where it has one."""
    kind = next(model.parameters()).device.type
    options: dict[str, object] = {"lr": learning_rate, "weight_decay": weight_decay}
    if momentum:
        options["momentum"] = momentum
    if optimizer in FUSED.get(kind, ()):
        options["fused"] = True
    if kind == "cuda" and optimizer in CAPTURABLE:
        options["capturable"] = True
    made: torch.optim.Optimizer = getattr(torch.optim, optimizer)(model.parameters(), **options)
    return made


def build(config: RunConfig, device: torch.device) -> State:
    """A run as it is before its first step."""
    seed = config.seed
    start = config.arguments("weights")
    model = build_model(seed, device, **start, **config.arguments("network"))
    averaged = config.weight_averaging != "none"
    return State(
        model,
        build_optimizer(model, **config.arguments("optimizer")),
        order=generator(seed, Stream.ORDER),
        changes=generator(seed, Stream.AUGMENTATION),
        average=Average(model, **config.arguments("averaging")) if averaged else None,
    )
