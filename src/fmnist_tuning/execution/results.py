"""What came of a plan, gathered from its events."""

from collections.abc import Mapping, Sequence
from typing import Any

from fmnist_tuning.analysis import SweepFrames, build_frames, no_curves
from fmnist_tuning.config import SweepConfig
from fmnist_tuning.execution.events import Blocked, Decided, Event, Failed, Finished, Reused
from fmnist_tuning.planning import PlannedRun


class SweepResults:
    """One sweep's runs, each with its metrics or with the reason why it has none."""

    def __init__(self, sweep: SweepConfig) -> None:
        self.sweep = sweep
        self.finished: list[tuple[PlannedRun, Mapping[str, float]]] = []
        self.failed: list[tuple[PlannedRun, str]] = []
        self.blocked: str | None = None

    def frames(self) -> SweepFrames:
        """The finished runs as frames, without curves."""
        rows = [(run.arm, run.config.seed, "", metrics) for run, metrics in self.finished]
        return build_frames(self.sweep, rows, no_curves())


class Results:
    """The results of a plan's sweeps, complete once every event was added.

    Args:
        sweeps: The plan's sweeps, in order.
    """

    def __init__(self, sweeps: Sequence[SweepConfig]) -> None:
        self._by_sweep = {sweep.sweep: SweepResults(sweep) for sweep in sweeps}

    @property
    def sweeps(self) -> list[SweepResults]:
        """In the plan's order, and each with its runs in the order of arms and seeds."""
        for results in self._by_sweep.values():
            order = {arm.label: place for place, arm in enumerate(results.sweep.expanded())}
            results.finished.sort(key=lambda pair: (order[pair[0].arm.label], pair[0].config.seed))
        return list(self._by_sweep.values())

    @property
    def failures(self) -> list[str]:
        """The names of what failed."""
        return [
            name
            for results in self._by_sweep.values()
            for name in (
                *(f"{run.sweep} {run.name}" for run, _ in results.failed),
                *([results.sweep.sweep] if results.blocked else []),
            )
        ]

    def add(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case Finished(run, metrics) | Reused(run, metrics):
                self._by_sweep[run.sweep].finished.append((run, metrics))
            case Failed(run, reason):
                self._by_sweep[run.sweep].failed.append((run, reason))
            case Decided(sweep):
                self._by_sweep[sweep.sweep].sweep = sweep
            case Blocked(sweep, reason):
                self._by_sweep[sweep.sweep].blocked = reason

    def as_json(self) -> list[dict[str, Any]]:
        """One record a run: names, settings, metrics as fractions, status."""
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
            for results in self.sweeps
            for run, metrics, reason in (
                *((run, metrics, None) for run, metrics in results.finished),
                *((run, {}, reason) for run, reason in results.failed),
            )
        ]
