"""Running a plan: reuse what is finished, train the rest, write everything down as it comes."""

import contextlib
import shutil
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

from fmnist_tuning.config import SweepConfig
from fmnist_tuning.data import DataFiles
from fmnist_tuning.errors import ConfigError, TrackingError
from fmnist_tuning.execution.claims import HEARTBEAT_SECONDS, Claims
from fmnist_tuning.execution.combining import decide, find_sources, unfinished
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
from fmnist_tuning.execution.schedule import Schedule
from fmnist_tuning.execution.workers import WorkerPool
from fmnist_tuning.planning import Plan, PlannedRun, make_plan
from fmnist_tuning.records import EpochMetrics, RunOutcome
from fmnist_tuning.tracking import WEIGHTS, EndStatus, OpenRun, Study, TrackedRun
from fmnist_tuning.worker import Device, Failure, Message, Paused, Restored, SetAside, Task

_POLL_SECONDS: Final = 1.0


def execute(
    sweeps: Sequence[SweepConfig],
    *,
    study: Study,
    files: DataFiles,
    device: Device = "auto",
    jobs: int | None = None,
    force: bool = False,
    fail_fast: bool = False,
) -> Generator[Event, None, None]:
    """Run sweeps, combinations last, and yield what happens as it happens.

    Closing the iterator early ends the workers and marks what was running as KILLED.

    Args:
        sweeps: In the order in which they are to run.
        study: Where runs are looked up and written.
        files: The verified images.
        device: Where to train.
        jobs: How many runs at a time; None lets the device decide.
        force: Train what is finished already once more.
        fail_fast: Stop when the first run fails; what was running is KILLED.

    Raises:
        ConfigError: When a combination alone asks for sweeps that are not finished.
        TrackingError: When the store fails.
    """
    execution = _Execution(study, files, device, jobs, force=force, fail_fast=fail_fast)
    # What cannot be decided is said before anything is trained.
    sources = {s.sweep: find_sources(s, sweeps, study) for s in sweeps if s.undecided}
    execution.check_decidable(sweeps, sources)
    store_failed = False
    try:
        concrete = [sweep for sweep in sweeps if not sweep.undecided]
        yield from execution.run(concrete)
        decided = {sweep.sweep: sweep for sweep in concrete}
        for sweep in sweeps:
            if sweep.undecided and not execution.stopped:
                current = [decided.get(s.sweep, s) for s in sources[sweep.sweep]]
                try:
                    chosen = decide(sweep, current, study.finished_runs(), files.digest)
                except ConfigError as error:
                    yield Blocked(sweep, "; ".join(error.problems))
                    continue
                yield Decided(chosen)
                decided[sweep.sweep] = chosen
                yield from execution.run([chosen])
    except TrackingError as error:
        store_failed = True
        raise TrackingError(
            f"{error}; whole epochs are kept, and once the store answers the same command goes on "
            "from them"
        ) from error
    finally:
        execution.close(store_failed=store_failed)


class _Execution:
    """The open ends of a running plan: its workers, and what MLflow still holds as RUNNING."""

    def __init__(
        self,
        study: Study,
        files: DataFiles,
        device: Device,
        jobs: int | None,
        *,
        force: bool,
        fail_fast: bool,
    ) -> None:
        self._study = study
        self._files = files
        self._force = force
        self._fail_fast = fail_fast
        self.stopped = False
        self._pool = WorkerPool(files, device, jobs)
        self._claims = Claims(study.state_folder, local=study.local)
        self._open_runs: dict[str, _OpenRun] = {}
        self._open_sweeps: dict[str, str] = {}
        self._beaten = time.monotonic()

    def check_decidable(
        self, sweeps: Sequence[SweepConfig], sources: dict[str, list[SweepConfig]]
    ) -> None:
        """Refuse a combination of sweeps that are neither finished nor part of this plan."""
        planned = {sweep.sweep for sweep in sweeps}
        finished = self._study.finished_runs() if sources else {}
        problems = [
            line
            for sweep in sweeps
            if sweep.undecided
            for line in unfinished(
                sweep,
                [source for source in sources[sweep.sweep] if source.sweep not in planned],
                finished,
                self._files.digest,
            )
        ]
        if problems:
            raise ConfigError(problems)

    def run(self, sweeps: Sequence[SweepConfig]) -> Generator[Event, None, None]:
        """Run sweeps whose arms are all known."""
        plan = make_plan(sweeps, self._files.digest)
        failed: set[str] = set()
        yield from self._bury_the_dead(plan)
        for sweep in sweeps:
            self._open_sweeps[sweep.sweep] = self._study.begin_sweep(
                sweep, self._files.digest, self._claims.owner
            )
        yield from self._reuse(plan)
        for event in self._train(plan):
            if isinstance(event, Failed):
                failed |= {r.sweep for r in plan.runs if r.fingerprint == event.run.fingerprint}
            yield event
        for sweep in sweeps:
            status: EndStatus = "FAILED" if sweep.sweep in failed else "FINISHED"
            if status == "FAILED" or not self.stopped:
                self._study.end_run(self._open_sweeps.pop(sweep.sweep), status)

    def close(self, *, store_failed: bool) -> None:
        """End the workers; what they were doing is KILLED, if the store can still be told."""
        self._pool.close()
        reason = "stopped by --fail-fast" if self.stopped else "interrupted"
        with contextlib.suppress(TrackingError):
            # Asked for, not remembered: a signal may have come while a run was being opened.
            for run in [] if store_failed else self._study.running():
                if run.owner == self._claims.owner:
                    self._study.end_run(run.run_id, "KILLED", reason)
        self._claims.close(unfinished=store_failed)

    def _bury_the_dead(self, plan: Plan) -> Iterator[Event]:
        """Mark KILLED what nobody is at work on, but for what this plan takes up itself."""
        ours = {run.fingerprint for run in plan.runs}
        sweeps = {run.sweep for run in plan.runs}
        for run in self._study.running():
            own = run.fingerprint in ours if run.kind == "run" else run.name in sweeps
            if not own and not self._claims.alive(run):
                self._study.end_run(run.run_id, "KILLED", "its command ended without a word")
                yield Abandoned(run.name)

    def _reuse(self, plan: Plan) -> Iterator[Event]:
        self._finished = {} if self._force else self._study.finished_runs()
        users = _users(plan)
        for run in plan.runs:
            tracked = self._finished.get(run.fingerprint)
            if tracked is not None:
                self._study.add_sweeps(tracked, users[run.fingerprint])
                self._drop_checkpoint(tracked.run_id)
                yield Reused(run, tracked.metrics)

    def _train(self, plan: Plan) -> Iterator[Event]:
        trainings = plan.trainings(self._finished)
        if not trainings:
            return
        self._environment = self._pool.start(len(trainings))
        yield Ready(self._environment, len(self._pool), tuple(trainings))
        on_cpu = self._environment.device == "cpu"
        self._schedule = Schedule(trainings, len(self._pool), in_turns=on_cpu)
        while self._schedule or self._pool.busy:
            yield from self._hand_out(plan)
            for run, message in self._pool.messages(_POLL_SECONDS):
                yield from self._received(plan, run, message)
                if self._fail_fast and isinstance(message, Failure):
                    self.stopped = True
                    return
            self._beat()

    def _hand_out(self, plan: Plan) -> Iterator[Event]:
        """Give idle workers what nobody else trains."""
        users = _users(plan)
        for run in self._schedule.waiting():
            if not self._pool.idle:
                return
            if run.fingerprint in self._open_runs:  # its next turn
                self._give(run)
                continue
            claimed = self._claim(run, users[run.fingerprint])
            if claimed is None:
                if self._schedule.elsewhere(run):
                    yield Waiting(run)
                continue
            if isinstance(claimed, TrackedRun):
                self._schedule.settle(run)
                self._study.add_sweeps(claimed, users[run.fingerprint])
                yield from self._settled(plan, run, claimed.metrics)
            else:
                self._open_runs[run.fingerprint] = claimed
                self._give(run)
                yield Started(run)

    def _give(self, run: PlannedRun) -> None:
        run_id = self._open_runs[run.fingerprint].run_id
        epochs = self._schedule.take(run, at_work=len(self._pool) - self._pool.idle)
        task = Task(run.config, self._checkpoint(run_id), self._weights(run_id), epochs)
        self._pool.take(run, task)

    def _claim(self, run: PlannedRun, sweeps: Sequence[str]) -> "_OpenRun | TrackedRun | None":
        """Make a run this command's own; or its result, if another has finished it meanwhile.

        None where another command is at work on it.
        """
        with self._claims.deciding():
            finished = None if self._force else self._study.finished_run(run.fingerprint)
            if finished is not None:
                return finished
            others = self._study.open_runs(run.fingerprint)
            running = [other for other in others if other.status == "RUNNING"]
            if any(self._claims.alive(other) for other in running):
                return None
            tags = self._tags()
            usable = [other for other in others if self._can_go_on(other, tags)]
            for other in running:
                if other not in usable[:1]:
                    self._study.end_run(other.run_id, "KILLED", "its command ended without a word")
            if usable:
                users = dict.fromkeys([*usable[0].sweeps, *sweeps])
                tags["fmnist.sweeps"] = ", ".join(users)
                epochs = self._study.take_up(usable[0].run_id, tags)
                return _OpenRun(usable[0].run_id, epochs)
            run_id = self._study.start_run(
                run.name,
                sweeps=sweeps,
                fingerprint=run.fingerprint,
                params=run.config.params(),
                tags=tags,
            )
            return _OpenRun(run_id)

    def _can_go_on(self, run: OpenRun, tags: Mapping[str, str]) -> bool:
        """Whether its checkpoint is here, and going on would give the numbers of one training."""
        same = ("fmnist.device", "fmnist.threads", "fmnist.torch")
        return self._checkpoint(run.run_id).exists() and all(
            run.tags.get(key) == tags[key] for key in same
        )

    def _received(self, plan: Plan, run: PlannedRun, message: Message) -> Iterator[Event]:
        open_run = self._open_runs[run.fingerprint]
        match message:
            case Restored(history):
                for metrics in history:
                    self._log_epoch(open_run, metrics)
                self._schedule.trained(run, len(history))
                if not open_run.in_turns:
                    yield Resumed(run, len(history))
            case Paused():
                open_run.in_turns = True
                self._schedule.put_back(run)
            case SetAside(reason):
                yield Restarted(run, reason)
            case EpochMetrics():
                self._log_epoch(open_run, message)
                self._schedule.trained(run, message.epoch)
                yield EpochEnded(run, message)
            case RunOutcome():
                run_id = open_run.run_id
                self._study.finish_run(run_id, message, self._weights(run_id))
                del self._open_runs[run.fingerprint]
                self._drop_checkpoint(open_run.run_id)
                yield Finished(run, message.metrics())
                yield from self._settled(plan, run, message.metrics(), but_for=run)
            case Failure(reason, hopeless):
                self._study.end_run(open_run.run_id, "FAILED", reason)
                del self._open_runs[run.fingerprint]
                if hopeless:
                    self._drop_checkpoint(open_run.run_id)
                yield Failed(run, reason)

    def _log_epoch(self, open_run: "_OpenRun", metrics: EpochMetrics) -> None:
        # A run that was broken off between checkpoint and store, or the other way round, has
        # every epoch once.
        if metrics.epoch not in open_run.logged:
            self._study.log_epoch(open_run.run_id, metrics)
            open_run.logged.add(metrics.epoch)

    def _settled(
        self,
        plan: Plan,
        run: PlannedRun,
        metrics: Mapping[str, float],
        but_for: PlannedRun | None = None,
    ) -> Iterator[Event]:
        """The plan's runs that one result settles."""
        for other in plan.runs:
            if other is not but_for and other.fingerprint == run.fingerprint:
                yield Reused(other, metrics)

    def _beat(self) -> None:
        if time.monotonic() - self._beaten > HEARTBEAT_SECONDS:
            self._beaten = time.monotonic()
            for run_id in (
                *(open_run.run_id for open_run in self._open_runs.values()),
                *self._open_sweeps.values(),
            ):
                self._study.beat(run_id)

    def _checkpoint(self, run_id: str) -> Path:
        if not run_id.isalnum():
            raise TrackingError(
                f"{self._study.uri}: found the run id {run_id!r}, not one of MLflow"
            )
        return self._study.state_folder / f"{run_id}.pt"

    def _weights(self, run_id: str) -> Path:
        return self._checkpoint(run_id).with_suffix("") / WEIGHTS

    def _drop_checkpoint(self, run_id: str) -> None:
        path = self._checkpoint(run_id)
        shutil.rmtree(self._weights(run_id).parent, ignore_errors=True)
        for leftover in (path, *path.parent.glob(f".{path.name}.*")):  # halves that a kill left
            leftover.unlink(missing_ok=True)

    def _tags(self) -> dict[str, str]:
        environment = self._environment
        return {
            "fmnist.owner": self._claims.owner,
            "fmnist.data": self._files.digest,
            "fmnist.device": environment.device,
            "fmnist.processor": environment.processor,
            "fmnist.threads": str(environment.threads),
            "fmnist.torch": environment.torch,
            "fmnist.python": environment.python,
            "fmnist.mlflow": version("mlflow"),
            "fmnist.version": version("fmnist-tuning"),
        }


@dataclass(slots=True)
class _OpenRun:
    """A run that is being trained: MLflow's id, and the epochs that the store has.

    `in_turns` once this command has paused it: that it goes on is no news then.
    """

    run_id: str
    logged: set[int] = field(default_factory=set)
    in_turns: bool = False


def _users(plan: Plan) -> dict[str, list[str]]:
    """The sweeps that use each fingerprint, in the plan's order."""
    users: dict[str, list[str]] = {}
    for run in plan.runs:
        sweeps = users.setdefault(run.fingerprint, [])
        if run.sweep not in sweeps:
            sweeps.append(run.sweep)
    return users
