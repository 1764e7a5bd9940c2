"""Running a plan: reuse what is finished, train the rest, write everything down as it comes."""

import contextlib
from collections.abc import Generator, Iterator, Sequence
from importlib.metadata import version

from fmnist_tuning.config import SweepConfig
from fmnist_tuning.data import DataFiles
from fmnist_tuning.errors import ConfigError, TrackingError
from fmnist_tuning.execution.combining import decide, find_sources, unfinished
from fmnist_tuning.execution.events import (
    Blocked,
    Decided,
    EpochEnded,
    Event,
    Failed,
    Finished,
    Ready,
    Reused,
    Started,
)
from fmnist_tuning.execution.workers import Taken, WorkerPool
from fmnist_tuning.planning import Plan, PlannedRun, longest_first, make_plan
from fmnist_tuning.records import EpochMetrics, RunOutcome
from fmnist_tuning.tracking import EndStatus, Study
from fmnist_tuning.worker import Device, Environment, Failure


def execute(
    sweeps: Sequence[SweepConfig],
    *,
    study: Study,
    files: DataFiles,
    device: Device = "auto",
    jobs: int | None = None,
    force: bool = False,
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

    Raises:
        ConfigError: When a combination alone asks for sweeps that are not finished.
        TrackingError: When the store fails.
    """
    execution = _Execution(study, files, device, jobs, force=force)
    # What cannot be decided is said before anything is trained.
    sources = {s.sweep: find_sources(s, sweeps, study) for s in sweeps if s.undecided}
    execution.check_decidable(sweeps, sources)
    try:
        concrete = [sweep for sweep in sweeps if not sweep.undecided]
        yield from execution.run(concrete)
        decided = {sweep.sweep: sweep for sweep in concrete}
        for sweep in sweeps:
            if sweep.undecided:
                current = [decided.get(s.sweep, s) for s in sources[sweep.sweep]]
                try:
                    chosen = decide(sweep, current, study.finished_runs(), files.digest)
                except ConfigError as error:
                    yield Blocked(sweep, "; ".join(error.problems))
                    continue
                yield Decided(chosen)
                decided[sweep.sweep] = chosen
                yield from execution.run([chosen])
    finally:
        execution.close()


class _Execution:
    """The open ends of a running plan: its workers, and what MLflow still holds as RUNNING."""

    def __init__(
        self, study: Study, files: DataFiles, device: Device, jobs: int | None, *, force: bool
    ) -> None:
        self._study = study
        self._files = files
        self._force = force
        self._pool = WorkerPool(files, device, jobs)
        self._open_runs: dict[str, str] = {}
        self._open_sweeps: dict[str, str] = {}

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
        for sweep in sweeps:
            self._open_sweeps[sweep.sweep] = self._study.begin_sweep(sweep, self._files.digest)
        yield from self._reuse(plan)
        for event in self._train(plan):
            if isinstance(event, Failed):
                failed |= {r.sweep for r in plan.runs if r.fingerprint == event.run.fingerprint}
            yield event
        for sweep in sweeps:
            status: EndStatus = "FAILED" if sweep.sweep in failed else "FINISHED"
            self._study.end_run(self._open_sweeps.pop(sweep.sweep), status)

    def close(self) -> None:
        """End the workers; what they were doing is KILLED."""
        self._pool.close()
        for run_id in (*self._open_runs.values(), *self._open_sweeps.values()):
            # The store may be what failed; then this fails too, and the first error is the news.
            with contextlib.suppress(TrackingError):
                self._study.end_run(run_id, "KILLED", "interrupted")

    def _reuse(self, plan: Plan) -> Iterator[Event]:
        self._finished = {} if self._force else self._study.finished_runs()
        users = _users(plan)
        for run in plan.runs:
            tracked = self._finished.get(run.fingerprint)
            if tracked is not None:
                self._study.add_sweeps(tracked, users[run.fingerprint])
                yield Reused(run, tracked.metrics)

    def _train(self, plan: Plan) -> Iterator[Event]:
        trainings = plan.trainings(self._finished)
        if not trainings:
            return
        environment = self._pool.start(len(trainings))
        if len(self._pool) > 1:
            trainings = longest_first(trainings)
        yield Ready(environment, len(self._pool), tuple(trainings))
        users = _users(plan)
        for run, message in self._pool.run(trainings):
            match message:
                case Taken():
                    self._open_runs[run.fingerprint] = self._study.start_run(
                        run.name,
                        sweeps=users[run.fingerprint],
                        fingerprint=run.fingerprint,
                        params=run.config.params(),
                        tags=self._tags(environment),
                    )
                    yield Started(run)
                case EpochMetrics():
                    self._study.log_epoch(self._open_runs[run.fingerprint], message)
                    yield EpochEnded(run, message)
                case RunOutcome():
                    run_id = self._open_runs[run.fingerprint]
                    self._study.finish_run(run_id, message)
                    del self._open_runs[run.fingerprint]
                    yield from self._shared(plan, run, message)
                case Failure(reason):
                    self._study.end_run(self._open_runs.pop(run.fingerprint), "FAILED", reason)
                    yield Failed(run, reason)

    def _shared(self, plan: Plan, run: PlannedRun, outcome: RunOutcome) -> Iterator[Event]:
        """The training's end, and the plan's other runs that it settles too."""
        yield Finished(run, outcome.metrics())
        for other in plan.runs:
            if other is not run and other.fingerprint == run.fingerprint:
                yield Reused(other, outcome.metrics())

    def _tags(self, environment: Environment) -> dict[str, str]:
        return {
            "fmnist.data": self._files.digest,
            "fmnist.device": environment.device,
            "fmnist.processor": environment.processor,
            "fmnist.threads": str(environment.threads),
            "fmnist.torch": environment.torch,
            "fmnist.python": environment.python,
            "fmnist.mlflow": version("mlflow"),
            "fmnist.version": version("fmnist-tuning"),
        }


def _users(plan: Plan) -> dict[str, list[str]]:
    """The sweeps that use each fingerprint, in the plan's order."""
    users: dict[str, list[str]] = {}
    for run in plan.runs:
        sweeps = users.setdefault(run.fingerprint, [])
        if run.sweep not in sweeps:
            sweeps.append(run.sweep)
    return users
