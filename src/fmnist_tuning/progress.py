"""What a person sees while a plan runs: progress bars on a terminal, plain lines elsewhere."""

import math
from collections.abc import Generator
from contextlib import AbstractContextManager, closing
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fmnist_tuning.metrics import ACCURACY, EpochMetrics
from fmnist_tuning.running import events
from fmnist_tuning.sweeps.plan import Plan
from fmnist_tuning.sweeps.runs import PlannedRun
from fmnist_tuning.terminal import duration, escape, facts, percent

_PLAN: Final = "plan"


def follow(
    out: Console, plan: Plan, happening: Generator[events.Event, None, None]
) -> events.PlanResults:
    """Show what happens until the plan has ended, and close the generator however it ends."""
    results = events.PlanResults(plan.sweeps)
    with closing(happening), RunDisplay(out) as display:
        for event in happening:
            results.add(event)
            display.show(event)
    return results


class RunDisplay(AbstractContextManager["RunDisplay"]):
    """Shows a running plan: progress bars on a terminal, a plain line for each epoch elsewhere."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f} epochs"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[figures]}"),
            console=out,
            transient=True,
            disable=out.quiet or not out.is_terminal,
        )
        self._bars: dict[str, TaskID] = {}  # the plan's, and each run's by its fingerprint

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, event: events.Event) -> None:
        """Show what has happened."""
        match event:
            case events.Ready():
                self._show_ready(event)
            case events.Started(run):
                self._show_started(run)
            case events.EpochEnded(run, metrics):
                self._show_epoch(run, metrics)
            case events.Finished(run) | events.Failed(run):
                self._show_end(event, run)
            case events.Reused(run, metrics):
                accuracy = percent(metrics[ACCURACY])
                self._line(f"{_title(run)}: reused, val accuracy {accuracy}", style="dim")
            case events.Chosen(sweep):
                self._line(f"{sweep.id}: chosen by the sweeps that it combines:")
                for arm in sweep.arms:
                    predicted = percent(arm.predicted or math.nan)
                    self._line(f"  {arm.label}: predicted val accuracy {predicted}")
            case events.Blocked(sweep, reason):
                self._line(f"{sweep.id}: not run: {reason}", style="red")
            case events.Resumed() | events.Restarted() | events.Waiting() | events.Abandoned():
                self._show_recovery(event)

    def _show_ready(self, event: events.Ready) -> None:
        env, count = event.environment, len(event.trainings)
        workers = "1 worker" if event.workers == 1 else f"{event.workers} workers"
        threads = "1 thread" if env.threads == 1 else f"{env.threads} threads"
        each = f", {threads} each" if env.device == "cpu" else ""
        facts(
            self._out,
            {
                "device": f"{env.device} ({env.processor}), {workers}{each}, torch {env.torch}",
                "train": "1 run" if count == 1 else f"{count} runs",
            },
        )
        self._remove_bar(_PLAN)
        self._add_bar(_PLAN, "plan", sum(run.config.epochs for run in event.trainings))

    def _show_started(self, run: PlannedRun) -> None:
        self._add_bar(run.fingerprint, escape(_title(run)), run.config.epochs)
        if self._progress.disable:
            self._line(f"{_title(run)}: started")

    def _show_recovery(
        self, event: events.Resumed | events.Restarted | events.Waiting | events.Abandoned
    ) -> None:
        match event:
            case events.Resumed(run):
                done = f"{event.epochs}/{run.config.epochs}"
                self._line(f"{_title(run)}: continues after epoch {done}")
                self._progress.advance(self._bars[run.fingerprint], event.epochs)
                self._progress.advance(self._bars[_PLAN], event.epochs)
            case events.Restarted(run, reason):
                self._line(f"{_title(run)}: starts over: {reason}", style="yellow")
                bar = self._bars[run.fingerprint]
                behind = next(task.completed for task in self._progress.tasks if task.id == bar)
                self._progress.update(bar, completed=0)
                self._progress.advance(self._bars[_PLAN], -behind)
            case events.Waiting(run):
                self._line(f"{_title(run)}: another command trains it; waiting for its result")
            case events.Abandoned(name):
                self._line(f"{name}: no command is working on it any more; marked KILLED")

    def _show_epoch(self, run: PlannedRun, metrics: EpochMetrics) -> None:
        figures = (
            f"train loss {metrics.train_loss:.4f} acc {percent(metrics.train_accuracy)}, "
            f"val loss {metrics.val_loss:.4f} acc {percent(metrics.val_accuracy)}"
        )
        self._progress.update(self._bars[run.fingerprint], advance=1, figures=figures)
        self._progress.advance(self._bars[_PLAN])
        if self._progress.disable:
            epoch = f"epoch {metrics.epoch}/{run.config.epochs}"
            took = duration(metrics.epoch_seconds)
            self._line(f"{_title(run)}: {epoch}: {figures}, {took}")

    def _show_end(self, event: events.Finished | events.Failed, run: PlannedRun) -> None:
        self._remove_bar(run.fingerprint)
        if isinstance(event, events.Failed):
            self._line(f"{_title(run)}: FAILED: {event.reason}", style="red")
        else:
            accuracy = percent(event.metrics[ACCURACY])
            took = duration(event.metrics["train_seconds"])
            self._line(f"{_title(run)}: finished, val accuracy {accuracy}, {took}")

    def _add_bar(self, key: str, title: str, epochs: int) -> None:
        self._bars[key] = self._progress.add_task(title, total=epochs, figures="")

    def _remove_bar(self, key: str) -> None:
        if key in self._bars:
            self._progress.remove_task(self._bars.pop(key))

    def _line(self, text: str, style: str = "") -> None:
        self._out.print(escape(text), style=style, soft_wrap=True)


def _title(run: PlannedRun) -> str:
    return f"{run.sweep} {run.name}"
