"""How a network's weights start."""

import math
from typing import Final

import torch
from torch import Tensor, nn

from fmnist_tuning.sweeps.choices import Initialization

DEVIATION: Final = 0.01
"""Of `normal`, as in AlexNet (Krizhevsky et al. 2012)."""


def initialize(
    model: nn.Module, generator: torch.Generator, *, initialization: Initialization
) -> None:
    """Draw weights for convolutions and linear layers, on the CPU, and set their biases to zero.

    `default` leaves what torch has drawn. `kaiming` is normal, for ReLU (He et al. 2015), `xavier`
    uniform (Glorot and Bengio 2010), `orthogonal` has a gain for ReLU (Saxe et al. 2014), and
    `normal` has one deviation for all layers.
    """
    if initialization == "default":
        return
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            _draw(layer.weight, generator, initialization)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _draw(weight: Tensor, generator: torch.Generator, initialization: Initialization) -> None:
    match initialization:
        case "kaiming":
            nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
        case "xavier":
            nn.init.xavier_uniform_(weight, generator=generator)
        case "orthogonal":
            nn.init.orthogonal_(weight, gain=math.sqrt(2), generator=generator)
        case "normal":
            nn.init.normal_(weight, std=DEVIATION, generator=generator)
