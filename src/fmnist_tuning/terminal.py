"""What a person sees: progress on stderr, tables on stdout."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape as without_markup
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from fmnist_tuning.analysis import Summary, SweepFrames, judge_claims, standings, summary
from fmnist_tuning.execution import (
    Abandoned,
    Blocked,
    Decided,
    EpochEnded,
    Event,
    Failed,
    Finished,
    Preview,
    Ready,
    Restarted,
    Results,
    Resumed,
    Reused,
    Started,
    Waiting,
)
from fmnist_tuning.metrics import METRICS, Metric
from fmnist_tuning.planning import PlannedRun
from fmnist_tuning.printable import printable
from fmnist_tuning.records import EpochMetrics
from fmnist_tuning.tracking import ALIAS, MODEL_NAME
from fmnist_tuning.wording import outcome

if TYPE_CHECKING:
    from fmnist_tuning.champion import Evaluation, Finalist
    from fmnist_tuning.prediction import Answer

_WIDTH_OFF_TERMINAL = 120
_MINUTE = 60
_HOUR = 3600


def escape(text: str) -> str:
    """A text from outside as rich may print it: no markup, and nothing that a terminal obeys."""
    return without_markup(printable(text))


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console on stdout or stderr, wide enough for our tables where nobody set a width."""
    made = Console(stderr=stderr, quiet=quiet, highlight=False, soft_wrap=False)
    if not made.is_terminal:
        made.width = _WIDTH_OFF_TERMINAL
    return made


def facts(out: Console, lines: Mapping[str, str]) -> None:
    """Print labelled lines, one a fact, never broken."""
    for label, text in lines.items():
        out.print(f"[bold]{label:<7}[/bold] {escape(text)}", soft_wrap=True)


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
                accuracy = _percent(metrics["final_val_accuracy"])
                self._line(f"{_title(run)}: reused, val accuracy {accuracy}", style="dim")
            case Decided(sweep):
                self._line(f"{sweep.sweep}: chosen by the sweeps it combines:")
                for arm in sweep.expanded():
                    predicted = _percent(arm.predicted or math.nan)
                    self._line(f"  {arm.label}: predicted val accuracy {predicted}")
            case Blocked(sweep, reason):
                self._line(f"{sweep.sweep}: not run: {reason}", style="red")

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
            case Resumed(run, epochs):
                self._line(f"{_title(run)}: goes on after epoch {epochs}/{run.config.epochs}")
                if self._bars and self._plan_bar is not None:
                    self._bars.advance(self._run_bars[run.fingerprint], epochs)
                    self._bars.advance(self._plan_bar, epochs)
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
            f"train loss {metrics.train_loss:.4f} acc {_percent(metrics.train_accuracy)}, "
            f"val loss {metrics.val_loss:.4f} acc {_percent(metrics.val_accuracy)}"
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
            accuracy = _percent(event.metrics["final_val_accuracy"])
            took = duration(event.metrics["train_seconds"])
            self._line(f"{_title(run)}: finished, val accuracy {accuracy}, {took}")

    def _line(self, text: str, style: str = "") -> None:
        self._out.print(escape(text), style=style, soft_wrap=True)


def print_plan(out: Console, plan: Preview) -> None:
    """Print every run of a plan in order, and what they add up to."""
    table = _table("#", "sweep", "arm", "seed", "params", "", "about", right=(0, 3, 4, 6))
    for number, row in enumerate(plan.rows, 1):
        what = {"train": "train", "reuse": "reuse", "share": "same as"}[row.action]
        table.add_row(
            str(number),
            row.run.sweep,
            escape(row.run.arm.label),
            str(row.run.config.seed),
            f"{row.params:,}",
            escape(f"{what} {row.source}" if row.source else what),
            duration(row.seconds) if row.seconds else "",
        )
    number = len(plan.rows)
    for sweep in plan.undecided:
        for place in range(sweep.combine.top if sweep.combine else 0):
            for seed in sweep.seeds:
                number += 1
                arm = f"number {place + 1} by prediction"
                what = "decided once the others have ended"
                table.add_row(str(number), sweep.sweep, arm, str(seed), "", what)
    out.print(table)
    for sweep in plan.decided:
        for choice in sweep.expanded():
            predicted = _percent(choice.predicted or math.nan)
            line = f"{sweep.sweep} {choice.label}: predicted val accuracy {predicted}"
            out.print(escape(line), soft_wrap=True)
    out.print(escape(_totals(plan)), soft_wrap=True)


def _totals(plan: Preview) -> str:
    runs = len(plan.rows) + plan.undecided_runs
    trainings = len(plan.trainings) + plan.undecided_runs
    counts = {
        kind: sum(row.action == action for row in plan.rows)
        for kind, action in (("reused from the study", "reuse"), ("shared", "share"))
    }
    parts = [f"{count} {kind}" for kind, count in counts.items() if count]
    text = f"{runs} runs make {trainings} trainings" + (f" ({', '.join(parts)})" if parts else "")
    if plan.seconds:
        beside = f", and {plan.undecided_runs} more to be decided" if plan.undecided else ""
        text += f"; about {duration(plan.seconds)} with {plan.workers} at a time{beside}"
    elif trainings:
        text += "; no earlier run tells how long they take"
    return text


def print_results(out: Console, results: Results) -> None:
    """Print a table for each sweep of a plan."""
    frames = {sweep.sweep.sweep: sweep.frames() for sweep in results.sweeps}
    for sweep in results.sweeps:
        if sweep.blocked:
            out.print(escape(f"{sweep.sweep.sweep}: not run: {sweep.blocked}"), soft_wrap=True)
            continue
        out.print(arms_table(frames[sweep.sweep.sweep], frames))
        for run, reason in sweep.failed:
            out.print(escape(f"{run.name}: FAILED: {reason}"), style="red", soft_wrap=True)


_COLUMNS: Final = {
    "train acc %": "final_train_accuracy",
    "val acc %": "final_val_accuracy",
    "train loss": "final_train_loss",
    "val loss": "final_val_loss",
    "gap, points": "overfitting_gap",
}


def arms_table(frames: SweepFrames, others: Mapping[str, SweepFrames] | None = None) -> Table:
    """A row an arm: the mean over its n seeds, and ± the standard deviation where n > 1.

    The best validation accuracy is marked with a star, and what the data cannot tell from it with
    a tilde.
    """
    table = _table("", "arm", "n", *_COLUMNS, "params", "time", right=range(2, 10))
    table.title = escape(f"{frames.config.sweep}: {frames.config.title}")
    table.title_justify = "left"
    places = standings(frames, "final_val_accuracy", others)
    for arm in frames.arms:
        place = places[arm.label]
        summaries = {name: summary(frames, arm, name) for name in _COLUMNS.values()}
        table.add_row(
            "*" if place.best else "~" if place.tied else "",
            escape(arm.label),
            str(summaries["final_val_accuracy"].seeds),
            *(_spread(METRICS[name], found) for name, found in summaries.items()),
            METRICS["total_params"].format(summary(frames, arm, "total_params").mean),
            duration(summary(frames, arm, "train_seconds").mean),
        )
    return table


def print_study(
    out: Console, sweeps: Mapping[str, SweepFrames], every: Mapping[str, SweepFrames]
) -> None:
    """Print each sweep's table, and the verdicts on its claims.

    Args:
        out: Where.
        sweeps: Those to print, by id.
        every: All of the study's, which claims may compare with.
    """
    for frames in sweeps.values():
        if frames.arms:
            out.print(arms_table(frames, every))
        for claim, verdict in judge_claims(frames, every):
            text = f"{claim.that}: {outcome(claim, verdict)}"
            out.print(Padding(escape(text), (0, 0, 0, 2)))
        if frames.missing:
            total = len(frames.missing) + len(frames.runs)
            text = f"{frames.config.sweep}: {len(frames.missing)} of {total} runs are not finished"
            out.print(escape(text), style="yellow")
        out.print()


def print_finalist(out: Console, finalist: "Finalist", evaluation: "Evaluation") -> None:
    """Print who it is, and whether its network still gives what its run logged."""
    role = "champion" if finalist.champion else "finalist"
    out.print(f"[bold]{role}[/bold] {escape(finalist.title)}", soft_wrap=True)
    if evaluation.accuracy is None:
        out.print("  its weights are not in this store: not scored, not drawn", style="yellow")
        return
    as_logged = (
        "as its run logged"
        if evaluation.accuracy == evaluation.logged
        else f"its run logged {_percent(evaluation.logged)}"
    )
    out.print(f"  {_percent(evaluation.accuracy)} scored again, {as_logged}")
    if evaluation.version is not None:
        out.print(f"  models:/{MODEL_NAME}@{ALIAS}, version {escape(evaluation.version)}")


def print_predictions(out: Console, answers: "Sequence[Answer]") -> None:
    """Print a row an image: the likeliest garment and the next, and what it is if that is known."""
    known = any(answer.truth for answer in answers)
    columns = ("image", "garment", "probability", "next", "", *(("truth",) if known else ()))
    table = _table(*columns, right=(2, 4))
    for answer in answers:
        (first, chance), (second, rest) = [*answer.probabilities.items()][:2]
        row = [escape(answer.image), first, _percent(chance), second, _percent(rest)]
        if known:
            missed = "" if answer.truth in (None, first) else " (missed)"
            row.append(f"{answer.truth or ''}{missed}")
        table.add_row(*row)
    out.print(table)


def duration(seconds: float) -> str:
    """`47 s`, `12 min`, `3 h 05 min`."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    minutes = round(seconds / _MINUTE)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _spread(metric: Metric, found: Summary) -> str:
    if math.isnan(found.deviation):
        return metric.number(found.mean)
    return f"{metric.number(found.mean)} ± {metric.number(found.deviation, found.mean)}"


def _table(*columns: str, right: Iterable[int]) -> Table:
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, title_style="bold"
    )
    for index, column in enumerate(columns):
        if index in tuple(right):
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    return table


def _title(run: PlannedRun) -> str:
    return f"{run.sweep} {run.name}"


def _percent(fraction: float) -> str:
    return f"{fraction * 100:.2f} %"
