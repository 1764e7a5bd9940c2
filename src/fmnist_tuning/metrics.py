"""What is measured: the metrics' names, and how a person reads their values."""

import math
from dataclasses import dataclass
from typing import Final, Literal

Unit = Literal["percent", "points", "loss", "count", "seconds", "epochs"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of a finished run.

    Attributes:
        name: As MLflow has it.
        label: For people, as it stands in the middle of a sentence.
        unit: What its values are: accuracies are fractions, shown in percent.
        better: Which direction is an improvement; None where neither is.
    """

    name: str
    label: str
    unit: Unit
    better: Literal["higher", "lower"] | None = None

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
                return f"{value / 60:.1f}" if named >= 60 else f"{value:.1f}"  # noqa: PLR2004

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
                return " min" if abs(value) >= 60 else " s"  # noqa: PLR2004
            case _:
                return ""


METRICS: Final = {
    metric.name: metric
    for metric in (
        Metric("final_train_accuracy", "train accuracy", "percent", "higher"),
        Metric("final_val_accuracy", "validation accuracy", "percent", "higher"),
        Metric("final_train_loss", "train loss", "loss", "lower"),
        Metric("final_val_loss", "validation loss", "loss", "lower"),
        Metric("best_val_accuracy", "best epoch's validation accuracy", "percent", "higher"),
        Metric("best_epoch", "best epoch", "count"),
        Metric("test_accuracy", "test accuracy", "percent", "higher"),
        Metric("test_loss", "test loss", "loss", "lower"),
        Metric("overfitting_gap", "overfitting gap", "points", "lower"),
        Metric("epochs_to_80", "time to 80 % train accuracy", "epochs", "lower"),
        Metric("train_seconds", "training time", "seconds", "lower"),
        Metric("total_params", "number of parameters", "count", "lower"),
    )
}
"""Metrics of a finished run that a claim may be about, a table show and a figure draw.

`overfitting_gap` is derived: `final_train_accuracy` minus `final_val_accuracy`, both measured after
the last epoch in evaluation mode.
"""
