"""A sweep's runs as tidy frames, and metrics over seeds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import pandas as pd

from fmnist_tuning.analysis.contrasts import interval
from fmnist_tuning.metrics import CONVERGED
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.cost import training_macs
from fmnist_tuning.sweeps.sweep import Sweep


@dataclass(frozen=True, slots=True)
class SweepFrames:
    """What a study knows of one sweep.

    `runs` has a row for each finished run, in the order of arms and seeds: `arm` (the label),
    `seed`, `run_id`, `device`, every setting and metric by name, `overfitting_gap`,
    `training_macs`, and `val_epochs_to_80`, the first epoch that ended with a validation accuracy
    of 80 % (NaN where none did). `curves` has a row for each value: `arm`, `seed`, `epoch`,
    `metric`, `value`.
    """

    sweep: Sweep  # as it was last run; a combination's arms are chosen
    runs: pd.DataFrame
    curves: pd.DataFrame
    missing: tuple[str, ...] = ()  # names of the runs that are not finished

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms with at least one finished run, in the sweep's order."""
        finished = set(self.runs["arm"]) if len(self.runs) else set()
        return tuple(arm for arm in self.sweep.arms if arm.label in finished)

    @property
    def seeds(self) -> int:
        """Finished seeds of the arm that has the most."""
        return int(self.runs.groupby("arm").size().max()) if len(self.runs) else 0

    @property
    def lacking(self) -> str:
        """`exp1: 3 of 15 runs are not finished`."""
        total = len(self.missing) + len(self.runs)
        return f"{self.sweep.id}: {len(self.missing)} of {total} runs are not finished"

    def arm(self, label: str) -> pd.DataFrame:
        """The finished runs of one arm, a row a seed."""
        return self.runs[self.runs["arm"] == label]

    def by_seed(self, arms: Iterable[Arm], metric: str) -> dict[int, float]:
        """A metric by seed: the mean over the arms, for the seeds that all of them have finished.

        Values that were not measured or are infinite are left out.
        """
        labels = [arm.label for arm in arms]
        if metric not in self.runs:
            return {}
        chosen = self.runs.loc[self.runs["arm"].isin(labels), ["seed", metric]].to_numpy(float)
        by_seed: dict[int, list[float]] = {}
        for seed, value in chosen:
            if math.isfinite(value):
                by_seed.setdefault(int(seed), []).append(value)
        return {
            seed: fmean(values)
            for seed, values in sorted(by_seed.items())
            if len(values) == len(labels)
        }


def build_frames(
    sweep: Sweep,
    finished: Sequence[tuple[Arm, int, str, str, Mapping[str, float]]],
    curves: pd.DataFrame,
    missing: Sequence[str] = (),
) -> SweepFrames:
    """Put a sweep's runs into frames.

    `finished` has each finished run's arm, seed, MLflow run id, device and metrics; `curves` has
    the columns `run_id`, `epoch`, `metric`, `value`, and may have rows of other runs too.
    """
    rows = []
    for arm, seed, run_id, device, metrics in finished:
        settings = {k: v for k, v in arm.config.model_dump(mode="json").items() if k != "seed"}
        row = {"arm": arm.label, "seed": seed, "run_id": run_id, "device": device, **settings}
        # A store may hold anything under any name.
        rows.append(row | {name: v for name, v in metrics.items() if name not in row})
    runs = pd.DataFrame(rows, columns=None if rows else ["arm", "seed", "run_id", "device"])
    keys = runs[["run_id", "arm", "seed"]]
    own = keys.merge(curves, on="run_id") if len(curves) else no_curves()
    if len(runs):
        runs["overfitting_gap"] = runs["final_train_accuracy"] - runs["final_val_accuracy"]
        macs = {arm.label: training_macs(arm.config) for arm in sweep.arms}
        runs["training_macs"] = runs["arm"].map(macs).astype(float)
        there = own[(own["metric"] == "val_accuracy") & (own["value"] >= CONVERGED)]
        runs["val_epochs_to_80"] = runs["run_id"].map(there.groupby("run_id")["epoch"].min())
    return SweepFrames(sweep, runs, own.drop(columns="run_id"), tuple(missing))


def no_curves() -> pd.DataFrame:
    """The curves of no runs."""
    return pd.DataFrame(columns=["run_id", "arm", "seed", "epoch", "metric", "value"])


@dataclass(frozen=True, slots=True)
class Summary:
    """A metric of one arm over its seeds. With one seed the spread is unknown: NaN."""

    mean: float
    deviation: float  # standard deviation (n - 1)
    low: float  # ends of the mean's 95 % t interval
    high: float
    seeds: int


def summary(frames: SweepFrames, arm: Arm, metric: str) -> Summary:
    """A metric of an arm over the seeds that measured it."""
    values = [*frames.by_seed([arm], metric).values()]
    mean = fmean(values) if values else math.nan
    deviation = stdev(values) if len(values) > 1 else math.nan
    return Summary(mean, deviation, *interval(values), seeds=len(values))
