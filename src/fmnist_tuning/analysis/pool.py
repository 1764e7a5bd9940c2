"""A study's runs by arm, and the spread that they have in common."""

import math
from collections.abc import Iterable, Mapping, Sequence
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
        self._devices: dict[RunConfig, set[str]] = {}
        self._spreads: dict[object, Spread] = {}  # those that were asked for
        for frames in sweeps:
            configs = {arm.label: arm.config for arm in frames.sweep.arms}
            for run in frames.runs.to_dict("records"):
                arm = self._arms.setdefault((configs[run["arm"]], run["device"]), {})
                arm.setdefault(run["seed"], run)
                self._devices.setdefault(configs[run["arm"]], set()).add(run["device"])

    def spread(self, metric: str, like: RunConfig, most: int | None = None) -> Spread:
        """The spread of a metric over the arms that are trained and judged as `like` is.

        Those have the same images, epochs, optimizer, precision and device. Of each arm the first
        `most` seeds count, so that a look finds the same spread when there are more seeds.
        """
        devices = frozenset(self._devices.get(like, ()))
        asked = metric, most, devices, tuple(getattr(like, key) for key in _ALIKE)
        if asked not in self._spreads:
            rows = [
                (place, seed, value)
                for place, ((config, device), runs) in enumerate(self._arms.items())
                if device in devices and _alike(config, like)
                for seed, value in islice(_finite(runs, metric), most)
            ]
            self._spreads[asked] = _spread(rows) if rows else UNKNOWN
        return self._spreads[asked]


def _spread(rows: Sequence[tuple[int, int, float]]) -> Spread:
    arms, seeds, values = zip(*rows, strict=True)
    return pooled(numbered(arms), numbered(seeds), np.array(values))


def _finite(runs: Mapping[int, Mapping[Any, Any]], metric: str) -> Iterable[tuple[int, float]]:
    found = ((seed, run.get(metric, math.nan)) for seed, run in runs.items())
    return ((seed, value) for seed, value in found if math.isfinite(value))


def _alike(one: RunConfig, other: RunConfig) -> bool:
    return all(getattr(one, key) == getattr(other, key) for key in _ALIKE)
