"""A study's runs by arm, and the spread that they have in common."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from fmnist_tuning.analysis.rows import FinishedRow, value_of
from fmnist_tuning.analysis.spread import UNKNOWN, Spread, numbered, pooled
from fmnist_tuning.sweeps.marks import For
from fmnist_tuning.sweeps.settings import RunConfig

if TYPE_CHECKING:
    from fmnist_tuning.analysis.frames import SweepFrames

_ALIKE: Final = tuple(
    name
    for name, field in RunConfig.model_fields.items()
    if For("network") not in field.metadata and name not in {"num_conv_layers", "seed"}
)
"""All settings but those of the network. Others may change how much repeats differ; and a pool that
grew with every sweep would move the looks at which earlier claims were decided.
"""


class Pool:
    """The runs of a study by arm, for the spread of their metrics."""

    def __init__(self, sweeps: "Iterable[SweepFrames]") -> None:
        self._arms: dict[tuple[RunConfig, str], dict[int, FinishedRow]] = {}
        self._devices: dict[RunConfig, set[str]] = {}
        self._spreads: dict[object, Spread] = {}  # those that were asked for
        for frames in sweeps:
            for row in frames.rows:
                arm = self._arms.setdefault((row.arm.config, row.device), {})
                arm.setdefault(row.seed, row)
                self._devices.setdefault(row.arm.config, set()).add(row.device)

    def spread(self, metric: str, likes: Sequence[RunConfig], most: int | None = None) -> Spread:
        """The spread of a metric over the arms that are trained and judged as `likes` are.

        Those have the same device and the same settings, but for those of the network. Of each arm
        the first `most` seeds count, so that a look finds the same spread when there are more. If
        `likes` differ among themselves, no spread holds for all of them, and it is unknown.
        """
        like, *rest = likes
        if not all(_alike(other, like) for other in rest):
            return UNKNOWN
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


def pool_of(sweeps: "Iterable[SweepFrames]") -> Pool:
    """The pool of some sweeps; that of the same frames is made once, as every sweep asks for it."""
    return _pool_of(tuple(sweeps))


@lru_cache(maxsize=2)
def _pool_of(sweeps: "tuple[SweepFrames, ...]") -> Pool:
    return Pool(sweeps)


def _spread(rows: Sequence[tuple[int, int, float]]) -> Spread:
    arms, seeds, values = zip(*rows, strict=True)
    return pooled(numbered(arms), numbered(seeds), np.array(values))


def _finite(runs: Mapping[int, FinishedRow], metric: str) -> Iterable[tuple[int, float]]:
    found = ((seed, value_of(row, metric)) for seed, row in runs.items())
    return ((seed, value) for seed, value in found if math.isfinite(value))


def _alike(one: RunConfig, other: RunConfig) -> bool:
    return all(getattr(one, key) == getattr(other, key) for key in _ALIKE)
