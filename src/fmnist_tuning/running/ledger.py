"""What this command does in a study, recorded there as it happens: claims, results, failures."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fmnist_tuning.errors import TrackingError
from fmnist_tuning.metrics import EpochMetrics
from fmnist_tuning.running.contest import Contest
from fmnist_tuning.running.events import Environment
from fmnist_tuning.running.kept import KeptFiles
from fmnist_tuning.running.locks import HEARTBEAT_SECONDS, RunLocks
from fmnist_tuning.running.open_sweeps import OpenSweeps
from fmnist_tuning.store import records
from fmnist_tuning.store.records import TrackedRun, UnfinishedRun
from fmnist_tuning.store.study import Study
from fmnist_tuning.store.tracker import Tracker
from fmnist_tuning.sweeps.finished import FinishedRun
from fmnist_tuning.sweeps.plan import PlanRow
from fmnist_tuning.sweeps.runs import PlannedRun, data_of
from fmnist_tuning.sweeps.sweep import Sweep

_UNEXPECTED_END = "its process stopped unexpectedly"


@dataclass(slots=True)
class ActiveRun:
    """A run that this command trains."""

    run: PlannedRun
    run_id: str  # MLflow's
    processors: list[str]  # that have trained it; in a cluster there may be several
    logged: set[int] = field(default_factory=set)  # the epochs that the store has
    in_turns: bool = False  # this command has paused it, so it is no news that it continues


class Ledger:
    """What this command has open in a study: runs, sweeps, checkpoints, and its lock.

    Raises:
        FmnistError: When the folder for locks and checkpoints cannot be written.
    """

    def __init__(self, study: Study, data_digest: str, *, force: bool) -> None:
        self._study = study
        self._tracker = Tracker(study)
        self._data_digest = data_digest
        self._force = force
        self._locks = RunLocks(study.state_folder, local=study.local)
        self._contest = Contest(study, self._tracker, force=force)
        self._kept = KeptFiles(study.state_folder, study.place)
        self._active: dict[str, ActiveRun] = {}
        self.sweeps = OpenSweeps(study, self._tracker, data_digest, self._locks)
        self._beaten = time.monotonic()

    def bury_the_dead(self, rows: Iterable[PlanRow], sweeps: Sequence[Sweep]) -> Iterator[str]:
        """Mark runs KILLED that nobody works on, and yield their names.

        Runs of this plan are left out, because the plan continues them itself.
        """
        fingerprints = {row.run.fingerprint for row in rows}
        ids = {sweep.id for sweep in sweeps}
        buried = []
        with self._locks.deciding:  # else another command might take one up meanwhile
            self._kept.clear(self._tracker.is_over)
            dead = []
            for run in self._study.running():
                own = run.fingerprint in fingerprints if run.kind == "run" else run.name in ids
                if not own and not self._locks.alive(run):
                    dead.append(run)
            # One whose command has ended since it was listed may be finished, or another's.
            still = {(run.run_id, run.owner) for run in self._study.running()} if dead else set()
            for run in dead:
                if (run.run_id, run.owner) in still:
                    self._tracker.end_run(run.run_id, "KILLED", _UNEXPECTED_END)
                    buried.append(run.name)
        yield from buried

    def share(self, found: FinishedRun, users: Mapping[str, str]) -> None:
        """Record that sweeps use a finished run, and delete its checkpoint."""
        self._tracker.add_sweeps(found, users)
        self._kept.drop(found.run_id)

    def claim(
        self,
        run: PlannedRun,
        users: Mapping[str, str],
        environment: Environment,
        *,
        trial: bool = False,
    ) -> TrackedRun | bool:
        """Try to make a run this command's own; `trial` says that it may be pruned.

        Returns:
            True if it is now; False while another command trains it; the finished run, or the
            pruned trial, if another command has ended it in the meantime.
        """
        with self._locks.deciding:
            # Asked for last, because another command may finish the run between these questions.
            others = self._study.unfinished_runs(run.fingerprint)
            running = [other for other in others if other.status == "RUNNING"]
            trained = any(self._locks.alive(other) for other in running)
            finished = None if self._force else self._study.finished_run(run.fingerprint)
            if finished is not None:
                self._tracker.add_sweeps(finished, users)
                return finished
            if trained:
                return False
            pruned = self._study.pruned_runs(run.fingerprint) if trial else {}
            if ended := pruned.get((run.sweep, run.fingerprint)):
                return ended
            tags = records.training_tags(
                self._locks.owner,
                data_of(run.config.dataset, self._data_digest),
                **asdict(environment),
            )
            if self._force and (replaced := self._study.finished_run(run.fingerprint)):
                tags[records.RETRAINS] = replaced.run_id
            usable = [other for other in others if self._can_go_on(other, tags)][:1]
            active = self._begun(run, users, tags, usable, running)
            if active is None:
                return False
            self._active[run.fingerprint] = active
            for other in running:
                if other not in usable:
                    self._tracker.end_run(other.run_id, "KILLED", _UNEXPECTED_END)
            return True

    def owns(self, run: PlannedRun) -> bool:
        """Whether this command is training a run, now or in its next turn."""
        return run.fingerprint in self._active

    def trains_on(self, run: PlannedRun, environment: Environment) -> None:
        """Note with which processor a run continues, if it is another kind."""
        active = self._active[run.fingerprint]
        if environment.processor not in active.processors:
            active.processors.append(environment.processor)
            self._tracker.tag(active.run_id, records.PROCESSOR, ", ".join(active.processors))

    def is_finished(self, run: PlannedRun) -> bool:
        """Whether there is a result that this command may use."""
        return not self._force and self._study.finished_run(run.fingerprint) is not None

    def files(self, run: PlannedRun) -> tuple[Path, Path]:
        """The files for a run's checkpoint and for its trained network."""
        run_id = self._active[run.fingerprint].run_id
        return self._kept.checkpoint(run_id), self._kept.weights(run_id)

    def resume(self, run: PlannedRun, history: Sequence[EpochMetrics]) -> bool:
        """Write the epochs of a checkpoint that the store lacks; return whether this is news.

        Every epoch is there once, even if the run stopped between checkpoint and store.
        """
        for metrics in history:
            self.log_epoch(run, metrics)
        return not self._active[run.fingerprint].in_turns

    def pause(self, run: PlannedRun, *, lost: bool = False) -> None:
        """Remember that a run waits for its next turn, or (`lost`) for another worker."""
        self._active[run.fingerprint].in_turns = not lost

    def log_epoch(self, run: PlannedRun, metrics: EpochMetrics) -> None:
        """Write an epoch, unless the store has it."""
        active = self._active[run.fingerprint]
        if metrics.epoch not in active.logged:
            self._tracker.log_epoch(active.run_id, metrics)
            active.logged.add(metrics.epoch)

    def keep_network(self, run: PlannedRun) -> None:
        """Store a run's network; with a slow server, this may take longer than others wait."""
        run_id = self._active[run.fingerprint].run_id
        self._tracker.keep_network(run_id, self._kept.weights(run_id))

    def finish(self, run: PlannedRun, metrics: Mapping[str, float]) -> None:
        """Write a run's final metrics."""
        run_id = self._active[run.fingerprint].run_id
        self._tracker.finish_run(run_id, metrics)
        del self._active[run.fingerprint]
        self._kept.drop(run_id)
        # Broken attempts say nothing any more, and would stand beside it on MLflow's page.
        for other in self._study.unfinished_runs(run.fingerprint):
            if other.status == "KILLED":
                self._tracker.delete(other.run_id)
                self._kept.drop(other.run_id)

    def fail(self, run: PlannedRun, reason: str, *, hopeless: bool) -> None:
        """Mark a run FAILED; keep its checkpoint, unless the run would fail from there again."""
        run_id = self._active[run.fingerprint].run_id
        self._tracker.end_run(run_id, "FAILED", reason)
        del self._active[run.fingerprint]
        if hopeless:
            self._kept.drop(run_id)

    def prune(self, run: PlannedRun, epochs: int, reason: str) -> None:
        """End a trial that is not worth going on."""
        run_id = self._active[run.fingerprint].run_id
        self._tracker.prune_run(run_id, epochs, reason)
        del self._active[run.fingerprint]
        self._kept.drop(run_id)

    def beat(self) -> list[PlannedRun]:
        """Show other commands, every 20 seconds, that this one is working.

        Returns this command's runs that are another's by now (`taken_over`).
        """
        self._locks.listen()
        if time.monotonic() - self._beaten <= HEARTBEAT_SECONDS:
            return []
        self._beaten = time.monotonic()
        own_runs = self.sweeps.still_there()
        gone = [one.run for one in [*self._active.values()] if self.taken_over(one.run)]
        for run_id in (*own_runs, *(active.run_id for active in self._active.values())):
            try:
                self._tracker.beat(run_id)
            except TrackingError:  # the next epoch of a run that was deleted says so
                if not self._tracker.is_deleted(run_id):
                    raise
        return gone

    def taken_over(self, run: PlannedRun) -> bool:
        """Whether another command has taken a run of this one for dead; then it is given up.

        On a server that happens if this command could not say for a minute that it lives.
        """
        active = self._active[run.fingerprint]
        if self._study.local or self._tracker.holds(active.run_id, self._locks.owner):
            return False
        del self._active[run.fingerprint]
        return True

    def lost(self, run: PlannedRun) -> bool:
        """Whether this command's run was deleted in the store; then this command gives it up."""
        active = self._active.get(run.fingerprint)
        if active is None or not self._tracker.is_deleted(active.run_id):
            return False
        del self._active[run.fingerprint]
        self._kept.drop(active.run_id)
        return True

    def close(self, reason: str, *, store_failed: bool) -> None:
        """Mark runs KILLED that are still open, if the store answers, and release the lock."""
        with contextlib.suppress(TrackingError):
            # The store is asked, because a signal may have come while a run was being opened.
            for run in [] if store_failed else self._study.running():
                if run.owner == self._locks.owner:
                    self._tracker.end_run(run.run_id, "KILLED", reason)
        self._locks.close(unfinished=store_failed)

    def _begun(
        self,
        run: PlannedRun,
        users: Mapping[str, str],
        tags: dict[str, str],
        usable: Sequence[UnfinishedRun],
        dead: Sequence[UnfinishedRun],
    ) -> ActiveRun | None:
        """Start a run, or go on with a usable one; None if another machine was faster."""
        if self._study.local:  # the lock has decided
            if usable:
                return self._taken_up(run, usable[0], users, tags)
            run_id = self._tracker.start_run(
                run.short_name,
                sweeps=users,
                fingerprint=run.fingerprint,
                params=run.config.params(),
                tags=tags,
            )
            return ActiveRun(run, run_id, [tags[records.PROCESSOR]])
        own = self._contest.start(run, users, tags, dead)
        if own is None or not usable:
            return ActiveRun(run, own, [tags[records.PROCESSOR]]) if own else None
        # The run that has won was only for the contest. It ends after the other one runs again, so
        # that at any time one of them shows that the run is taken.
        active = self._taken_up(run, usable[0], users, tags)
        still = self._tracker.holds(own, self._locks.owner)
        self._contest.give_up(own if still else active.run_id)
        return active if still else None

    def _taken_up(
        self, run: PlannedRun, broken: UnfinishedRun, users: Mapping[str, str], tags: dict[str, str]
    ) -> ActiveRun:
        sweeps = ", ".join(dict.fromkeys([*broken.sweeps, *users]))
        own = {records.SWEEPS: sweeps, **records.sweep_tags(users)}
        logged = self._tracker.take_up(broken.run_id, {**tags, **own})
        return ActiveRun(run, broken.run_id, [tags[records.PROCESSOR]], logged)

    def _can_go_on(self, run: UnfinishedRun, tags: Mapping[str, str]) -> bool:
        """Whether its checkpoint is here, and continuing gives the numbers of an unbroken run."""
        same = all(
            run.tags.get(key) == tags[key]
            for key in (records.DEVICE, records.THREADS, records.TORCH)
        )
        return same and self._kept.checkpoint(run.run_id).exists()
