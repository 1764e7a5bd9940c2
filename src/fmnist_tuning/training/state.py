"""Everything that a training changes from epoch to epoch: what a checkpoint holds."""

from dataclasses import dataclass, field

import torch

from fmnist_tuning.metrics import EpochMetrics
from fmnist_tuning.training.averaging import Average
from fmnist_tuning.training.model import FashionCNN


@dataclass
class Progress:
    """What has been measured so far."""

    history: list[EpochMetrics] = field(default_factory=list)  # of the epochs so far
    hits: list[float] = field(default_factory=list)  # images classified correctly, per step
    seconds: float = 0.0  # of the epochs so far


@dataclass
class State:
    """A run between two epochs. Its generators are on the CPU, but for that of the dropout."""

    model: FashionCNN
    optimizer: torch.optim.Optimizer
    order: torch.Generator  # gives every epoch a new order of the images
    changes: torch.Generator  # gives every epoch the chances of its augmentation
    average: Average | None = None
    progress: Progress = field(default_factory=Progress)

    @property
    def network(self) -> FashionCNN:
        """The network that is validated and kept: the average, where there is one."""
        return self.average.network if self.average else self.model
