"""The one join: a plan's runs are reused or trained, and tracked."""

from fmnist_tuning.execution.events import (
    Abandoned,
    Blocked,
    Decided,
    EpochEnded,
    Event,
    Failed,
    Finished,
    Ready,
    Restarted,
    Resumed,
    Reused,
    Started,
    Waiting,
)
from fmnist_tuning.execution.preview import Preview, preview
from fmnist_tuning.execution.results import Results, SweepResults
from fmnist_tuning.execution.running import execute
from fmnist_tuning.worker import Device

__all__ = [
    "Abandoned",
    "Blocked",
    "Decided",
    "Device",
    "EpochEnded",
    "Event",
    "Failed",
    "Finished",
    "Preview",
    "Ready",
    "Restarted",
    "Results",
    "Resumed",
    "Reused",
    "Started",
    "SweepResults",
    "Waiting",
    "execute",
    "preview",
]
