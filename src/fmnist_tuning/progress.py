"""What a person sees while a plan runs: progress bars on a terminal, plain lines elsewhere."""

from collections import Counter
from collections.abc import Collection, Generator, Iterator
from contextlib import AbstractContextManager, closing
from typing import Final, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from fmnist_tuning.metrics import ACCURACY, EpochMetrics
from fmnist_tuning.running import events
from fmnist_tuning.running.pace import Pace
from fmnist_tuning.sweeps.plan import Plan
from fmnist_tuning.sweeps.runs import PlannedRun
from fmnist_tuning.sweeps.sweep import Sweep
from fmnist_tuning.terminal import choices_of, duration, escape, facts, percent
from fmnist_tuning.text import counted

_PLAN: Final = "plan"
_LISTED: Final = 5  # reused runs of a sweep that are shown one by one


def follow(
    out: Console,
    plan: Plan,
    happening: Generator[events.Event, None, None],
    known: Collection[str] = (),
) -> events.PlanResults:
    """Show what happens until the plan has ended, and close the generator however it ends.

    `known` are fingerprints of runs that the reader has seen: that they are reused is no news.
    """
    results = events.PlanResults(plan.sweeps)
    with closing(happening), RunDisplay(out, plan) as display:
        for event in happening:
            results.add(event)
            if not (isinstance(event, events.Reused) and event.run.fingerprint in known):
                display.show(event)
    return results


class _Bars(Progress):
    """Bars in a table, and below it what each run measured last, where it has room."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """What is drawn."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if task.fields["figures"]:
                yield Text(f"{task.fields['name']}: {task.fields['figures']}")


class RunDisplay(AbstractContextManager["RunDisplay"]):
    """Shows a running plan: progress bars on a terminal, a plain line for each epoch elsewhere."""

    def __init__(self, out: Console, plan: Plan) -> None:
        self._out = out
        self._pace = Pace(plan)
        self._searches = {sweep.id: sweep for sweep in plan.searches}
        self._planned = {row.run.fingerprint for row in plan.rows}
        self._workers = 1
        self.progress = _Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.completed:.0f}/{task.total:.0f} epochs"),
            TextColumn("{task.fields[left]}"),
            console=out,
            transient=True,
            # A terminal that cannot move its cursor gets lines.
            disable=out.quiet or not out.is_terminal or out.is_dumb_terminal,
        )
        self._reused: list[events.Reused] = []  # not shown yet
        self._awaited: set[str] = set()  # runs of the plan that no command of ours has begun
        self._bars: dict[str, TaskID] = {}  # the plan's, and each run's by its fingerprint

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._show_reused()
        finally:
            self.progress.stop()

    def show(self, event: events.Event) -> None:
        """Show what has happened."""
        if isinstance(event, events.Reused):
            self._add_reused(event)
            return
        self._show_reused()
        match event:
            case events.Ready():
                self._show_ready(event)
            case events.Started(run):
                self._show_started(run)
            case events.EpochEnded(run, metrics):
                self._show_epoch(run, metrics)
            case events.Finished(run) | events.Failed(run) | events.Pruned(run):
                self._show_end(event, run)
            case events.Chosen(sweep):
                self._show_chosen(sweep)
            case events.Proposed(run):
                self._pace.propose(run)
                self._awaited.add(run.fingerprint)
            case events.Searched(sweep, exhausted):
                over = "; its space has no further one" if exhausted else ""
                of = f" of {sweep.to_come + len(sweep.arms)}" if sweep.to_come else ""
                self._line(f"{sweep.id}: {counted(len(sweep.arms), 'trial')}{of}{over}")
            case events.Blocked(sweep, reason):
                self._line(f"{sweep.id}: not run: {reason}", style="red")
            case _:
                self._show_recovery(event)

    def _show_ready(self, event: events.Ready) -> None:
        env, count = event.environment, len(event.trainings)
        workers = counted(event.workers, "worker")
        each = f", {counted(env.threads, 'thread')} each" if env.device == "cpu" else ""
        search = self._searches.get(event.trainings[0].sweep)
        what = counted(count, "run")
        if search and search.search:
            what = f"{search.search.trials} trials of {search.id}, by {search.search.sampler}"
        facts(
            self._out,
            {
                "device": f"{env.device} ({env.processor}), {workers}{each}, torch {env.torch}",
                "train": what,
            },
        )
        self._workers = event.workers
        self._pace.begin(event.trainings)
        self._awaited |= {run.fingerprint for run in event.trainings}
        epochs = sum(run.config.epochs for run in event.trainings)
        if search:  # of the trials that are proposed later; the first of them are here already
            new = [run for run in event.trainings if run.fingerprint not in self._planned]
            epochs += (search.to_come - len(new)) * event.trainings[0].config.epochs
        if _PLAN in self._bars:  # a search or a combination follows
            self.progress.update(self._bars[_PLAN], total=self._done(_PLAN) + epochs)
        else:
            self._add_bar(_PLAN, "plan", "plan", epochs)
        self._show_left()

    def _show_chosen(self, sweep: Sweep) -> None:
        by = "its search" if sweep.are_finalists else "the sweeps that it combines"
        self._line(f"{sweep.id}: chosen by {by}:")
        for line in choices_of(sweep):
            self._line(f"  {line}")

    def _show_started(self, run: PlannedRun) -> None:
        self._awaited.discard(run.fingerprint)
        name = run.short_name
        self._add_bar(run.fingerprint, escape(name), name, run.config.epochs)
        if self.progress.disable:
            self._line(f"{_title(run)}: started")

    def _show_recovery(self, event: events.Event) -> None:
        match event:
            case events.Resumed(run):
                done = f"{event.epochs}/{run.config.epochs}"
                self._line(f"{_title(run)}: continues after epoch {done}")
                self.progress.advance(self._bars[run.fingerprint], event.epochs)
                self.progress.advance(self._bars[_PLAN], event.epochs)
                self._pace.advance(run, event.epochs)
            case events.Restarted(run, reason):
                self._line(f"{_title(run)}: starts over: {reason}", style="yellow")
                self._take_back(run)
            case events.Waiting(run):
                if run.fingerprint in self._bars:  # it was trained here until another took it over
                    self.progress.advance(self._bars[_PLAN], -self._done(run.fingerprint))
                    self._remove_bar(run.fingerprint)
                    self._pace.restart(run)
                    self._awaited.add(run.fingerprint)
                self._line(f"{_title(run)}: another command trains it; waiting for its result")
            case events.Abandoned(name):
                self._line(f"{name}: no command is working on it any more; marked KILLED")
            case events.Lost(run, reason):
                self._line(f"{_title(run)}: {reason}; another worker continues it", style="yellow")
                self._take_back(run)
            case events.Joined(node, processor, workers, total):
                self._line(f"node {node}: {counted(workers, 'worker')} ({processor})")
                self._workers = total
            case events.Refused(node, reason):
                self._line(f"node {node} is not used: {reason}", style="yellow")

    def _take_back(self, run: PlannedRun) -> None:
        """Count the epochs of a run as not done, until it says from where it continues."""
        self.progress.advance(self._bars[_PLAN], -self._done(run.fingerprint))
        self.progress.update(self._bars[run.fingerprint], completed=0)
        self._pace.restart(run)

    def _show_epoch(self, run: PlannedRun, metrics: EpochMetrics) -> None:
        figures = (
            f"train loss {metrics.train_loss:.4f} acc {percent(metrics.train_accuracy)}, "
            f"val loss {metrics.val_loss:.4f} acc {percent(metrics.val_accuracy)}"
        )
        self.progress.update(self._bars[run.fingerprint], advance=1, figures=figures)
        self.progress.advance(self._bars[_PLAN])
        self._pace.advance(run, 1, metrics.epoch_seconds)
        self._show_left()
        if self.progress.disable:
            epoch = f"epoch {metrics.epoch}/{run.config.epochs}"
            took = duration(metrics.epoch_seconds)
            self._line(f"{_title(run)}: {epoch}: {figures}, {took}")

    def _show_end(
        self, event: events.Finished | events.Failed | events.Pruned, run: PlannedRun
    ) -> None:
        done = self._done(run.fingerprint) if run.fingerprint in self._bars else 0.0
        self._remove_bar(run.fingerprint)
        self._pace.end(run)
        if isinstance(event, events.Failed):
            self._line(f"{_title(run)}: FAILED: {event.reason}", style="red")
        elif isinstance(event, events.Pruned):  # what it is spared counts as done
            self.progress.advance(self._bars[_PLAN], run.config.epochs - done)
            self._line(f"{_title(run)}: {event.reason}", style="dim")
        else:
            accuracy = percent(event.metrics[ACCURACY])
            took = duration(event.metrics["train_seconds"])
            epochs = int(event.metrics.get("trained_epochs", run.config.epochs))
            early = f" early, after epoch {epochs}" if epochs < run.config.epochs else ""
            if early:  # the epochs that it does without count as done
                self.progress.advance(self._bars[_PLAN], run.config.epochs - done)
            self._line(f"{_title(run)}: finished{early}, val accuracy {accuracy}, {took}")

    def _add_reused(self, event: events.Reused) -> None:
        self._reused.append(event)
        self._count_as_done(event.run)
        if _PLAN in self._bars:  # trainings have begun, so the next event may take long
            self._show_reused()

    def _show_reused(self) -> None:
        """A line for each run that was reused since, or for each sweep of many."""
        many = Counter(event.run.sweep for event in self._reused)
        for event in self._reused:
            if many[event.run.sweep] <= _LISTED:
                accuracy = percent(event.metrics[ACCURACY])
                self._line(f"{_title(event.run)}: reused, val accuracy {accuracy}", style="dim")
        for sweep, count in many.items():
            if count > _LISTED:
                self._line(f"{sweep}: {counted(count, 'run')} reused", style="dim")
        self._reused.clear()

    def _count_as_done(self, run: PlannedRun) -> None:
        """A run of this plan that another command has finished; others are reused from before."""
        if run.fingerprint in self._awaited:
            self._awaited.discard(run.fingerprint)
            self.progress.advance(self._bars[_PLAN], run.config.epochs)
            self._pace.end(run)
            self._show_left()

    def _add_bar(self, key: str, title: str, name: str, epochs: int) -> None:
        self._bars[key] = self.progress.add_task(
            title, total=epochs, figures="", left="", name=name
        )

    def _done(self, key: str) -> float:
        tasks = {task.id: task.completed for task in self.progress.tasks}
        return tasks[self._bars[key]]

    def _show_left(self) -> None:
        seconds = self._pace.seconds_left(self._workers)
        if seconds is not None:
            self.progress.update(self._bars[_PLAN], left=f"{duration(seconds)} left")

    def _remove_bar(self, key: str) -> None:
        if key in self._bars:
            self.progress.remove_task(self._bars.pop(key))

    def _line(self, text: str, style: str = "") -> None:
        self._out.print(escape(text), style=style, soft_wrap=True)


def _title(run: PlannedRun) -> str:
    return f"{run.sweep} {run.name}"
