"""Everything that is measured: one table, from which records, names and columns come.

The table's rows are the fields of the records below. Accuracies are fractions in [0, 1] and losses
mean cross-entropies in nats per image, wherever a program reads them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import partial
from statistics import fmean
from typing import Any, Final, Literal

Unit = Literal["percent", "points", "loss", "count", "macs", "seconds", "epochs", "rate"]

LATE_EPOCHS: Final = 3
"""Epochs that the means over the last ones are of: see docs/statistics.md for the choice."""

_MINUTE: Final = 60
_DIGITS: Final[dict[Unit, str]] = {
    "percent": ".2f",
    "points": ".2f",
    "loss": ".4f",
    "count": ",.0f",
    "macs": ",.1f",
    "seconds": ".1f",
    "epochs": ".2f",
    "rate": ".3g",
}
_SCALES: Final[dict[Unit, float]] = {"percent": 100.0, "points": 100.0, "macs": 1e-9}
_SUFFIXES: Final[dict[Unit, str]] = {
    "percent": " %",
    "points": " points",
    "epochs": " epochs",
    "macs": " billion",
}
_AXIS_UNITS: Final[dict[Unit, str]] = {
    "percent": "%",
    "seconds": "s",
    "loss": "nats",
    "count": "",
    "macs": "billions",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of the table."""

    name: str  # as MLflow has it
    label: str  # for people, as it stands in the middle of a sentence
    unit: Unit  # of its values; accuracies are fractions, shown in percent
    better: Literal["higher", "lower"] | None = None  # None where neither is an improvement
    exact: bool = False  # the same for every seed, so one run is enough
    ratio: bool = False  # compared by its logarithm: a difference is a ratio
    of_machine: bool = False  # depends on the machine and its load, which seeds do not repeat
    column: str | None = None  # its heading in the terminal's tables; None leaves it out

    def format(self, value: float) -> str:
        """A value with its unit: `92.21 %`, `0.2700`, `421,834`, `5.1 min`."""
        return "unknown" if math.isnan(value) else f"{self.number(value)}{self._suffix(value)}"

    def format_difference(self, value: float) -> str:
        """A signed difference: `+0.31 points`. Two percentages differ by points, not by percent."""
        if self.ratio:
            return self.signed(value)
        suffix = " points" if self.unit == "percent" else self._suffix(value)
        return f"{self.signed(value)}{suffix}"

    def signed(self, value: float, beside: float | None = None) -> str:
        """A signed difference without its unit, as `number` gives it; `×0.63` for a ratio."""
        if self.ratio:
            return f"×{math.exp(value):.2f}"
        return f"{'−' if value < 0 else '+'}{self.number(abs(value), beside)}"

    def number(self, value: float, beside: float | None = None) -> str:
        """A value in the unit shown, without naming it.

        Long times are shown in minutes. If the value stands next to another one whose unit is
        named, that one (`beside`) decides whether a time is long.
        """
        shown = self.on_axis(value)
        if self.unit == "seconds" and abs(value if beside is None else beside) >= _MINUTE:
            shown /= _MINUTE
        return f"{shown:{_DIGITS[self.unit]}}"

    @property
    def widest(self) -> float:
        """How far its values can differ in practice; infinite where nothing limits them."""
        # The loss of a guess among ten classes is log 10.
        return {"percent": 1.0, "points": 1.0, "loss": math.log(10)}.get(self.unit, math.inf)

    @property
    def axis_label(self) -> str:
        """For an axis whose values are `on_axis`: `validation accuracy, %`."""
        unit = _AXIS_UNITS.get(self.unit, self.unit)
        return f"{self.label}, {unit}" if unit else self.label

    def on_axis(self, value: float) -> float:
        """A value in the unit that `axis_label` names."""
        return value * _SCALES.get(self.unit, 1.0)

    def _suffix(self, value: float) -> str:
        if self.unit == "seconds":
            return " min" if abs(value) >= _MINUTE else " s"
        return _SUFFIXES.get(self.unit, "")


def _row(
    label: str,
    unit: Unit,
    better: Literal["higher", "lower"] | None = None,
    *,
    place: int = 99,  # in lists for people; new rows come last
    default: Any = MISSING,  # None for metrics that not every run measures
    **more: Any,
) -> Any:
    """A field that is a row of the table."""
    row = partial(Metric, label=label, unit=unit, better=better, **more)
    return field(default=default, metadata={"row": row, "place": place})


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """What one epoch of training measured.

    Train loss and accuracy are means over the epoch's images in training mode: dropout is active
    and the weights still change, as journals usually report it. Validation loss and accuracy are
    measured after the epoch, in evaluation mode, on every validation image.
    """

    epoch: int  # counted from 1; MLflow's step
    train_loss: float = _row("train loss", "loss", "lower")
    train_accuracy: float = _row("train accuracy", "percent", "higher")
    val_loss: float = _row("validation loss", "loss", "lower")
    val_accuracy: float = _row("validation accuracy", "percent", "higher")
    epoch_seconds: float = _row("time of an epoch", "seconds", "lower")  # training and validation
    images_per_second: float = _row("training images a second", "count", "higher")  # training only
    # The last step's; None for runs of before there were schedules.
    epoch_learning_rate: float | None = _row("learning rate", "rate", default=None)

    def metrics(self) -> dict[str, float]:
        """The measured values by metric name, without the epoch."""
        values = asdict(self)
        return {name: v for name, v in values.items() if name != "epoch" and v is not None}


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a finished run is judged by."""

    # Measured once more after the last epoch, in evaluation mode, on every training image. Dropout
    # makes the epoch's own training accuracy too low; only these can be compared with validation.
    final_train_loss: float = _row("train loss", "loss", "lower", column="train loss", place=4)
    final_train_accuracy: float = _row(
        "train accuracy", "percent", "higher", column="train acc %", place=1
    )
    # The last epoch's.
    final_val_loss: float = _row("validation loss", "loss", "lower", column="val loss", place=5)
    final_val_accuracy: float = _row(
        "validation accuracy", "percent", "higher", column="val acc %", place=2
    )
    # The highest of all epochs, and the first epoch that reached it. It flatters every run, so no
    # verdict uses it.
    best_val_accuracy: float = _row(
        "best epoch's validation accuracy", "percent", "higher", place=7
    )
    best_epoch: int = _row("best epoch", "count", place=8)
    total_params: int = _row("number of parameters", "count", "lower", exact=True, place=14)
    train_seconds: float = _row("training time", "seconds", "lower", place=13, of_machine=True)
    # Epochs, whole and part, until the accuracy in training mode on the last 3,200 or so images
    # reached 80 %; None where it never did. Most runs pass 80 % within the first epoch, so
    # validation once an epoch is too coarse to tell them apart.
    epochs_to_80: float | None = _row(
        "time to 80 % train accuracy", "epochs", "lower", place=12, default=None, ratio=True
    )
    # The means over the last `LATE_EPOCHS` epochs; None for runs of before these were logged, whose
    # curves tell. With a constant learning rate, most of one epoch's accuracy beyond its arm's is
    # noise of the last steps: a tenth of that variance persists to the next epoch.
    late_val_accuracy: float | None = _row(
        f"validation accuracy, last {LATE_EPOCHS} epochs",
        "percent",
        "higher",
        column="late acc %",
        place=3,
        default=None,
    )
    late_val_loss: float | None = _row(
        f"validation loss, last {LATE_EPOCHS} epochs", "loss", "lower", place=6, default=None
    )
    # On the test set, once, at the end; only with `validation: holdout`.
    test_loss: float | None = _row("test loss", "loss", "lower", place=10, default=None)
    test_accuracy: float | None = _row("test accuracy", "percent", "higher", place=9, default=None)
    # How many epochs there were: all, unless the run stopped early. None for earlier runs, which
    # had all.
    trained_epochs: int | None = _row("trained epochs", "epochs", place=16, default=None)

    def metrics(self) -> dict[str, float]:
        """The measured values by metric name, without those that were not measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class DerivedMetrics:
    """What follows from a finished run's metrics, and is not logged."""

    # `final_train_accuracy` minus `final_val_accuracy`.
    overfitting_gap: float = _row(
        "overfitting gap", "points", "lower", column="gap, points", place=11
    )
    # Exact, and the same on every machine, which a time is not: see `sweeps.cost`.
    training_macs: float = _row(
        "multiplications of a training", "macs", "lower", exact=True, place=15
    )


def late_mean(values: Sequence[float]) -> float:
    """The mean over the last `LATE_EPOCHS` of a run's epochs, or over all if there are fewer."""
    return fmean(values[-LATE_EPOCHS:])


def _rows(*records: type[Any]) -> Iterator[tuple[int, Metric]]:
    for record in records:
        for row in fields(record):
            if "row" in row.metadata:
                yield row.metadata["place"], row.metadata["row"](row.name)


ACCURACY: Final = "final_val_accuracy"
"""What arms are chosen and compared by, where nothing else is said."""

LATE_ACCURACY: Final = "late_val_accuracy"
LATE: Final = {LATE_ACCURACY: "val_accuracy", "late_val_loss": "val_loss"}
"""Means over the last epochs, each with the metric of an epoch that it is the mean of."""

GAP: Final = "overfitting_gap"

CONVERGED: Final = 0.8
"""The accuracy of `epochs_to_80`, a fraction."""

METRIC_NAMES: Final = tuple(metric.name for _, metric in _rows(EpochMetrics, RunOutcome))
"""Every metric that a run logs, in the order in which tables have them."""

METRICS: Final = {
    metric.name: metric
    for _, metric in sorted(_rows(RunOutcome, DerivedMetrics), key=lambda row: row[0])
}
"""Metrics of a finished run that a claim may be about, a table show and a figure draw."""

CURVES: Final = {
    metric.name: metric for _, metric in _rows(EpochMetrics) if metric.unit in {"loss", "percent"}
}
"""Metrics of an epoch that are drawn: train's, then validation's."""

REQUIRED: Final = tuple(row.name for row in fields(RunOutcome) if row.default is MISSING)
"""What every finished run has."""
