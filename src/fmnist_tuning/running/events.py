"""What happens while a plan runs, one frozen record each, in the order in which it happens.

Those of a training are made by the process that trains, and travel as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmnist_tuning.metrics import EpochMetrics
from fmnist_tuning.sweeps.runs import PlannedRun
from fmnist_tuning.sweeps.sweep import Sweep


@dataclass(frozen=True, slots=True)
class Environment:
    """What a worker trains with; becomes tags of its runs."""

    device: str
    processor: str
    threads: int
    torch: str
    python: str


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
    """A run that was broken off goes on after these epochs."""

    run: PlannedRun
    history: tuple[EpochMetrics, ...]

    @property
    def epochs(self) -> int:
        """How many."""
        return len(self.history)


@dataclass(frozen=True, slots=True)
class Restarted:
    """A run's checkpoint cannot be used, and is kept under another name: it starts over."""

    run: PlannedRun
    reason: str


@dataclass(frozen=True, slots=True)
class EpochEnded:
    """A run has one more epoch behind it."""

    run: PlannedRun
    metrics: EpochMetrics


@dataclass(frozen=True, slots=True)
class Paused:
    """A run has trained the epochs it was given, and its checkpoint is there to go on from."""

    run: PlannedRun


@dataclass(frozen=True, slots=True)
class Finished:
    """A run has ended well, with these metrics."""

    run: PlannedRun
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Failed:
    """A run has failed; the others go on.

    Attributes:
        run: The run.
        reason: For people.
        hopeless: Whether going on from the checkpoint would fail in the same way.
    """

    run: PlannedRun
    reason: str
    hopeless: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """Another command trains this run; its result will be this one's too."""

    run: PlannedRun


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A run that the store took to be at work, and nobody was: now marked KILLED."""

    name: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """A combination's arms are known."""

    sweep: Sweep


@dataclass(frozen=True, slots=True)
class Blocked:
    """A combination cannot be chosen, because something it combines has failed."""

    sweep: Sweep
    reason: str


TrainingEvent = Resumed | Restarted | EpochEnded | Paused | Finished | Failed
Event = TrainingEvent | Reused | Ready | Started | Waiting | Abandoned | Chosen | Blocked


class PlanResults:
    """What came of a plan, complete once every event was added.

    Args:
        sweeps: The plan's, in order.

    Attributes:
        blocked: Combinations that could not be chosen, with the reason.
        failed: Runs that failed, with the reason.
    """

    def __init__(self, sweeps: Sequence[Sweep]) -> None:
        self._sweeps = {sweep.id: sweep for sweep in sweeps}
        self._finished: list[tuple[PlannedRun, Mapping[str, float]]] = []
        self.failed: list[tuple[PlannedRun, str]] = []
        self.blocked: dict[str, str] = {}

    def add(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case Finished(run, metrics) | Reused(run, metrics):
                self._finished.append((run, metrics))
            case Failed(run, reason):
                self.failed.append((run, reason))
            case Chosen(sweep):
                self._sweeps[sweep.id] = sweep
            case Blocked(sweep, reason):
                self.blocked[sweep.id] = reason

    @property
    def sweeps(self) -> list[str]:
        """Ids of the plan's sweeps, in order."""
        return list(self._sweeps)

    @property
    def finished(self) -> set[str]:
        """Ids of the sweeps with finished runs."""
        return {run.sweep for run, _ in self._finished}

    @property
    def failures(self) -> list[str]:
        """The names of what failed, sweep by sweep."""
        return [
            name
            for sweep in self._sweeps
            for name in (
                *(f"{run.sweep} {run.name}" for run, _ in self.failed if run.sweep == sweep),
                *([sweep] if sweep in self.blocked else []),
            )
        ]

    def as_json(self) -> list[dict[str, Any]]:
        """One record a run: names, settings, metrics as fractions, status."""
        order = {
            (sweep.id, arm.label): (first, place)
            for first, sweep in enumerate(self._sweeps.values())
            for place, arm in enumerate(sweep.arms)
        }
        outcomes = [
            *((run, metrics, None) for run, metrics in self._finished),
            *((run, {}, reason) for run, reason in self.failed),
        ]

        def place(outcome: tuple[PlannedRun, Mapping[str, float], str | None]) -> tuple[Any, ...]:
            run, _, reason = outcome
            sweep, arm = order[run.sweep, run.arm.label]
            return (sweep, reason is not None, *(() if reason else (arm, run.config.seed)))

        return [
            {
                "sweep": run.sweep,
                "arm": run.arm.label,
                "seed": run.config.seed,
                "fingerprint": run.fingerprint,
                "status": "failed" if reason else "finished",
                "reason": reason,
                "config": run.config.model_dump(mode="json"),
                "metrics": dict(metrics),
            }
            for run, metrics, reason in sorted(outcomes, key=place)
        ]
