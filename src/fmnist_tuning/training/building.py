"""A run's network and optimizer, as they are before the first step."""

from typing import Final

import torch
from torch import nn

from fmnist_tuning.model import FashionCNN
from fmnist_tuning.training.randomness import Stream, generator

FUSED: Final = {"cpu": ("Adagrad", "Adam", "AdamW", "SGD"), "cuda": ("Adam", "AdamW", "SGD")}
CAPTURABLE: Final = ("Adadelta", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop")
"""Optimizers that can keep their step count on the GPU, where a CUDA graph can advance it."""


def build_model(seed: int, device: torch.device, **architecture: object) -> FashionCNN:
    """A network with the initial weights of `seed`, the same on every kind of device.

    Args:
        seed: The run's seed.
        device: Where the network will train.
        **architecture: Arguments of `FashionCNN`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(seed, Stream.WEIGHTS).get_state())
        model = FashionCNN(
            dropout_generator=generator(seed, Stream.DROPOUT, device),
            **architecture,  # type: ignore[arg-type]
        )
    # Images with one channel have no layout of their own: the weights' layout decides, and this
    # one is the faster on a CPU.
    return model.to(device).to(memory_format=torch.channels_last)


def build_optimizer(
    model: nn.Module, name: str, *, learning_rate: float, weight_decay: float, momentum: float
) -> torch.optim.Optimizer:
    """An optimizer by its name in `torch.optim`, in its fused form where it has one."""
    kind = next(model.parameters()).device.type
    options: dict[str, object] = {"lr": learning_rate, "weight_decay": weight_decay}
    if momentum:
        options["momentum"] = momentum
    if name in FUSED.get(kind, ()):
        options["fused"] = True
    if kind == "cuda" and name in CAPTURABLE:
        options["capturable"] = True
    optimizer: torch.optim.Optimizer = getattr(torch.optim, name)(model.parameters(), **options)
    return optimizer
