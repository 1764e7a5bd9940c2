"""The sweeps that a command works on: each has a run of its own in the store."""

from typing import TYPE_CHECKING

from fmnist_tuning.sweeps.runs import data_of_sweep

if TYPE_CHECKING:
    from fmnist_tuning.running.locks import RunLocks
    from fmnist_tuning.store.records import EndStatus
    from fmnist_tuning.store.study import Study
    from fmnist_tuning.store.tracker import Tracker
    from fmnist_tuning.sweeps.sweep import Sweep


class OpenSweeps:
    """The sweeps' own runs while the command works; `data_digest` is that of all images."""

    def __init__(
        self, study: "Study", tracker: "Tracker", data_digest: str, locks: "RunLocks"
    ) -> None:
        self._study, self._tracker, self._locks = study, tracker, locks
        self._data_digest = data_digest
        self._open: dict[str, tuple[Sweep, str]] = {}  # with the id of the run

    def begin(self, sweep: "Sweep") -> None:
        """Open a sweep's own run."""
        with self._locks.deciding:  # two commands that begin it must not make two runs of it
            run_id = self._tracker.begin_sweep(
                sweep, data_of_sweep(sweep, self._data_digest), self._locks.owner
            )
        self._open[sweep.id] = sweep, run_id

    def extend(self, sweep: "Sweep") -> "Sweep":
        """Open a search with one more trial; returns it as it is stored.

        If another command has proposed trials of the same search meanwhile, those count.
        """
        self.begin(sweep)
        stored = self._study.definitions([sweep.id])[sweep.id]
        self._open[sweep.id] = stored, self._open[sweep.id][1]
        return stored

    def end(self, sweep: "Sweep", status: "EndStatus") -> None:
        """Close a sweep's own run."""
        self._begin_again_if_deleted(*self._open[sweep.id])
        self._tracker.end_run(self._open.pop(sweep.id)[1], status)

    def still_there(self) -> list[str]:
        """The ids of the sweeps' runs, each made again if somebody has deleted it."""
        for sweep, run_id in [*self._open.values()]:
            self._begin_again_if_deleted(sweep, run_id)
        return [run_id for _, run_id in self._open.values()]

    def _begin_again_if_deleted(self, sweep: "Sweep", run_id: str) -> None:
        """A sweep's own run may be deleted while its runs are trained; they need its definition."""
        if self._tracker.is_deleted(run_id):
            self.begin(sweep)
