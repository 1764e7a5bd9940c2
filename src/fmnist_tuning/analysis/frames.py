"""A sweep's runs as tidy frames, and metrics over seeds."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import pandas as pd

from fmnist_tuning.analysis.contrasts import interval
from fmnist_tuning.analysis.rows import FinishedRow, PrunedRow, value_of
from fmnist_tuning.metrics import CONVERGED, CURVES
from fmnist_tuning.sweeps.cost import training_macs

if TYPE_CHECKING:
    from fmnist_tuning.sweeps.arms import Arm
    from fmnist_tuning.sweeps.sweep import Sweep


@dataclass(frozen=True, eq=False)
class SweepFrames:
    """What a study knows of one sweep.

    Frames are made when they are asked for: a large study has thousands of sweeps, and most
    questions need the numbers alone.
    """

    sweep: "Sweep"  # as it was last run; a combination's arms are chosen
    rows: tuple[FinishedRow, ...]  # in the order of arms and seeds
    read_curves: Callable[[Sequence[str]], pd.DataFrame]  # `run_id`, `epoch`, `metric`, `value`
    missing: tuple[str, ...] = ()  # names of the runs that are not finished
    pruned: tuple[PrunedRow, ...] = ()  # the trials of a search that ended early
    _values: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict, init=False)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row for each finished run, in the order of arms and seeds.

        Columns: `arm` (the label), `seed`, `run_id`, `device`, every setting and metric by name,
        `overfitting_gap` and `training_macs`.
        """
        rows = []
        for arm, seed, run_id, device, metrics in self.rows:
            settings = {k: v for k, v in arm.config.model_dump(mode="json").items() if k != "seed"}
            row = {"arm": arm.label, "seed": seed, "run_id": run_id, "device": device, **settings}
            # A store may hold anything under any name.
            rows.append(row | {name: v for name, v in metrics.items() if name not in row})
        runs = pd.DataFrame(rows, columns=None if rows else ["arm", "seed", "run_id", "device"])
        if rows:
            runs["overfitting_gap"] = runs["final_train_accuracy"] - runs["final_val_accuracy"]
            macs = {arm.label: training_macs(arm.config) for arm in self.sweep.arms}
            runs["training_macs"] = runs["arm"].map(macs).astype(float)
        return runs

    @cached_property
    def curves(self) -> pd.DataFrame:
        """A row for each value of an epoch: `arm`, `seed`, `epoch`, `metric`, `value`."""
        return self._curves([*CURVES])

    @cached_property
    def epochs_to_80(self) -> pd.DataFrame:
        """The first epoch of each run that ended with a validation accuracy of 80 %.

        Columns `arm`, `seed`, `epoch`; NaN where no epoch did.
        """
        curves = self._curves(["val_accuracy"])
        first = (
            curves[curves["value"] >= CONVERGED].groupby(["arm", "seed"])["epoch"].min().to_dict()
        )
        rows = [(row.arm.label, row.seed) for row in self.rows]
        found = [(*row, first.get(row, math.nan)) for row in rows]
        return pd.DataFrame(found, columns=["arm", "seed", "epoch"])

    @cached_property
    def arms(self) -> "tuple[Arm, ...]":
        """The arms with at least one finished run, in the sweep's order."""
        return tuple(arm for arm in self.sweep.arms if arm.label in self._seeds)

    @property
    def contenders(self) -> "tuple[Arm, ...]":
        """The arms that may be a study's best: a search's trials are judged as its finalists."""
        return () if self.sweep.search else self.arms

    @property
    def seeds(self) -> int:
        """Finished seeds of the arm that has the most."""
        return max(map(len, self._seeds.values()), default=0)

    @property
    def lacking(self) -> str:
        """`exp1: 3 of 15 runs are not finished`."""
        total = len(self.missing) + len(self.rows) + len(self.pruned)
        return f"{self.sweep.id}: {len(self.missing)} of {total} runs are not finished"

    def seeds_of(self, arm: "Arm") -> list[int]:
        """The seeds of one arm's finished runs."""
        return self._seeds.get(arm.label, [])

    def by_seed(self, arms: "Iterable[Arm]", metric: str) -> dict[int, float]:
        """A metric by seed: the mean over the arms, for the seeds that all of them have finished.

        Values that were not measured or are infinite are left out.
        """
        found = [self._of_metric(metric).get(arm.label, {}) for arm in arms]
        if len(found) == 1:
            return dict(found[0])
        shared = set.intersection(*map(set, found)) if found else ()
        return {seed: fmean(values[seed] for values in found) for seed in sorted(shared)}

    def _curves(self, metrics: Sequence[str]) -> pd.DataFrame:
        keys = pd.DataFrame(
            [(row.run_id, row.arm.label, row.seed) for row in self.rows],
            columns=["run_id", "arm", "seed"],
        )
        return keys.merge(self.read_curves(metrics), on="run_id").drop(columns="run_id")

    @cached_property
    def _seeds(self) -> dict[str, list[int]]:
        seeds: dict[str, list[int]] = {}
        for row in self.rows:
            seeds.setdefault(row.arm.label, []).append(row.seed)
        return seeds

    def _of_metric(self, metric: str) -> dict[str, dict[int, float]]:
        """The finite values of a metric, by arm and seed."""
        if metric not in self._values:
            values: dict[str, dict[int, float]] = {}
            for row in sorted(self.rows, key=lambda row: row.seed):
                value = value_of(row, metric)
                if math.isfinite(value):
                    values.setdefault(row.arm.label, {})[row.seed] = value
            self._values[metric] = values
        return self._values[metric]


@dataclass(frozen=True, slots=True)
class Summary:
    """A metric of one arm over its seeds. With one seed the spread is unknown: NaN."""

    mean: float
    deviation: float  # standard deviation (n - 1)
    low: float  # ends of the mean's 95 % t interval
    high: float
    seeds: int


def summary(frames: SweepFrames, arm: "Arm", metric: str) -> Summary:
    """A metric of an arm over the seeds that measured it."""
    values = [*frames.by_seed([arm], metric).values()]
    mean = fmean(values) if values else math.nan
    deviation = stdev(values) if len(values) > 1 else math.nan
    return Summary(mean, deviation, *interval(values), seeds=len(values))
