"""Everything that is measured: one table, from which records, names and columns come.

The table's rows are the fields of the records below. Accuracies are fractions in [0, 1] and losses
mean cross-entropies in nats per image, wherever a program reads them.
"""

import math
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Final, Literal

Unit = Literal["percent", "points", "loss", "count", "seconds", "epochs"]

_MINUTE: Final = 60


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of the table.

    Attributes:
        name: As MLflow has it.
        label: For people, as it stands in the middle of a sentence.
        unit: What its values are: accuracies are fractions, shown in percent.
        better: Which direction is an improvement; None where neither is.
        exact: The same for every seed: one run tells all.
        column: Its heading in the terminal's tables; None where they leave it out.
    """

    name: str
    label: str
    unit: Unit
    better: Literal["higher", "lower"] | None = None
    exact: bool = False
    column: str | None = None

    def format(self, value: float) -> str:
        """A value with its unit: `92.21 %`, `0.2700`, `421,834`, `5.1 min`."""
        if math.isnan(value):
            return "unknown"
        return f"{self.number(value)}{self._suffix(value)}"

    def format_difference(self, value: float) -> str:
        """A signed difference: `+0.31 points`, for percentages are not subtracted in percent."""
        suffix = " points" if self.unit == "percent" else self._suffix(value)
        return f"{self.signed(value)}{suffix}"

    def signed(self, value: float, beside: float | None = None) -> str:
        """A signed difference without its unit, which is that of the value beside it."""
        return f"{'−' if value < 0 else '+'}{self.number(abs(value), beside)}"

    def number(self, value: float, beside: float | None = None) -> str:
        """A value in the unit shown, without naming it.

        Args:
            value: As it was measured.
            beside: The value whose unit is named: seconds turn into minutes by its size.
        """
        match self.unit:
            case "percent" | "points":
                return f"{value * 100:.2f}"
            case "loss":
                return f"{value:.4f}"
            case "count":
                return f"{value:,.0f}"
            case "epochs":
                return f"{value:.2f}"
            case "seconds":
                named = abs(value if beside is None else beside)
                return f"{value / _MINUTE:.1f}" if named >= _MINUTE else f"{value:.1f}"

    @property
    def axis_label(self) -> str:
        """For an axis whose values are `on_axis`: `validation accuracy, %`."""
        unit = {"percent": "%", "seconds": "s", "loss": "nats", "count": ""}.get(
            self.unit, self.unit
        )
        return f"{self.label}, {unit}" if unit else self.label

    def on_axis(self, value: float) -> float:
        """A value in the unit that `axis_label` names."""
        return value * 100 if self.unit in {"percent", "points"} else value

    def _suffix(self, value: float) -> str:
        match self.unit:
            case "percent":
                return " %"
            case "points":
                return " points"
            case "epochs":
                return " epochs"
            case "seconds":
                return " min" if abs(value) >= _MINUTE else " s"
            case _:
                return ""


def _row(
    label: str,
    unit: Unit,
    better: Literal["higher", "lower"] | None = None,
    *,
    exact: bool = False,
    column: str | None = None,
    place: int = 99,
    default: Any = MISSING,
) -> Any:
    """A field that is a row of the table.

    Args:
        label: And the others as in `Metric`.
        unit: The same.
        better: The same.
        exact: The same.
        column: The same.
        place: Where it stands in lists for people; a new one stands last.
        default: None, for what not every run measures.
    """
    row = {"row": (label, unit, better, exact, column), "place": place}
    return field(default=default, metadata=row)


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """What one epoch of training measured.

    Attributes:
        epoch: Counted from 1; MLflow's step.
        train_loss: Mean over the epoch's images, in training mode, while the weights change.
        train_accuracy: The same way: with dropout active, as journals usually report it.
        val_loss: After the epoch, in evaluation mode, on every validation image.
        val_accuracy: The same way.
        epoch_seconds: Training and validation together.
        images_per_second: Training images over the seconds spent training on them.
    """

    epoch: int
    train_loss: float = _row("train loss", "loss", "lower")
    train_accuracy: float = _row("train accuracy", "percent", "higher")
    val_loss: float = _row("validation loss", "loss", "lower")
    val_accuracy: float = _row("validation accuracy", "percent", "higher")
    epoch_seconds: float = _row("time of an epoch", "seconds", "lower")
    images_per_second: float = _row("training images a second", "count", "higher")

    def metrics(self) -> dict[str, float]:
        """The measured values by metric name, without the epoch."""
        return {name: value for name, value in asdict(self).items() if name != "epoch"}


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a finished run is judged by.

    Attributes:
        final_train_loss: Once more after the last epoch, in evaluation mode, on every training
            image. Dropout makes the epoch's own training figures too low, so that only this one
            may be compared with validation: the overfitting gap is their difference.
        final_train_accuracy: The same way.
        final_val_loss: The last epoch's.
        final_val_accuracy: The last epoch's.
        best_val_accuracy: The highest of all epochs; flatters every run, so no verdict uses it.
        best_epoch: The first epoch that reached it.
        total_params: Trainable parameters.
        train_seconds: Wall time of all epochs, start-up left out.
        epochs_to_80: Epochs, whole and part, until the accuracy on the last 3,200 or so images
            trained on (in training mode) reached 80 %; None where it never did. Validation once
            an epoch is too coarse a clock for it: most runs pass 80 % within the first.
        test_loss: On the test set, once, at the end; only with `validation: holdout`.
        test_accuracy: The same way.
    """

    final_train_loss: float = _row("train loss", "loss", "lower", column="train loss", place=3)
    final_train_accuracy: float = _row(
        "train accuracy", "percent", "higher", column="train acc %", place=1
    )
    final_val_loss: float = _row("validation loss", "loss", "lower", column="val loss", place=4)
    final_val_accuracy: float = _row(
        "validation accuracy", "percent", "higher", column="val acc %", place=2
    )
    best_val_accuracy: float = _row(
        "best epoch's validation accuracy", "percent", "higher", place=5
    )
    best_epoch: int = _row("best epoch", "count", place=6)
    total_params: int = _row("number of parameters", "count", "lower", exact=True, place=12)
    train_seconds: float = _row("training time", "seconds", "lower", place=11)
    epochs_to_80: float | None = _row(
        "time to 80 % train accuracy", "epochs", "lower", place=10, default=None
    )
    test_loss: float | None = _row("test loss", "loss", "lower", place=8, default=None)
    test_accuracy: float | None = _row("test accuracy", "percent", "higher", place=7, default=None)

    def metrics(self) -> dict[str, float]:
        """The measured values by metric name, without those that were not measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class DerivedMetrics:
    """What follows from a finished run's metrics, and is not logged.

    Attributes:
        overfitting_gap: `final_train_accuracy` minus `final_val_accuracy`, both measured after the
            last epoch in evaluation mode.
    """

    overfitting_gap: float = _row(
        "overfitting gap", "points", "lower", column="gap, points", place=9
    )


def _rows(*records: type[Any]) -> Iterator[tuple[int, Metric]]:
    for record in records:
        for row in fields(record):
            if "row" in row.metadata:
                yield row.metadata["place"], Metric(row.name, *row.metadata["row"])


ACCURACY: Final = "final_val_accuracy"
"""What arms are chosen and compared by, where nothing else is said."""

GAP: Final = "overfitting_gap"

METRIC_NAMES: Final = tuple(metric.name for _, metric in _rows(EpochMetrics, RunOutcome))
"""Every metric that a run logs, in the order in which tables have them."""

METRICS: Final = {
    metric.name: metric
    for _, metric in sorted(_rows(RunOutcome, DerivedMetrics), key=lambda row: row[0])
}
"""Metrics of a finished run that a claim may be about, a table show and a figure draw."""

CURVES: Final = tuple(
    metric.name for _, metric in _rows(EpochMetrics) if metric.unit in {"loss", "percent"}
)
"""Metrics of an epoch that are drawn."""

REQUIRED: Final = tuple(row.name for row in fields(RunOutcome) if row.default is MISSING)
"""What every finished run has."""
