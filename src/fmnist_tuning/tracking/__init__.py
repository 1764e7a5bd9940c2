"""The only door to MLflow."""

from fmnist_tuning.tracking import stores  # noqa: F401  sets what MLflow reads when imported
from fmnist_tuning.tracking.importing import Importer
from fmnist_tuning.tracking.registry import ALIAS, MODEL_NAME, WEIGHTS, Champion, Registry
from fmnist_tuning.tracking.runs import OpenRun, TrackedRun, TrackedSweep
from fmnist_tuning.tracking.study import DEFAULT_STUDY, EndStatus, Study

__all__ = [
    "ALIAS",
    "DEFAULT_STUDY",
    "MODEL_NAME",
    "WEIGHTS",
    "Champion",
    "EndStatus",
    "Importer",
    "OpenRun",
    "Registry",
    "Study",
    "TrackedRun",
    "TrackedSweep",
]
