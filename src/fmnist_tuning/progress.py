"""What a person sees while a plan runs: bars on a terminal, plain lines elsewhere."""

import math
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fmnist_tuning.metrics import ACCURACY, EpochMetrics
from fmnist_tuning.running.events import (
    Abandoned,
    Blocked,
    Chosen,
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
from fmnist_tuning.sweeps.runs import PlannedRun
from fmnist_tuning.terminal import duration, escape, facts, percent


class RunDisplay(AbstractContextManager["RunDisplay"]):
    """Follows a running plan: bars on a terminal, a plain line an epoch elsewhere.

    Args:
        out: Where to draw.
    """

    def __init__(self, out: Console) -> None:
        self._out = out
        self._bars = (
            Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[figures]}"),
                console=out,
                transient=True,
            )
            if out.is_terminal and not out.quiet
            else None
        )
        self._plan_bar: TaskID | None = None
        self._run_bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bars:
            self._bars.stop()

    def show(self, event: Event) -> None:
        """Say what has happened."""
        match event:
            case Ready():
                self._show_ready(event)
            case Started(run):
                self._show_started(run)
            case Resumed() | Restarted() | Waiting() | Abandoned():
                self._show_recovery(event)
            case EpochEnded(run, metrics):
                self._show_epoch(run, metrics)
            case Finished(run) | Failed(run):
                self._show_end(event, run)
            case Reused(run, metrics):
                accuracy = percent(metrics[ACCURACY])
                self._line(f"{_title(run)}: reused, val accuracy {accuracy}", style="dim")
            case Chosen(sweep):
                self._line(f"{sweep.id}: chosen by the sweeps it combines:")
                for arm in sweep.arms:
                    predicted = percent(arm.predicted or math.nan)
                    self._line(f"  {arm.label}: predicted val accuracy {predicted}")
            case Blocked(sweep, reason):
                self._line(f"{sweep.id}: not run: {reason}", style="red")

    def _show_ready(self, event: Ready) -> None:
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
        if self._bars:
            if self._plan_bar is not None:
                self._bars.remove_task(self._plan_bar)
            epochs = sum(run.config.epochs for run in event.trainings)
            self._plan_bar = self._bars.add_task("plan", total=epochs, unit="epochs", figures="")

    def _show_started(self, run: PlannedRun) -> None:
        if self._bars:
            self._run_bars[run.fingerprint] = self._bars.add_task(
                escape(_title(run)), total=run.config.epochs, unit="epochs", figures=""
            )
        else:
            self._line(f"{_title(run)}: started")

    def _show_recovery(self, event: Resumed | Restarted | Waiting | Abandoned) -> None:
        match event:
            case Resumed(run):
                self._line(f"{_title(run)}: goes on after epoch {event.epochs}/{run.config.epochs}")
                if self._bars and self._plan_bar is not None:
                    self._bars.advance(self._run_bars[run.fingerprint], event.epochs)
                    self._bars.advance(self._plan_bar, event.epochs)
            case Restarted(run, reason):
                self._line(f"{_title(run)}: starts over: {reason}", style="yellow")
                if self._bars and self._plan_bar is not None:
                    bar = self._run_bars[run.fingerprint]
                    behind = next(task.completed for task in self._bars.tasks if task.id == bar)
                    self._bars.update(bar, completed=0)
                    self._bars.advance(self._plan_bar, -behind)
            case Waiting(run):
                self._line(f"{_title(run)}: another command trains it; waiting for its result")
            case Abandoned(name):
                self._line(f"{name}: nobody was at work on it any more; marked KILLED")

    def _show_epoch(self, run: PlannedRun, metrics: EpochMetrics) -> None:
        figures = (
            f"train loss {metrics.train_loss:.4f} acc {percent(metrics.train_accuracy)}, "
            f"val loss {metrics.val_loss:.4f} acc {percent(metrics.val_accuracy)}"
        )
        if self._bars and self._plan_bar is not None:
            self._bars.update(self._run_bars[run.fingerprint], advance=1, figures=figures)
            self._bars.advance(self._plan_bar)
        else:
            epoch = f"epoch {metrics.epoch}/{run.config.epochs}"
            took = duration(metrics.epoch_seconds)
            self._line(f"{_title(run)}: {epoch}: {figures}, {took}")

    def _show_end(self, event: Finished | Failed, run: PlannedRun) -> None:
        bar = self._run_bars.pop(run.fingerprint, None)
        if self._bars and bar is not None:
            self._bars.remove_task(bar)
        if isinstance(event, Failed):
            self._line(f"{_title(run)}: FAILED: {event.reason}", style="red")
        else:
            accuracy = percent(event.metrics[ACCURACY])
            took = duration(event.metrics["train_seconds"])
            self._line(f"{_title(run)}: finished, val accuracy {accuracy}, {took}")

    def _line(self, text: str, style: str = "") -> None:
        self._out.print(escape(text), style=style, soft_wrap=True)


def _title(run: PlannedRun) -> str:
    return f"{run.sweep} {run.name}"
