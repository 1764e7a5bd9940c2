"""A study's runs by arm, and the spread that they have in common."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from fmnist_tuning.analysis.spread import UNKNOWN, Spread, numbered, pooled
from fmnist_tuning.sweeps.settings import RunConfig

if TYPE_CHECKING:
    from fmnist_tuning.analysis.frames import SweepFrames

Found = TypeVar("Found")

_ALIKE: Final = (
    *("train_size", "val_size", "validation", "holdout_size"),
    *("epochs", "optimizer", "precision"),
)


class StudyFrames(dict[str, "SweepFrames"]):
    """A study's sweeps by id, and what is found out about all of them once."""

    def __init__(self, sweeps: "Mapping[str, SweepFrames]") -> None:
        super().__init__(sweeps)
        self._found: dict[str, Any] = {}

    @cached_property
    def pool(self) -> "Pool":
        """The runs of all sweeps."""
        return Pool(self.values())

    def once(self, sweep: str, find: Callable[[], Found]) -> Found:
        """The verdicts of one of the sweeps, found the first time they are asked for."""
        if sweep not in self._found:
            self._found[sweep] = find()
        found: Found = self._found[sweep]
        return found


def pool_with(frames: "SweepFrames", others: "Mapping[str, SweepFrames]") -> "Pool":
    """The runs of a study, of which `frames` is a sweep that the other ones may lack."""
    if isinstance(others, StudyFrames) and others.get(frames.sweep.id) is frames:
        return others.pool
    return Pool({**others, frames.sweep.id: frames}.values())


class Pool:
    """The runs of a study by arm, for the spread of their metrics."""

    def __init__(self, sweeps: "Iterable[SweepFrames]") -> None:
        self._arms: dict[tuple[RunConfig, str], dict[int, tuple[SweepFrames, int]]] = {}
        self._devices: dict[RunConfig, set[str]] = {}
        self._spreads: dict[object, Spread] = {}  # those that were asked for
        for frames in sweeps:
            configs = {arm.label: arm.config for arm in frames.sweep.arms}
            devices = frames.runs["device"].tolist()
            for label, rows in frames.places.items():
                for row, seed in rows:
                    arm = self._arms.setdefault((configs[label], devices[row]), {})
                    arm.setdefault(seed, (frames, row))
                    self._devices.setdefault(configs[label], set()).add(devices[row])

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


def _finite(
    runs: "Mapping[int, tuple[SweepFrames, int]]", metric: str
) -> Iterable[tuple[int, float]]:
    found = ((seed, frames.column(metric)[row]) for seed, (frames, row) in runs.items())
    return ((seed, value) for seed, value in found if math.isfinite(value))


def _alike(one: RunConfig, other: RunConfig) -> bool:
    return all(getattr(one, key) == getattr(other, key) for key in _ALIKE)
