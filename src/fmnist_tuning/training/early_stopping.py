"""When a training ends before its last epoch."""

import math
from collections.abc import Sequence

from fmnist_tuning.metrics import EpochMetrics


def is_enough(
    history: Sequence[EpochMetrics], *, early_stopping: int | None, min_delta: float = 0.0
) -> bool:
    """Whether the validation loss has not fallen for `early_stopping` epochs; None is never.

    It has fallen when it is lower than it ever was by more than `min_delta` nats (Prechelt 1998).
    """
    lowest, waited = math.inf, 0
    for metrics in history:
        fallen = metrics.val_loss < lowest - min_delta
        lowest, waited = (metrics.val_loss, 0) if fallen else (lowest, waited + 1)
    return early_stopping is not None and waited >= early_stopping


def never(history: Sequence[EpochMetrics]) -> bool:  # noqa: ARG001
    """A training has all its epochs."""
    return False
