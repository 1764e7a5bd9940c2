"""What each setting of a training costs: epochs with it beside epochs without it, in turn.

    python benchmarks/settings_cost.py [--rounds 5] [--images 6000]

One process and one thread, the base configuration. An epoch has its training, its validation on
2,000 images and, with averaged weights, the pass that brings batch norms up to date. Prints the
ratio of each setting's epoch to the plain one's of the same round: the median, and the range.
"""

import argparse
import itertools
import time
from statistics import median
from typing import Any

import torch

from fmnist_tuning.data.files import find
from fmnist_tuning.running.events import EpochEnded
from fmnist_tuning.running.trainer import Trainer
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.runs import PlannedRun
from fmnist_tuning.sweeps.settings import RunConfig

SETTINGS: list[dict[str, Any]] = [
    {},
    {"schedule": "cosine"},
    {"schedule": "one_cycle"},
    {"weight_averaging": "ema"},
    {"weight_averaging": "swa", "swa_start": 0.0},
    {"augmentation": "flip"},
    {"augmentation": "shift"},
    {"augmentation": "rotate"},
    {"augmentation": "erase"},
    {"augmentation": "flip_shift_rotate_erase"},
    {"label_smoothing": 0.1},
    {"gradient_clip": 1.0},
    {"initialization": "orthogonal"},
]


def epoch_seconds(trainer: Trainer, images: int, settings: dict[str, Any]) -> list[float]:
    """Wall seconds of two epochs, from one's end to the next one's; the first starts everything."""
    config = RunConfig(**{"epochs": 3, "train_size": images, "val_size": 2_000, **settings})
    run = PlannedRun("cost", Arm(None, {}, config), config, "")
    ends = []
    for news in trainer.train(run, None, None):
        if isinstance(news.event, EpochEnded):
            ends.append(time.perf_counter())
    return [later - earlier for earlier, later in itertools.pairwise(ends)]


def main() -> None:
    """Measure all of them, in turn."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--images", type=int, default=6_000)
    chosen = options.parse_args()
    trainer = Trainer({"fashion_mnist": find().arrays}, "cpu")
    ratios: dict[str, list[float]] = {}
    for _ in range(chosen.rounds):
        plain = 0.0
        for settings in SETTINGS:
            seconds = min(epoch_seconds(trainer, chosen.images, settings))
            plain = plain or seconds
            name = ", ".join(f"{key}: {value}" for key, value in settings.items()) or "plain"
            ratios.setdefault(name, []).append(seconds / plain)
    print(f"torch {torch.__version__}, {trainer.environment.processor}, {chosen.rounds} rounds")
    print("| setting | an epoch takes |\n| --- | ---: |")
    for name, found in ratios.items():
        low, high = min(found), max(found)
        print(f"| `{name}` | × {median(found):.2f} ({low:.2f} to {high:.2f}) |")


if __name__ == "__main__":
    main()
