"""What happens next: a plan's runs are reused or trained, in the order that finishes earliest."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Final

from fmnist_tuning.errors import ConfigError, TrackingError
from fmnist_tuning.interruption import check, shielded
from fmnist_tuning.running import events
from fmnist_tuning.running.executor import Executor
from fmnist_tuning.running.ledger import Ledger
from fmnist_tuning.running.schedule import Schedule
from fmnist_tuning.running.trainer import Task
from fmnist_tuning.running.trials import Happened, Trials
from fmnist_tuning.store import records
from fmnist_tuning.store.records import TrackedRun
from fmnist_tuning.store.study import Study
from fmnist_tuning.sweeps.finished import FinishedRun
from fmnist_tuning.sweeps.plan import Plan, PlanRow, make_plan
from fmnist_tuning.sweeps.runs import PlannedRun
from fmnist_tuning.sweeps.sweep import Sweep

_POLL_SECONDS: Final = 1.0
_DELETED: Final = "its MLflow run was deleted while it was trained"


def execute(
    plan: Plan,
    study: Study,
    data_digest: str,
    executor: Executor,
    *,
    force: bool = False,
    fail_fast: bool = False,
) -> Generator[events.Event, None, None]:
    """Run a plan, combinations last, and yield what happens as it happens.

    `planning.plan_study` must have made the plan with the same study, images and `force`. If the
    first failure stops the plan (`fail_fast`), or the caller closes the iterator, the running
    trainings end as KILLED. The executor's idle workers stay, for the next plan.

    Raises:
        TrackingError: When the store fails.
        FmnistError: When the folder for locks cannot be written, or no worker can start.
    """
    store_failed = False
    engine = _Engine(study, data_digest, executor, force, fail_fast)
    try:
        yield from engine.run_plan(plan)
    except TrackingError as error:
        store_failed = True
        raise TrackingError(
            f"{error}; finished epochs are kept: when the store answers again, run the same "
            "command to continue"
        ) from error
    finally:
        engine.close(store_failed=store_failed)


class _Engine:
    def __init__(
        self, study: Study, digest: str, executor: Executor, force: bool, fail_fast: bool
    ) -> None:
        self._study, self._digest, self._executor = study, digest, executor
        self._force, self._fail_fast = force, fail_fast
        self._ledger = Ledger(study, digest, force=force)
        self._stopped = False

    def run_plan(self, plan: Plan) -> Iterator[events.Event]:
        """Run the single sweeps together, then each search, and then each combination."""
        known = {sweep.id: sweep for sweep in plan.sweeps}
        last = [sweep for sweep in plan.sweeps if sweep in plan.pending or sweep in plan.chosen]
        single = [s for s in plan.sweeps if s not in last and s not in plan.searches]
        yield from self._run(single, plan.rows)
        for sweep in plan.searches:
            if self._stopped:
                return
            trials = Trials(sweep, self._digest, self._executor.expected)
            yield from self._run([sweep], plan.rows, trials)
            known[sweep.id] = trials.as_searched()
            yield events.Searched(trials.sweep, trials.exhausted)
        for sweep in last:
            if self._stopped:
                return
            rows = plan.rows
            if sweep.pending and sweep.combine:
                sources = sweep.combine.sources
                try:
                    later = make_plan(
                        [sweep],
                        self._digest,
                        finished=self._study.with_late_means(self._study.finished_runs()),
                        stored=known | self._study.definitions(set(sources) - known.keys()),
                        pruned=self._study.pruned_runs() if sweep.are_finalists else {},
                        force=self._force,
                    )
                except ConfigError as error:
                    yield events.Blocked(sweep, "; ".join(error.problems))
                    continue
                known[sweep.id], rows = later.sweeps[0], later.rows
            yield events.Chosen(known[sweep.id])
            yield from self._run([known[sweep.id]], rows)

    def close(self, *, store_failed: bool) -> None:
        """End the trainings, and mark their runs KILLED if the store still answers."""
        with shielded():
            self._close(store_failed=store_failed)

    def _close(self, *, store_failed: bool) -> None:
        self._executor.stop()
        reason = "stopped by --fail-fast" if self._stopped else "interrupted"
        self._ledger.close(reason, store_failed=store_failed)

    def _run(
        self, sweeps: Sequence[Sweep], rows: Sequence[PlanRow], trials: Trials | None = None
    ) -> Iterator[events.Event]:
        """Run sweeps whose arms are known, or one search; rows of other sweeps are left out."""
        ids = {sweep.id for sweep in sweeps}
        rows = [row for row in rows if row.run.sweep in ids]
        yield from self._begin(sweeps, rows)
        if trials is not None:
            self._learn(trials, [(row.run, row.found) for row in rows if row.found])
            rows += self._proposed(trials)
        failed: set[str] = set()
        for event in self._train(rows, trials):
            if isinstance(event, events.Failed):
                failed |= {r.run.sweep for r in rows if r.run.fingerprint == event.run.fingerprint}
            yield event
        for sweep in sweeps:
            if sweep.id in failed:
                self._ledger.sweeps.end(sweep, "FAILED")
            elif not self._stopped:
                self._ledger.sweeps.end(sweep, "FINISHED")

    def _begin(self, sweeps: Sequence[Sweep], rows: Sequence[PlanRow]) -> Iterator[events.Event]:
        """Open the sweeps in the store, and give them the runs that are there."""
        for name in self._ledger.bury_the_dead(rows, sweeps):
            yield events.Abandoned(name)
        for sweep in sweeps:
            if not sweep.pending:  # a search without trials is opened with its first one
                self._ledger.sweeps.begin(sweep)
        for row in rows:
            if row.action == "reuse" and row.found is not None:
                self._ledger.share(row.found, row.users)
                yield events.Reused(row.run, row.found.metrics)

    def _train(self, rows: list[PlanRow], trials: Trials | None) -> Iterator[events.Event]:
        """Train what is open of some rows, to which a search adds its next trials."""
        # If several rows share a run, the first one trains it.
        open_rows = [row for row in rows if row.action in {"train", "share"}]
        trainings = {row.run.fingerprint: row for row in reversed(open_rows)}
        runs = [row.run for row in open_rows if trainings[row.run.fingerprint] is row]
        if not runs:
            return
        environment = self._executor.start(len(runs) + (trials.sweep.to_come if trials else 0))
        yield events.Ready(environment, min(len(self._executor), len(runs)), tuple(runs))
        workers = len(self._executor)
        schedule = Schedule(runs, workers, in_turns=environment.device == "cpu" and not trials)
        while schedule or self._executor.busy:
            yield from self._hand_out(schedule, trainings, rows, trials)
            for happened in self._executor.events(_POLL_SECONDS):
                event = trials.judged(happened) if trials else happened
                news = self._written(event, schedule)
                if news is None:
                    continue
                yield news
                if isinstance(news, events.Finished):
                    yield from _sharing(rows, news.run, news.metrics)
                if self._fail_fast and isinstance(news, events.Failed):
                    self._stopped = True
                    return
            for run in self._ledger.beat():
                yield self._left_to_another(run, schedule)
            for row in self._proposed(trials) if trials else ():
                rows.append(row)
                trainings[row.run.fingerprint] = row
                schedule.put_back(row.run)
                yield events.Proposed(row.run)
            check()

    def _learn(self, trials: Trials, found: Sequence[tuple[PlannedRun, FinishedRun]]) -> None:
        """Tell a search of trials that have ended before."""
        ids = [run.run_id for _, run in found]
        curves = self._study.curves(ids, [trials.search.curve])
        values = curves.groupby("run_id")["value"].apply(tuple).to_dict()
        for run, before in found:
            trials.learn(run, before.metrics, values.get(before.run_id, ()))

    def _proposed(self, trials: Trials) -> list[PlanRow]:
        """The trials of a search that may begin now, once the store has them."""
        rows = []
        while (proposed := trials.proposal()) is not None:
            for run in trials.adopt(self._ledger.sweeps.extend(proposed)):
                rows.append(PlanRow(run, "train", {run.sweep: run.arm.label}))
        return rows

    def _hand_out(
        self,
        schedule: Schedule,
        trainings: Mapping[str, PlanRow],
        rows: Sequence[PlanRow],
        trials: Trials | None,
    ) -> Iterator[events.Event]:
        """Give idle workers runs that nobody else trains."""
        schedule.workers = len(self._executor)
        for run in schedule.waiting():
            if not self._executor.idle:
                return
            if self._ledger.owns(run):  # its next turn
                self._give(schedule, run, trials)
                continue
            users = trainings[run.fingerprint].users
            environment = self._executor.next_environment
            claimed = self._ledger.claim(run, users, environment, trial=trials is not None)
            if isinstance(claimed, TrackedRun):
                schedule.settle(run)
                if trials:
                    self._learn(trials, [(run, claimed)])
                if records.has_result(claimed.metrics):
                    yield events.Reused(run, claimed.metrics)
                    yield from _sharing(rows, run, claimed.metrics)
            elif claimed:
                self._give(schedule, run, trials)
                yield events.Started(run)
            elif schedule.mark_elsewhere(run):
                yield events.Waiting(run)

    def _give(self, schedule: Schedule, run: PlannedRun, trials: Trials | None) -> None:
        epochs = schedule.take(run, at_work=len(self._executor) - self._executor.idle)
        epochs = trials.turn(run) if trials else epochs
        self._ledger.trains_on(run, self._executor.next_environment)
        self._executor.take(Task(run, *self._ledger.files(run), epochs))

    def _left_to_another(self, run: PlannedRun, schedule: Schedule) -> events.Waiting:
        """Stop training a run that another command has taken over."""
        self._executor.drop(run)
        schedule.put_back(run)
        schedule.mark_elsewhere(run)
        return events.Waiting(run)

    def _written(self, event: Happened | events.Pruned, schedule: Schedule) -> events.Event | None:
        """Record what has happened; return what is news."""
        if isinstance(event, events.Joined | events.Refused):
            return event
        try:
            if isinstance(event, events.Finished):
                self._ledger.keep_network(event.run)
                if self._ledger.taken_over(event.run):
                    return self._left_to_another(event.run, schedule)
            return event if self._recorded(event, schedule) else None
        except TrackingError:
            if not self._ledger.lost(event.run):
                raise
            if self._ledger.is_finished(event.run):  # by a machine that took it over
                return self._left_to_another(event.run, schedule)
            self._executor.drop(event.run)
            return events.Failed(event.run, _DELETED)

    def _recorded(
        self, event: events.TrainingEvent | events.Lost | events.Pruned, schedule: Schedule
    ) -> bool:
        """Record what has happened; return whether it is news."""
        match event:
            case events.Resumed(run, history):
                schedule.trained(run, len(history))
                return self._ledger.resume(run, history)
            case events.EpochEnded(run, metrics):
                self._ledger.log_epoch(run, metrics)
                schedule.trained(run, metrics.epoch)
            case events.Paused(run):
                self._ledger.pause(run)
                schedule.put_back(run)
                return False
            case events.Lost(run):
                self._ledger.pause(run, lost=True)
                schedule.put_back(run)
            case events.Finished(run, metrics):
                self._ledger.finish(run, metrics)
            case events.Pruned(run, epochs, reason):
                self._executor.drop(run)
                self._ledger.prune(run, epochs, reason)
            case events.Failed(run, reason, hopeless):
                self._ledger.fail(run, reason, hopeless=hopeless)
        return True


def _sharing(
    rows: Sequence[PlanRow], run: PlannedRun, metrics: Mapping[str, float]
) -> Iterator[events.Event]:
    """The plan's other runs that share this result."""
    for row in rows:
        if row.run.fingerprint == run.fingerprint and row.run != run:
            yield events.Reused(row.run, metrics)
