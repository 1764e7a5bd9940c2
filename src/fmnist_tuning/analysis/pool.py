"""A study's runs by arm, and the spread that they have in common."""

import math
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fmnist_tuning.analysis.spread import UNKNOWN, Spread, numbered, pooled
from fmnist_tuning.sweeps.settings import RunConfig

if TYPE_CHECKING:
    from fmnist_tuning.analysis.frames import SweepFrames

_ALIKE: Final = (
    *("train_size", "val_size", "validation", "holdout_size"),
    *("epochs", "optimizer", "precision"),
)


class Pool:
    """The runs of a study by arm, for the spread of their metrics."""

    def __init__(self, sweeps: "Iterable[SweepFrames]") -> None:
        self._arms: dict[tuple[RunConfig, str], dict[int, Mapping[Any, Any]]] = {}
        for frames in sweeps:
            configs = {arm.label: arm.config for arm in frames.sweep.arms}
            for run in frames.runs.to_dict("records"):
                arm = self._arms.setdefault((configs[run["arm"]], run["device"]), {})
                arm.setdefault(run["seed"], run)

    def spread(self, metric: str, like: RunConfig, most: int | None = None) -> Spread:
        """The spread of a metric over the arms that are trained and judged as `like` is.

        Those have the same images, epochs, optimizer, precision and device. Of each arm the first
        `most` seeds count, so that a look finds the same spread when there are more seeds.
        """
        devices = {device for config, device in self._arms if config == like}
        rows = [
            (place, seed, value)
            for place, ((config, device), runs) in enumerate(self._arms.items())
            if device in devices and _alike(config, like)
            for seed, value in islice(_finite(runs, metric), most)
        ]
        if not rows:
            return UNKNOWN
        arms, seeds, values = zip(*rows, strict=True)
        return pooled(numbered(arms), numbered(seeds), np.array(values))


def _finite(runs: Mapping[int, Mapping[Any, Any]], metric: str) -> Iterable[tuple[int, float]]:
    found = ((seed, run.get(metric, math.nan)) for seed, run in runs.items())
    return ((seed, value) for seed, value in found if math.isfinite(value))


def _alike(one: RunConfig, other: RunConfig) -> bool:
    return all(getattr(one, key) == getattr(other, key) for key in _ALIKE)
