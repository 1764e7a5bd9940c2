"""What a configuration costs: parameters, multiplications, expected time. Pure."""

import itertools
import math
from collections.abc import Iterable
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fmnist_tuning.sweeps.settings import RunConfig


VALUE_COST: Final = 200
"""Cost of each output value of a convolution beside its arithmetic, in multiply-adds: the value is
normalised, rectified and pooled, and each step waits for memory. Fitted on two cores. Trainings of
one and three blocks took 0.59 and 1.40 times as long as those of two blocks. Without pooling, two
blocks took 4.3 times as long, and the estimate is 3.1.
"""


def parameter_count(config: "RunConfig") -> int:
    """Trainable parameters of the network, without building it."""
    count = 0
    for before, after in itertools.pairwise((config.image_channels, *config.conv_channels)):
        count += before * after * config.kernel_size**2 + after
        count += 2 * after if config.use_batch_norm else 0
    return count + sum(a * b + b for a, b in _linear_layers(config))


def training_macs(config: "RunConfig") -> int:
    """Multiplications of a whole training in convolutions and linear layers; the same anywhere.

    A backward pass repeats each layer's multiplications once for the gradients of its weights, and
    once for those of its inputs, which the first layer does not need. After the last epoch, all
    training images are scored once more. Where weights are averaged, convolutions see all of them
    once more after each epoch, for batch norm. All epochs count, even if a training stops early.
    """
    blocks = [multiplications for multiplications, _ in _convolutions(config)]
    forward = sum(blocks) + sum(inputs * outputs for inputs, outputs in _linear_layers(config))
    epoch = config.train_size * (3 * forward - blocks[0]) + config.val_size * forward
    averaged = _averaged_epochs(config) if config.use_batch_norm else 0
    again = config.train_size * (forward + averaged * sum(blocks))
    return config.epochs * epoch + again


def _averaged_epochs(config: "RunConfig") -> int:
    """After how many epochs there is an average of the weights."""
    if config.weight_averaging == "none":
        return 0
    before = config.swa_start if config.weight_averaging == "swa" else 0.0
    return sum(epoch / config.epochs > before for epoch in range(1, config.epochs + 1))


def forward_cost(config: "RunConfig") -> int:
    """Cost of the forward pass of one image, in multiply-adds."""
    cost = sum(macs + values * VALUE_COST for macs, values in _convolutions(config))
    return cost + sum(a * b for a, b in _linear_layers(config))


class Estimate:
    """Expected wall times of trainings, by earlier runs on the same kind of device.

    `history` has their configurations and wall times in seconds. An estimate uses earlier runs of
    the same network if there are some, else all of them, and is proportional to their work.
    """

    def __init__(self, history: "Iterable[tuple[RunConfig, float]]") -> None:
        paces: dict[int, list[float]] = {}
        for past, seconds in history:
            paces.setdefault(forward_cost(past), []).append(seconds / work(past))
        self._same = {cost: median(found) for cost, found in paces.items()}
        every = [pace for found in paces.values() for pace in found]
        self._any = median(every) if every else math.nan

    def seconds(self, config: "RunConfig") -> float | None:
        """Expected wall time of a training in seconds; None without earlier runs."""
        pace = self._same.get(forward_cost(config), self._any)
        return None if math.isnan(pace) else pace * work(config)


def work(config: "RunConfig", *, after: int = 0) -> int:
    """Cost of a training, in the unit of `forward_cost`, once `after` epochs are finished."""
    # A backward pass costs about twice its forward pass. After the last epoch, all training images
    # are scored once more.
    epochs = config.epochs - after
    images = epochs * (3 * config.train_size + config.val_size) + config.train_size
    return images * forward_cost(config)


def _convolutions(config: "RunConfig") -> Iterable[tuple[int, int]]:
    """Multiplications and output values of each convolution, for one image."""
    size = config.image_size
    for before, after in itertools.pairwise((config.image_channels, *config.conv_channels)):
        yield size**2 * after * before * config.kernel_size**2, size**2 * after
        size = size // 2 if config.use_pooling else size


def _linear_layers(config: "RunConfig") -> Iterable[tuple[int, int]]:
    """Inputs and outputs of each linear layer."""
    size = config.image_size >> (config.num_conv_layers if config.use_pooling else 0)
    widths = (config.conv_channels[-1] * size**2, *config.fc_units, config.classes)
    return itertools.pairwise(widths)
