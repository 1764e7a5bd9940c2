"""What happens while a plan runs: a frozen record for each event.

The worker that trains a run makes its `TrainingEvent`s and sends them to the parent unchanged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmnist_tuning.metrics import EpochMetrics
from fmnist_tuning.sweeps.runs import PlannedRun

if TYPE_CHECKING:
    from fmnist_tuning.sweeps.sweep import Sweep


@dataclass(frozen=True, slots=True)
class Environment:
    """What a worker trains with; these become tags of its runs."""

    device: str
    processor: str
    threads: int
    torch: str
    python: str


@dataclass(frozen=True, slots=True)
class Reused:
    """The study has a run's result already."""

    run: PlannedRun
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Ready:
    """The workers are ready to train these runs."""

    environment: Environment
    workers: int
    trainings: tuple[PlannedRun, ...]


@dataclass(frozen=True, slots=True)
class Started:
    """A worker begins a run."""

    run: PlannedRun


@dataclass(frozen=True, slots=True)
class Resumed:
    """An interrupted run continues after these epochs."""

    run: PlannedRun
    history: tuple[EpochMetrics, ...]

    @property
    def epochs(self) -> int:
        """How many epochs the run has already."""
        return len(self.history)


@dataclass(frozen=True, slots=True)
class Restarted:
    """A run starts over: its checkpoint cannot be used, and is kept under another name."""

    run: PlannedRun
    reason: str


@dataclass(frozen=True, slots=True)
class EpochEnded:
    """A run has finished one more epoch."""

    run: PlannedRun
    metrics: EpochMetrics


@dataclass(frozen=True, slots=True)
class Paused:
    """A run has trained the epochs of its turn; it continues later from its checkpoint."""

    run: PlannedRun


@dataclass(frozen=True, slots=True)
class Finished:
    """A run has ended well, with these metrics."""

    run: PlannedRun
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Failed:
    """A run has failed; the others go on."""

    run: PlannedRun
    reason: str  # for people
    hopeless: bool = False  # continuing from the checkpoint would fail in the same way
    diverged: bool = False  # its loss is no number any more


@dataclass(frozen=True, slots=True)
class Proposed:
    """A search tries this run next."""

    run: PlannedRun


@dataclass(frozen=True, slots=True)
class Searched:
    """A search has come to its end, or as far as this command took it."""

    sweep: "Sweep"  # its arms are the trials
    exhausted: bool = False  # the space has no further one


@dataclass(frozen=True, slots=True)
class Pruned:
    """A trial of a search has ended early, because it was not worth going on."""

    run: PlannedRun
    epochs: int  # that it was trained
    reason: str  # for people


@dataclass(frozen=True, slots=True)
class Lost:
    """A run's worker is gone; the run continues with another one from its last epoch."""

    run: PlannedRun
    reason: str  # for people


@dataclass(frozen=True, slots=True)
class Joined:
    """A node of the cluster trains from now on."""

    node: str
    processor: str
    workers: int  # that it has
    total: int  # that all nodes have together


@dataclass(frozen=True, slots=True)
class Refused:
    """A node of the cluster that cannot be used."""

    node: str
    reason: str  # for people


@dataclass(frozen=True, slots=True)
class Waiting:
    """Another command trains this run, and this command will use its result."""

    run: PlannedRun


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The store says that a run is running, but nobody works on it: it is now marked KILLED."""

    name: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """A combination's arms are known."""

    sweep: "Sweep"


@dataclass(frozen=True, slots=True)
class Blocked:
    """A combination's arms cannot be chosen, because a run that it needs has failed."""

    sweep: "Sweep"
    reason: str


TrainingEvent = Resumed | Restarted | EpochEnded | Paused | Finished | Failed
ClusterEvent = Lost | Joined | Refused
SearchEvent = Proposed | Pruned | Searched
PlanEvent = Reused | Ready | Started | Waiting | Abandoned | Chosen | Blocked
Event = TrainingEvent | ClusterEvent | SearchEvent | PlanEvent


class PlanResults:
    """The results of a plan's sweeps, complete when every event was added."""

    def __init__(self, sweeps: "Sequence[Sweep]") -> None:
        self._sweeps = {sweep.id: sweep for sweep in sweeps}
        self._finished: list[tuple[PlannedRun, Mapping[str, float]]] = []
        self.pruned: list[tuple[PlannedRun, str]] = []  # with the reason
        self.failed: list[tuple[PlannedRun, str]] = []  # with the reason
        self.blocked: dict[str, str] = {}  # combinations that were not run, with the reason

    def add(self, event: Event) -> None:
        """Add one event."""
        match event:
            case Finished(run, metrics) | Reused(run, metrics):
                self._finished.append((run, metrics))
            case Failed(run, reason):
                self.failed.append((run, reason))
            case Pruned(run, _, reason):
                self.pruned.append((run, reason))
            case Chosen(sweep) | Searched(sweep):
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
    def fingerprints(self) -> set[str]:
        """Those of the finished runs."""
        return {run.fingerprint for run, _ in self._finished}

    @property
    def failures(self) -> list[str]:
        """The names of what failed, sweep by sweep."""
        names = []
        for sweep in self._sweeps:
            names += [f"{sweep} {run.name}" for run, _ in self.failed if run.sweep == sweep]
            names += [sweep] if sweep in self.blocked else []
        return names

    def as_json(self) -> list[dict[str, Any]]:
        """A record for each run: names, settings, metrics as fractions, status."""
        place = {
            (sweep.id, arm.label): place
            for sweep in self._sweeps.values()
            for place, arm in enumerate(sweep.arms)
        }
        ended = sorted(
            self._finished,
            key=lambda end: (place[end[0].sweep, end[0].arm.label], end[0].config.seed),
        )
        outcomes = [
            *((run, metrics, "finished", None) for run, metrics in ended),
            *((run, {}, "pruned", reason) for run, reason in self.pruned),
            *((run, {}, "failed", reason) for run, reason in self.failed),
        ]
        outcomes.sort(key=lambda outcome: self.sweeps.index(outcome[0].sweep))
        return [
            {
                "sweep": run.sweep,
                "arm": run.arm.label,
                "seed": run.config.seed,
                "fingerprint": run.fingerprint,
                "status": status,
                "reason": reason,
                "config": run.config.model_dump(mode="json"),
                "metrics": dict(metrics),
            }
            for run, metrics, status, reason in outcomes
        ]
