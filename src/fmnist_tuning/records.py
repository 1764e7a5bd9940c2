"""Frozen records that travel between training, tracking and analysis, and the metrics' names.

Accuracies are fractions in [0, 1]; losses are mean cross-entropies in nats per image.
"""

from dataclasses import asdict, dataclass, fields
from typing import Final


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
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    epoch_seconds: float
    images_per_second: float

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

    final_train_loss: float
    final_train_accuracy: float
    final_val_loss: float
    final_val_accuracy: float
    best_val_accuracy: float
    best_epoch: int
    total_params: int
    train_seconds: float
    epochs_to_80: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None

    def metrics(self) -> dict[str, float]:
        """The measured values by metric name, without those that were not measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}


METRIC_NAMES: Final = (
    *(field.name for field in fields(EpochMetrics) if field.name != "epoch"),
    *(field.name for field in fields(RunOutcome)),
)
"""Every metric that a run logs, in the order in which tables have them."""
