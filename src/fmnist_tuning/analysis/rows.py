"""The runs of a sweep that have ended, one by one."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from fmnist_tuning.metrics import GAP
from fmnist_tuning.sweeps.cost import training_macs

if TYPE_CHECKING:
    from fmnist_tuning.sweeps.arms import Arm


class FinishedRow(NamedTuple):
    """A finished run of a sweep."""

    arm: "Arm"
    seed: int
    run_id: str  # MLflow's
    device: str
    metrics: Mapping[str, float]


class PrunedRow(NamedTuple):
    """A trial of a search that ended early."""

    arm: "Arm"
    epochs: int  # that it was trained
    metrics: Mapping[str, float]  # of its last epoch


def value_of(row: FinishedRow, metric: str) -> float:
    """A metric of a finished run, measured or derived; NaN if it was not measured."""
    if metric == GAP:
        return value_of(row, "final_train_accuracy") - value_of(row, "final_val_accuracy")
    if metric == "training_macs":
        return float(training_macs(row.arm.config))
    return float(row.metrics.get(metric, math.nan))
