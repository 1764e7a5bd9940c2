"""A study as it was when it was first read, for commands that ask for the same several times."""

from dataclasses import dataclass, field

from fmnist_tuning.store.records import TrackedRun, TrackedSweep
from fmnist_tuning.store.study import Study


@dataclass(frozen=True, eq=False, slots=True)
class Snapshot(Study):
    """A study whose finished runs and sweeps are read once, when they are first asked for."""

    _runs: list[dict[str, TrackedRun]] = field(default_factory=list, init=False)
    _sweeps: list[list[TrackedSweep]] = field(default_factory=list, init=False)

    @classmethod
    def of(cls, study: Study) -> "Snapshot":
        """The snapshot of a study."""
        return cls(study.client, study.uri, study.name, study.experiment_id, study.watch)

    def finished_runs(self) -> dict[str, TrackedRun]:
        """As the study has them, at the first call."""
        if not self._runs:
            self._runs.append(Study.finished_runs(self))
        return self._runs[0]

    def sweeps(self) -> list[TrackedSweep]:
        """As the study has them, at the first call."""
        if not self._sweeps:
            self._sweeps.append(Study.sweeps(self))
        return self._sweeps[0]
