"""The only door to MLflow."""

from fmnist_tuning.tracking import stores  # noqa: F401  sets what MLflow reads when imported
from fmnist_tuning.tracking.importing import Importer
from fmnist_tuning.tracking.registry import (
    ALIAS,
    MODEL_NAME,
    Champion,
    Registry,
)
from fmnist_tuning.tracking.runs import (
    DATA,
    WEIGHTS,
    WEIGHTS_DIGEST,
    OpenRun,
    TrackedRun,
    TrackedSweep,
    content_digest,
)
from fmnist_tuning.tracking.study import DEFAULT_STUDY, EndStatus, Study

__all__ = [
    "ALIAS",
    "DATA",
    "DEFAULT_STUDY",
    "MODEL_NAME",
    "WEIGHTS",
    "WEIGHTS_DIGEST",
    "Champion",
    "EndStatus",
    "Importer",
    "OpenRun",
    "Registry",
    "Study",
    "TrackedRun",
    "TrackedSweep",
    "content_digest",
]
