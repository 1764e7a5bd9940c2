"""What happens while a plan runs, one frozen record each, in the order in which it happens."""

from collections.abc import Mapping
from dataclasses import dataclass

from fmnist_tuning.config import SweepConfig
from fmnist_tuning.planning import PlannedRun
from fmnist_tuning.records import EpochMetrics
from fmnist_tuning.worker import Environment


@dataclass(frozen=True, slots=True)
class Reused:
    """A run whose result the study has already."""

    run: PlannedRun
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Ready:
    """The workers are there, and `trainings` more runs are to be trained."""

    environment: Environment
    workers: int
    trainings: tuple[PlannedRun, ...]


@dataclass(frozen=True, slots=True)
class Started:
    """A worker begins a run."""

    run: PlannedRun


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run that was broken off goes on after so many epochs."""

    run: PlannedRun
    epochs: int


@dataclass(frozen=True, slots=True)
class Restarted:
    """A run that was broken off starts over, because its checkpoint cannot be used."""

    run: PlannedRun
    reason: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Another command trains this run; its result will be this one's too."""

    run: PlannedRun


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A run that the store took to be at work, and nobody was: now marked KILLED."""

    name: str


@dataclass(frozen=True, slots=True)
class EpochEnded:
    """A run has one more epoch behind it."""

    run: PlannedRun
    metrics: EpochMetrics


@dataclass(frozen=True, slots=True)
class Finished:
    """A run has ended well, with these metrics."""

    run: PlannedRun
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Failed:
    """A run has failed; the others go on."""

    run: PlannedRun
    reason: str


@dataclass(frozen=True, slots=True)
class Decided:
    """A combination's arms are chosen."""

    sweep: SweepConfig


@dataclass(frozen=True, slots=True)
class Blocked:
    """A combination cannot be decided, because something it combines has failed."""

    sweep: SweepConfig
    reason: str


Event = (
    Reused
    | Ready
    | Started
    | Resumed
    | Restarted
    | Waiting
    | Abandoned
    | EpochEnded
    | Finished
    | Failed
    | Decided
    | Blocked
)
