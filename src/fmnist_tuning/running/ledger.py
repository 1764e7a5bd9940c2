"""Who trains what, and what has become of it, written into the study as it happens."""

import contextlib
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from fmnist_tuning.errors import TrackingError
from fmnist_tuning.metrics import EpochMetrics
from fmnist_tuning.running.events import Environment
from fmnist_tuning.running.locks import HEARTBEAT_SECONDS, RunLocks
from fmnist_tuning.store import records
from fmnist_tuning.store.records import EndStatus, TrackedRun, UnfinishedRun
from fmnist_tuning.store.study import Study
from fmnist_tuning.store.tracker import Tracker
from fmnist_tuning.sweeps.plan import PlanRow
from fmnist_tuning.sweeps.runs import PlannedRun
from fmnist_tuning.sweeps.sweep import Sweep

_UNEXPECTED_END = "its process stopped unexpectedly"


@dataclass(slots=True)
class ActiveRun:
    """A run that is being trained.

    Attributes:
        run_id: MLflow's id.
        logged: The epochs that the store has.
        in_turns: Whether this command has paused it: that it goes on is no news then.
    """

    run_id: str
    logged: set[int] = field(default_factory=set)
    in_turns: bool = False


class Ledger:
    """What this command has open in a study: runs, sweeps, checkpoints, and its lock.

    Args:
        study: Where runs are looked up and written.
        data_digest: Digest of the images.
        force: Whether what is finished already is trained once more.

    Raises:
        FmnistError: When the folder for locks and checkpoints cannot be written.
    """

    def __init__(self, study: Study, data_digest: str, *, force: bool) -> None:
        self._study = study
        self._tracker = Tracker(study)
        self._data_digest = data_digest
        self._force = force
        self._locks = RunLocks(study.state_folder, local=study.local)
        self._active: dict[str, ActiveRun] = {}
        self._sweeps: dict[str, str] = {}
        self._beaten = time.monotonic()

    def bury_the_dead(self, rows: Iterable[PlanRow], sweeps: Sequence[Sweep]) -> Iterator[str]:
        """Mark KILLED what nobody is at work on, but for what this plan takes up itself.

        Yields:
            The name of each such run.
        """
        fingerprints = {row.run.fingerprint for row in rows}
        ids = {sweep.id for sweep in sweeps}
        for run in self._study.running():
            own = run.fingerprint in fingerprints if run.kind == "run" else run.name in ids
            if not own and not self._locks.alive(run):
                self._tracker.end_run(run.run_id, "KILLED", _UNEXPECTED_END)
                yield run.name

    def begin(self, sweep: Sweep) -> None:
        """Open a sweep's own run."""
        self._sweeps[sweep.id] = self._tracker.begin_sweep(
            sweep, self._data_digest, self._locks.owner
        )

    def end(self, sweep: Sweep, status: EndStatus) -> None:
        """Close a sweep's own run."""
        self._tracker.end_run(self._sweeps.pop(sweep.id), status)

    def share(self, found: TrackedRun, users: Sequence[str]) -> None:
        """Note that sweeps use a finished run, whose checkpoint nobody needs any more."""
        self._tracker.add_sweeps(found, users)
        self._drop_checkpoint(found.run_id)

    def claim(
        self, run: PlannedRun, users: Sequence[str], environment: Environment
    ) -> TrackedRun | bool:
        """Make a run this command's own.

        Returns:
            Whether it is; or its result, if another command has finished it meanwhile.
        """
        with self._locks.deciding():
            finished = None if self._force else self._study.finished_run(run.fingerprint)
            if finished is not None:
                self._tracker.add_sweeps(finished, users)
                return finished
            others = self._study.unfinished_runs(run.fingerprint)
            running = [other for other in others if other.status == "RUNNING"]
            if any(self._locks.alive(other) for other in running):
                return False
            tags = self._tags(environment)
            usable = [other for other in others if self._can_go_on(other, tags)][:1]
            for other in running:
                if other not in usable:
                    self._tracker.end_run(other.run_id, "KILLED", _UNEXPECTED_END)
            self._active[run.fingerprint] = (
                self._taken_up(usable[0], users, tags) if usable else self._new(run, users, tags)
            )
            return True

    def owns(self, run: PlannedRun) -> bool:
        """Whether this command is training a run, now or in its next turn."""
        return run.fingerprint in self._active

    def files(self, run: PlannedRun) -> tuple[Path, Path]:
        """Where a run's checkpoint and its trained network go."""
        run_id = self._active[run.fingerprint].run_id
        return self._checkpoint(run_id), self._weights(run_id)

    def resume(self, run: PlannedRun, history: Sequence[EpochMetrics]) -> bool:
        """Write the epochs of a checkpoint that the store lacks; whether that it goes on is news.

        A run that was broken off between checkpoint and store, or the other way round, has every
        epoch once.
        """
        for metrics in history:
            self.log_epoch(run, metrics)
        return not self._active[run.fingerprint].in_turns

    def pause(self, run: PlannedRun) -> None:
        """Note that a run waits for its next turn."""
        self._active[run.fingerprint].in_turns = True

    def log_epoch(self, run: PlannedRun, metrics: EpochMetrics) -> None:
        """Write an epoch, unless the store has it."""
        active = self._active[run.fingerprint]
        if metrics.epoch not in active.logged:
            self._tracker.log_epoch(active.run_id, metrics)
            active.logged.add(metrics.epoch)

    def finish(self, run: PlannedRun, metrics: Mapping[str, float]) -> None:
        """Write what a run is judged by, and keep its network."""
        run_id = self._active[run.fingerprint].run_id
        self._tracker.finish_run(run_id, metrics, self._weights(run_id))
        del self._active[run.fingerprint]
        self._drop_checkpoint(run_id)

    def fail(self, run: PlannedRun, reason: str, *, hopeless: bool) -> None:
        """Mark a run FAILED; its checkpoint stays, unless it would lead there again."""
        run_id = self._active.pop(run.fingerprint).run_id
        self._tracker.end_run(run_id, "FAILED", reason)
        if hopeless:
            self._drop_checkpoint(run_id)

    def beat(self) -> None:
        """Show other commands, now and then, that this one is at work."""
        if time.monotonic() - self._beaten > HEARTBEAT_SECONDS:
            self._beaten = time.monotonic()
            open_runs = [active.run_id for active in self._active.values()]
            for run_id in (*open_runs, *self._sweeps.values()):
                self._tracker.beat(run_id)

    def close(self, reason: str, *, store_failed: bool) -> None:
        """Mark KILLED what is still open, if the store can be told, and let go of the lock."""
        with contextlib.suppress(TrackingError):
            # Asked for, not remembered: a signal may have come while a run was being opened.
            for run in [] if store_failed else self._study.running():
                if run.owner == self._locks.owner:
                    self._tracker.end_run(run.run_id, "KILLED", reason)
        self._locks.close(unfinished=store_failed)

    def _new(self, run: PlannedRun, users: Sequence[str], tags: Mapping[str, str]) -> ActiveRun:
        return ActiveRun(
            self._tracker.start_run(
                run.name,
                sweeps=users,
                fingerprint=run.fingerprint,
                params=run.config.params(),
                tags=tags,
            )
        )

    def _taken_up(
        self, broken: UnfinishedRun, users: Sequence[str], tags: Mapping[str, str]
    ) -> ActiveRun:
        sweeps = ", ".join(dict.fromkeys([*broken.sweeps, *users]))
        logged = self._tracker.take_up(broken.run_id, {**tags, records.SWEEPS: sweeps})
        return ActiveRun(broken.run_id, logged)

    def _can_go_on(self, run: UnfinishedRun, tags: Mapping[str, str]) -> bool:
        """Whether its checkpoint is here, and going on would give the numbers of one training."""
        same = (records.DEVICE, records.THREADS, records.TORCH)
        return self._checkpoint(run.run_id).exists() and all(
            run.tags.get(key) == tags[key] for key in same
        )

    def _checkpoint(self, run_id: str) -> Path:
        if not run_id.isalnum():
            raise TrackingError(
                f"{self._study.place}: found the run id {run_id!r}, not one of MLflow"
            )
        return self._study.state_folder / f"{run_id}.pt"

    def _weights(self, run_id: str) -> Path:
        return self._checkpoint(run_id).with_suffix("") / records.WEIGHTS

    def _drop_checkpoint(self, run_id: str) -> None:
        path = self._checkpoint(run_id)
        shutil.rmtree(self._weights(run_id).parent, ignore_errors=True)
        for leftover in (path, *path.parent.glob(f".{path.name}.*")):  # halves that a kill left
            leftover.unlink(missing_ok=True)

    def _tags(self, environment: Environment) -> dict[str, str]:
        return {
            records.OWNER: self._locks.owner,
            records.DATA: self._data_digest,
            records.DEVICE: environment.device,
            records.PROCESSOR: environment.processor,
            records.THREADS: str(environment.threads),
            records.TORCH: environment.torch,
            records.PYTHON: environment.python,
            records.MLFLOW: version("mlflow"),
            records.VERSION: version("fmnist-tuning"),
        }
