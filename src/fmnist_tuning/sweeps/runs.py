"""A run: one arm with one seed, the fingerprint that decides its reuse, and what it costs. Pure."""

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.settings import CLASSES, IMAGE_SIZE, RunConfig
from fmnist_tuning.sweeps.sweep import Sweep

TRAINING_SEMANTICS: Final = 1
"""Part of every fingerprint: count it up when a change makes the same settings mean something else
(another initialisation, another metric), and finished runs will no longer be reused for new ones.
"""

VALUE_COST: Final = 200
"""What a value that a convolution gives costs beside its arithmetic, in multiplications with
addition: it is normalised, rectified and pooled, and each pass over it waits for memory. Fitted on
two cores to trainings of one and three blocks, 0.59 and 1.40 times as long as of two; of two
without pooling, 4.3 times as long, it makes 3.1.
"""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One arm with one seed.

    Attributes:
        sweep: Id of the sweep that asks for it.
        arm: The arm of that sweep.
        config: The whole configuration, seed included.
        fingerprint: Equal for two runs exactly when they must have the same result.
    """

    sweep: str
    arm: Arm
    config: RunConfig
    fingerprint: str

    @property
    def name(self) -> str:
        """`dropout_rate=0.3 seed=0`, the run's name in MLflow."""
        return f"{self.arm.label} seed={self.config.seed}"


def runs_of(sweep: Sweep, data_digest: str) -> list[PlannedRun]:
    """The runs of one sweep: every arm, and for each arm every seed."""
    runs = []
    for arm in sweep.arms:
        for seed in sweep.seeds:
            config = arm.config.model_copy(update={"seed": seed})
            runs.append(PlannedRun(sweep.id, arm, config, fingerprint(config, data_digest)))
    return runs


def fingerprint(config: RunConfig, data_digest: str) -> str:
    """Hash of everything that decides a run's result, 16 hexadecimal digits."""
    decisive = [config.decisive(), data_digest, TRAINING_SEMANTICS]
    text = json.dumps(decisive, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parameter_count(config: RunConfig) -> int:
    """Trainable parameters of the network, without building it."""
    inputs = (1, *config.conv_channels)
    count = 0
    for before, after in zip(inputs, config.conv_channels, strict=False):
        count += before * after * config.kernel_size**2 + after
        count += 2 * after if config.use_batch_norm else 0
    widths = (_flat_features(config), *config.fc_units, CLASSES)
    return count + sum(a * b + b for a, b in itertools.pairwise(widths))


def forward_cost(config: RunConfig) -> int:
    """What one image costs on its way forward, in multiplications with addition."""
    inputs = (1, *config.conv_channels)
    cost, size = 0, IMAGE_SIZE
    for before, after in zip(inputs, config.conv_channels, strict=False):
        cost += size**2 * after * (before * config.kernel_size**2 + VALUE_COST)
        size = size // 2 if config.use_pooling else size
    widths = (_flat_features(config), *config.fc_units, CLASSES)
    return cost + sum(a * b for a, b in itertools.pairwise(widths))


def estimate_seconds(config: RunConfig, history: Sequence[tuple[RunConfig, float]]) -> float | None:
    """About how long a training will take, judged by earlier ones on the same kind of device.

    Runs of the same network decide where there are some, else all of them in proportion to the
    work they did.

    Args:
        config: The run to come.
        history: Earlier configurations, each with its training's wall time in seconds.

    Returns:
        Seconds, or None where there is no history.
    """
    paces = [(forward_cost(past), seconds / work(past)) for past, seconds in history]
    same = [pace for cost, pace in paces if cost == forward_cost(config)]
    pace = median(same or [pace for _, pace in paces]) if paces else math.nan
    return None if math.isnan(pace) else pace * work(config)


def work(config: RunConfig, *, after: int = 0) -> int:
    """What a training costs, as of `forward_cost`, once so many epochs are behind it."""
    # A backward pass costs about twice its forward pass; the training set is seen once more
    # at the end.
    epochs = config.epochs - after
    images = epochs * (3 * config.train_size + config.val_size) + config.train_size
    return images * forward_cost(config)


def _flat_features(config: RunConfig) -> int:
    size = IMAGE_SIZE >> (config.num_conv_layers if config.use_pooling else 0)
    return config.conv_channels[-1] * size**2
